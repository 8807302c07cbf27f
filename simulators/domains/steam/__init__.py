"""Steam, read from the files of the McAuley lab. They are never part of crsweep.

- A line of either file is a Python literal, not JSON. Reviews carry no star rating, so a review is
  an interaction and there is no `min_rating`; AF-IRS (section 5.1.1) states one for all data sets.
- Users and games with fewer than `k_core` interactions are dropped, until none is left.
- Reviews have a day and no hour. Those of one day stay in the order of the lines.
- Games with the same title are one item, under the id that was reviewed first, since a dialogue
  names titles; where a user then has an item twice, the earliest is kept.
- A malformed line, and a review of a game that has no title, is left out and counted.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

from agents.core.items import Item
from simulators.core.cases import Published
from simulators.domains.core.fields import (
    distinct,
    name_in,
    price_in,
    python_literal,
    text_in,
    texts_in,
)
from simulators.domains.core.files import Records, check_folder, need_file
from simulators.domains.core.recorded import LoadedData, RecordedDomain
from simulators.domains.core.reviews import Review, ReviewOptions, each_once, load_reviews

__all__ = ["Steam"]

REVIEWS, GAMES = "steam_reviews.json.gz", "steam_games.json.gz"
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_YEAR = re.compile(r"(19|20)[0-9]{2}(?=-|$)")


class Steam(RecordedDomain):
    """Games, and people who reviewed them, from a folder with the two files."""

    Options = ReviewOptions
    options: ReviewOptions
    name = "steam"
    version = 2

    @property
    def dataset(self) -> str:
        return "Steam"

    def files(self) -> Sequence[Path]:
        check_folder(self.options.path, "Steam")
        return [need_file(self.options.path, name) for name in (REVIEWS, GAMES)]

    def published(self) -> Published | None:
        return Published(
            "AF-IRS, Table 1 (min_rating 3, k_core 10)",
            {"users": 281_204, "items": 11_961, "interactions": 3_484_497},
        )

    def load(self) -> LoadedData:
        reviews, games = self.files()
        allowed = self.options.max_bad_lines
        return load_reviews(
            Records(
                reviews,
                _review,
                expected="a Python dict with username, product_id and date (YYYY-MM-DD)",
                allowed=allowed,
            ),
            Records(
                games,
                each_once(_game),
                expected="a Python dict with an id of its own",
                allowed=allowed,
            ),
            self.options.k_core,
            "",
            "game",
        )


def _review(line: bytes) -> Review | None:
    """A line of the reviews, or None where it is malformed."""
    record = python_literal(line)
    if record is None:
        return None
    user, product = name_in(record, "username"), name_in(record, "product_id")
    time = _time(date) if isinstance(date := record.get("date"), str) else None
    if user is None or product is None or time is None:
        return None
    return Review(user, product, time)


@lru_cache(maxsize=8192)
def _time(day: str) -> int | None:
    """Unix time at which a day begins."""
    if not _DAY.fullmatch(day):
        return None
    try:
        return int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp())
    except ValueError:
        return None


def _game(line: bytes) -> Item | None:
    """A line of the games, or None where it is malformed; its title may be empty."""
    record = python_literal(line)
    number = None if record is None else name_in(record, "id")
    if record is None or number is None:
        return None
    # Some have a name in the shop alone.
    title = text_in(record, "title") or text_in(record, "app_name")
    # Others say "Soon" or "Coming in Spring".
    year = _YEAR.match(text_in(record, "release_date"))
    attributes = {
        "genre": texts_in(record, "genres"),
        "tag": texts_in(record, "tags"),
        "feature": texts_in(record, "specs"),
        "developer": distinct([record.get("developer")]),
        "publisher": distinct([record.get("publisher")]),
        "decade": (f"{year[0][:3]}0s",) if year else (),
        "year": (year[0],) if year else (),
    }
    known = {name: values for name, values in attributes.items() if values}
    return Item(number, title, known, price=price_in(record))
