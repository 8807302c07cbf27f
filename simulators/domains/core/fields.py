"""Reads fields of records from external data."""

from __future__ import annotations

import ast
import html
from collections.abc import Iterable, Mapping
from typing import Any

from simulators.domains.core.files import SURROGATE


def python_literal(line: bytes) -> dict[Any, Any] | None:
    """The dict that a line writes as a Python literal, or None. Nothing in it is executed."""
    try:
        found = ast.literal_eval(line.decode())
    # What `ast` documents that malformed or deeply nested text may raise.
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def name_in(record: Mapping[Any, Any], key: str) -> str | None:
    """The id under `key`, or None if it is not text, empty, or cannot be written as UTF-8."""
    value = record.get(key)
    return value if isinstance(value, str) and value.strip() and _writable(value) else None


def text_in(record: Mapping[Any, Any], key: str) -> str:
    """The text under `key`, or an empty string, without HTML entities and superfluous spaces."""
    return _clean(record.get(key))


def cut(text: str, most: int) -> str:
    """At most `most` characters of `text`, ending with a whole word if possible."""
    if len(text) <= most:
        return text
    return text[: most + 1].rpartition(" ")[0].rstrip() or text[:most]


def texts_in(record: Mapping[Any, Any], key: str) -> tuple[str, ...]:
    """The same of a list, each once and in its order."""
    values = record.get(key)
    return distinct(values) if isinstance(values, list) else ()


def distinct(values: Iterable[Any]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text for value in values if (text := _clean(value))))


def price_in(record: Mapping[Any, Any]) -> float | None:
    """The price, if it is a number."""
    price = record.get("price")
    if isinstance(price, bool) or not isinstance(price, int | float):
        return None
    return float(price) if 0 <= price < 1e9 else None


def _clean(value: Any) -> str:
    if not isinstance(value, str) or not _writable(value):
        return ""
    return " ".join(html.unescape(value).split())


def _writable(text: str) -> bool:
    """Whether `text` is free of halves of a surrogate pair, which no file of results can hold."""
    return text.isascii() or not SURROGATE.search(text)
