"""Text from outside: servers, files and plug-ins may hand over what no encoding can write."""

from __future__ import annotations

import re
from typing import Any

_SURROGATES = re.compile("[\ud800-\udbff][\udc00-\udfff]|[\ud800-\udfff]")


def repaired(text: str) -> str:
    """`text` as Unicode that can be encoded: lone surrogates become U+FFFD.

    Two halves of one character that arrived separately become that character.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return _SURROGATES.sub(_character, text)
    return text


def repaired_deep(value: Any) -> Any:
    """`value` with every string in it repaired, keys too. Tuples become plain ones."""
    if isinstance(value, str):
        return repaired(value)
    if isinstance(value, dict):
        return {repaired_deep(key): repaired_deep(part) for key, part in value.items()}
    if isinstance(value, list):
        return [repaired_deep(part) for part in value]
    if isinstance(value, tuple):
        return tuple(repaired_deep(part) for part in value)
    return value


def _character(found: re.Match[str]) -> str:
    if len(found[0]) == 1:
        return "\ufffd"
    return found[0].encode("utf-16", "surrogatepass").decode("utf-16")
