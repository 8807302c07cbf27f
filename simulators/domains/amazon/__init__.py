"""A category of the Amazon reviews of 2014, read from the files of the McAuley lab.

All categories share one layout and differ in the names of the files, so the category is an option.
The files are never part of crsweep.

- Reviews come from `reviews_Beauty_5.json.gz` (JSON; users and products with five reviews or more)
  or from `ratings_Beauty.csv` (user,item,rating,timestamp; all of them), products from
  `meta_Beauty.json.gz`, whose lines are Python literals, not JSON.
- Reviews rated below `min_rating` are dropped, then users and products with fewer than `k_core`,
  until none is left (AF-IRS, section 5.1.1). The paper's statistics cannot be met: 8.9 interactions
  a user are fewer than the 10 that it states.
- Products with the same title are one item, under the id that was reviewed first, since a dialogue
  names titles; where a user then has an item twice, the earliest is kept.
- A malformed line, and a review of a product that has no title, is left out and counted.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field

from agents.core.errors import DataError
from agents.core.items import Item
from simulators.core.cases import Published
from simulators.domains.core.fields import distinct, name_in, price_in, python_literal, text_in
from simulators.domains.core.files import Records, check_folder, need_file
from simulators.domains.core.json_files import object_of
from simulators.domains.core.recorded import LoadedData, RecordedDomain, is_whole_time
from simulators.domains.core.reviews import Review, ReviewOptions, each_once, load_reviews

__all__ = ["Amazon"]

_HIGHEST_RATING = 5.0
# Characters. A description is part of the simulated user's prompts; some have ten thousand.
_LONGEST_DESCRIPTION = 600
_RATING = re.compile(r"[1-5](\.[0-9]+)?")
_TIME = re.compile(r"[0-9]{1,12}")


class _Options(ReviewOptions):
    category: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")] = "Beauty"
    """As written in the names of the files: `Video_Games` for `meta_Video_Games.json.gz`."""
    min_rating: float = Field(3.0, ge=0, le=_HIGHEST_RATING)
    """Reviews with a lower rating are left out."""


class Amazon(RecordedDomain):
    """Products of a category, and people who reviewed them."""

    Options = _Options
    options: _Options
    name = "amazon"
    version = 2

    @property
    def dataset(self) -> str:
        return f"Amazon-{self.options.category}"

    def files(self) -> Sequence[Path]:
        options = self.options
        check_folder(options.path, f"Amazon {options.category}")
        names = [f"reviews_{options.category}_5.json.gz", f"ratings_{options.category}.csv"]
        # A dangling link counts as present: reading it says what is wrong with it.
        present = {entry.name for entry in options.path.iterdir()}.intersection(names)
        if len(present) == 2:
            raise DataError(
                f"{options.path}: holds both {names[0]} and {names[1]}; `path` must be a folder "
                "with one of them"
            )
        reviews = need_file(options.path, *(present or names))
        return [reviews, need_file(options.path, f"meta_{options.category}.json.gz")]

    def published(self) -> Published | None:
        if self.options.category != "Beauty":
            return None
        return Published(
            "AF-IRS, Table 1 (min_rating 3, k_core 10)",
            {"users": 15_576, "items": 8_678, "interactions": 139_318},
        )

    def load(self) -> LoadedData:
        options = self.options
        reviews, products = self.files()
        csv = reviews.suffix == ".csv"

        def parse(line: bytes) -> Review | None:
            return (_csv_review if csv else _json_review)(line, options.min_rating)

        return load_reviews(
            Records(
                reviews,
                parse,
                expected="user,item,rating of 1 to 5,unix time"
                if csv
                else "a JSON object with reviewerID, asin, overall (1 to 5) and unixReviewTime",
                allowed=options.max_bad_lines,
            ),
            Records(
                products,
                each_once(_product),
                expected="a Python dict with an asin of its own",
                allowed=options.max_bad_lines,
            ),
            options.k_core,
            f"min_rating {options.min_rating:g} and ",
            f"{options.category.replace('_', ' ').lower()} product",
        )


def _json_review(line: bytes, min_rating: float) -> Review | None:
    """A line of the reviews, or None where it is malformed."""
    record = object_of(line)
    if record is None:
        return None
    user, product = name_in(record, "reviewerID"), name_in(record, "asin")
    rating, time = record.get("overall"), record.get("unixReviewTime")
    if user is None or product is None:
        return None
    # To Python, true is a number. The range is written so that NaN fails it.
    if isinstance(rating, bool) or not isinstance(rating, int | float):
        return None
    if isinstance(time, bool) or not isinstance(time, int):
        return None
    if not (1 <= rating <= _HIGHEST_RATING and 0 <= time < 10**12):
        return None
    return Review(user, product, time, rating >= min_rating)


def _csv_review(line: bytes, min_rating: float) -> Review | None:
    """A line of the ratings, or None where it is malformed or cut off."""
    try:
        fields = line.decode().rstrip("\r\n").split(",")
    except UnicodeDecodeError:
        return None
    if len(fields) != 4 or not (line.endswith(b"\n") or is_whole_time(fields[3])):
        return None
    user, product, rating, time = fields
    if not (user.strip() and product.strip()):
        return None
    if not (_RATING.fullmatch(rating) and _TIME.fullmatch(time)):
        return None
    if float(rating) > _HIGHEST_RATING:
        return None
    return Review(user, product, int(time), float(rating) >= min_rating)


def _product(line: bytes) -> Item | None:
    """A line of the products, or None where it is malformed; its title may be empty."""
    record = python_literal(line)
    number = None if record is None else name_in(record, "asin")
    if record is None or number is None:
        return None
    paths = record.get("categories")
    paths = [path for path in paths if isinstance(path, list)] if isinstance(paths, list) else []
    attributes = {
        # A path begins with the category itself, which all products share.
        "category": distinct(name for path in paths for name in path[1:]),
        "brand": distinct([record.get("brand")]),
    }
    known = {name: values for name, values in attributes.items() if values}
    description = text_in(record, "description")
    if len(description) > _LONGEST_DESCRIPTION:
        description = description[:_LONGEST_DESCRIPTION].rpartition(" ")[0] + " ..."
    return Item(number, text_in(record, "title"), known, description, price_in(record))
