"""Reviews with their ratings, titles and texts, of what some users bought."""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path
from typing import NamedTuple

from simulators.domains.core.amazon_reviews_2023 import bought_of, plain_in
from simulators.domains.core.files import Records
from simulators.domains.core.json_files import object_of


class ReviewText(NamedTuple):
    """A review of a product by a user. `rating` is from 1 to 5 stars."""

    user: str
    item: str
    time: int
    rating: float
    title: str
    text: str


def review_texts(
    reviews: Path, wanted: Container[tuple[str, str]], max_bad_lines: float
) -> dict[tuple[str, str], ReviewText]:
    """The reviews of `wanted` pairs of user and product; of several, the earliest. DataError."""
    records = Records(
        reviews,
        _review_text,
        expected="a JSON object with user_id, parent_asin, rating (1 to 5) and timestamp",
        allowed=max_bad_lines,
    )
    found: dict[tuple[str, str], ReviewText] = {}
    for review in records:
        pair = review.user, review.item
        if pair in wanted and (pair not in found or review.time < found[pair].time):
            found[pair] = review
    return found


def _review_text(line: bytes) -> ReviewText | None:
    bought, record = bought_of(line), object_of(line)
    if bought is None or record is None:
        return None
    return ReviewText(*bought, plain_in(record, "title"), plain_in(record, "text"))
