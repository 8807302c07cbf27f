"""The official files of Amazon Reviews 2023 (Hou et al. 2024): what domains read alike."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from simulators.domains.core.fields import cut, name_in, text_in, texts_in
from simulators.domains.core.json_files import object_of

_LONGEST_DESCRIPTION = 800  # characters; descriptions are part of prompts, some have ten thousand
LONGEST_VALUE = 100
_PRICE = re.compile(r"\$?\s*([0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,9})(\.[0-9]+)?")


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


def description_of(record: Mapping[str, Any]) -> str:
    """Description and features of a product as one text, cut at `_LONGEST_DESCRIPTION`."""
    description, features = description_in(record), texts_in(record, "features")
    parts = [description, *([f"Features: {'; '.join(features)}"] if features else [])]
    return cut(" ".join(part for part in parts if part), _LONGEST_DESCRIPTION)


def description_in(record: Mapping[str, Any]) -> str:
    """The description of a product, which is a text or a list of texts."""
    if isinstance(record.get("description"), str):
        return text_in(record, "description")
    return " ".join(texts_in(record, "description"))


def price_of(value: Any) -> float | None:
    """A price, also written as text ("$1,299.00"); None for ranges, words, and nothing."""
    if isinstance(value, str):
        match = _PRICE.fullmatch(value.strip())
        value = None if match is None else float(match[1].replace(",", "") + (match[2] or ""))
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 < value < 1e9 else None
