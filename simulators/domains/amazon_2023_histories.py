"""A category of Amazon Reviews 2023 (Hou et al. 2024) as histories whose latest items are held out.

LatentCRS (appendix B) takes Video Games and CDs so: products without metadata are excluded, then
users and products with fewer than five interactions; the last item of a user is for testing, the
one before it for validation. `amazon_2023` reads the same files as CSI does, with targets by
category path.

The folder holds the official files of the category, compressed or not: `Video_Games.jsonl.gz`
(reviews) and `meta_Video_Games.jsonl.gz` (products). They are never part of crsweep.

- Reviews rated below `min_rating` are dropped (0, the default, keeps all: the paper states no
  rating for Amazon), then users and products with fewer than `k_core`, until none is left.
- A product has metadata if the products list it with a title. Products with the same title are one
  item, under the id that was reviewed first, since a dialogue names titles; where a user then has
  an item twice, the earliest is kept.
- Facts are the categories below the root and the store. Features follow the description.
- A malformed line, and a review of a product without metadata, is left out and counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field

from agents.core.items import Item
from simulators.core.cases import Published
from simulators.domains.core.amazon_reviews_2023 import (
    LONGEST_VALUE,
    bought_of,
    dataset_of,
    noun_of,
    plain_in,
    price_of,
    text_of,
)
from simulators.domains.core.fields import cut, distinct, name_in, texts_in
from simulators.domains.core.files import Records, check_folder, need_file
from simulators.domains.core.json_files import object_of
from simulators.domains.core.recorded import LoadedData, RecordedDomain
from simulators.domains.core.reviews import Review, ReviewOptions, each_once, load_reviews

__all__ = ["Amazon2023Histories"]

_PUBLISHED = {
    "Video_Games": {"users": 15_582, "items": 7_233, "interactions": 122_179},
    "CDs_and_Vinyl": {"users": 104_544, "items": 76_616, "interactions": 1_259_069},
}


class _Options(ReviewOptions):
    category: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")] = "Video_Games"
    """As written in the names of the files."""
    k_core: int = Field(5, ge=0)
    """Minimum interactions of a user and of an item; 0 and 1 switch the filter off."""
    min_rating: float = Field(0.0, ge=0, le=5)
    """Reviews with a lower rating are left out."""


class Amazon2023Histories(RecordedDomain):
    """Products of a category, and people who reviewed them."""

    Options = _Options
    options: _Options
    name = "amazon_2023_histories"
    version = 2

    @property
    def dataset(self) -> str:
        return dataset_of(self.options.category)

    def files(self) -> Sequence[Path]:
        path, category = self.options.path, self.options.category
        check_folder(path, f"Amazon Reviews 2023 {category}")
        return [
            need_file(path, f"{category}.jsonl.gz", f"{category}.jsonl"),
            need_file(path, f"meta_{category}.jsonl.gz", f"meta_{category}.jsonl"),
        ]

    def published(self) -> Published | None:
        numbers = _PUBLISHED.get(self.options.category)
        return None if numbers is None else Published("LatentCRS, Table 1", numbers)

    def load(self) -> LoadedData:
        options = self.options
        reviews, products = self.files()

        def review(line: bytes) -> Review | None:
            bought = bought_of(line)
            if bought is None:
                return None
            return Review(
                bought.user, bought.item, bought.time, bought.rating >= options.min_rating
            )

        return load_reviews(
            Records(
                reviews,
                review,
                expected="a JSON object with user_id, parent_asin, rating (1 to 5) and timestamp",
                allowed=options.max_bad_lines,
            ),
            Records(
                products,
                each_once(_product),
                expected="a JSON object with a parent_asin of its own",
                allowed=options.max_bad_lines,
            ),
            options.k_core,
            f"min_rating {options.min_rating:g} and " if options.min_rating else "",
            noun_of(options.category),
        )


def _product(line: bytes) -> Item | None:
    """A line of the products, or None where it is malformed; its title may be empty."""
    record = object_of(line)
    number = None if record is None else name_in(record, "parent_asin")
    if record is None or number is None:
        return None
    attributes = {
        # The first is the root, which all products of the file share.
        "category": tuple(cut(name, LONGEST_VALUE) for name in texts_in(record, "categories")[1:]),
        "store": tuple(cut(name, LONGEST_VALUE) for name in distinct([record.get("store")])),
    }
    known = {name: values for name, values in attributes.items() if values}
    price = price_of(record.get("price"))
    text = text_of(record)
    title = plain_in(record, "title")
    return Item(number, title, known, text.description, price, text.without_features)
