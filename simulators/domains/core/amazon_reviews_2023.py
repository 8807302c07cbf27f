"""The official files of Amazon Reviews 2023 (Hou et al. 2024): what domains read alike."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from simulators.domains.core.fields import cut, name_in, text_in, texts_in
from simulators.domains.core.json_files import object_of

_LONGEST_DESCRIPTION = 800  # characters; descriptions are part of prompts, some have ten thousand
LONGEST_VALUE = 100
# The names of tags that reviews and descriptions contain: "I <3 it" and "x < y > z" are no tags.
_TAG = re.compile(
    r"<!--.{0,2000}?-->|</?(?:a|abbr|article|aside|b|big|blockquote|body|br|caption|center|cite|code|col"
    r"|colgroup|dd|del|div|dl|dt|em|figcaption|figure|font|footer|h[1-6]|head|header|hr|html|i|iframe"
    r"|img|input|ins|label|li|link|main|mark|meta|nav|nobr|ol|object|option|p|param|picture|pre|q|s"
    r"|section|select|small|source|span|strike|strong|sub|sup|svg|table|tbody|td|tfoot|th|thead|title"
    r"|tr|tt|u|ul|var|video|wbr)(?:\s[^<>]*)?/?>",
    re.IGNORECASE | re.DOTALL,
)
_UNREAD = re.compile(r"<(script|style)\b[^<>]*>.*?(?:</\1\s*>|$)", re.IGNORECASE | re.DOTALL)
_WITHIN_WORDS = frozenset(
    str.split("a abbr b big code del em font i ins mark s small span strong u wbr")
)
_NAME = re.compile(r"</?([a-z0-9]+)", re.IGNORECASE)
_PRICE = re.compile(r"\$?\s*([0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,9})(\.[0-9]+)?")


def plain_text(text: str) -> str:
    """`text` without HTML tags, comments and scripts, each of which becomes a space where it ends a
    line or a cell, and with single spaces. Entities are expected to be read already, those of tags
    too ("&lt;br&gt;"). Other characters "<" stay."""
    if "<" not in text:
        return text
    return " ".join(_TAG.sub(_instead, _UNREAD.sub(" ", text)).split())


def _instead(tag: re.Match[str]) -> str:
    name = _NAME.match(tag[0])
    return "" if name is not None and name[1].lower() in _WITHIN_WORDS else " "


def plain_in(record: Mapping[str, Any], key: str) -> str:
    """The text under `key`, or an empty string, without HTML and superfluous spaces."""
    return plain_text(text_in(record, key))


def plains_in(record: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """The same of a list, each once and in its order."""
    found = map(plain_text, texts_in(record, key))
    return tuple(dict.fromkeys(text for text in found if text))


class Bought(NamedTuple):
    """A line of the reviews. `time` is in milliseconds since the epoch, `rating` from 1 to 5."""

    user: str
    item: str
    time: int
    rating: float


def bought_of(line: bytes) -> Bought | None:
    """A line of the reviews, or None where it is malformed."""
    record = object_of(line)
    if record is None:
        return None
    user, item = name_in(record, "user_id"), name_in(record, "parent_asin")
    rating, time = record.get("rating"), record.get("timestamp")
    if user is None or item is None:
        return None
    if isinstance(rating, bool) or not isinstance(rating, int | float) or not 1 <= rating <= 5:
        return None
    if isinstance(time, bool) or not isinstance(time, int) or not 0 <= time < 10**15:
        return None
    return Bought(user, item, time, float(rating))


def dataset_of(category: str) -> str:
    return f"Amazon2023-{category}"


def noun_of(category: str) -> str:
    return f"{category.replace('_', ' ').lower()} product"


class ProductText(NamedTuple):
    """What a product's line says in words. Both are cut at `_LONGEST_DESCRIPTION`."""

    description: str
    """The description and, after it, the features."""
    without_features: str
    """Empty if that is the same, or if nothing but features describes the product."""


def text_of(record: Mapping[str, Any]) -> ProductText:
    """The description of a product, with and without its features."""
    alone, features = description_in(record), plains_in(record, "features")
    parts = [alone, *([f"Features: {'; '.join(features)}"] if features else [])]
    whole = cut(" ".join(part for part in parts if part), _LONGEST_DESCRIPTION)
    return ProductText(whole, cut(alone, _LONGEST_DESCRIPTION) if features else "")


def description_in(record: Mapping[str, Any]) -> str:
    """The description of a product, which is a text or a list of texts."""
    if isinstance(record.get("description"), str):
        return plain_in(record, "description")
    return " ".join(plains_in(record, "description"))


def price_of(value: Any) -> float | None:
    """A price, also written as text ("$1,299.00"); None for ranges, words, and nothing."""
    if isinstance(value, str):
        match = _PRICE.fullmatch(value.strip())
        value = None if match is None else float(match[1].replace(",", "") + (match[2] or ""))
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 < value < 1e9 else None
