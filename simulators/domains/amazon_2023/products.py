"""Products of Amazon Reviews 2023: which are complete, and what is said of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from agents.core.errors import DataError
from agents.core.items import LONGEST_TITLE, Catalogue, Item
from simulators.domains.amazon_2023.data import BuyerData
from simulators.domains.core.amazon_reviews_2023 import (
    LONGEST_VALUE,
    description_in,
    noun_of,
    plain_in,
    plain_text,
    plains_in,
    price_of,
    text_of,
)
from simulators.domains.core.fields import cut, distinct, name_in
from simulators.domains.core.files import Records
from simulators.domains.core.json_files import object_of

NEEDED = ("title", "description", "category", "features", "price")
"""What a product must have (appendix A.2), in the order in which it is looked for."""


class Product(NamedTuple):
    """A line of the products. `item` is None where one of `NEEDED` is `missing`."""

    id: str
    item: Item | None
    missing: str = ""


def read_products(
    path: Path, max_bad_lines: float, wanted: Container[str] | None = None
) -> tuple[dict[str, Item], list[str]]:
    """The complete products by id, and remarks. With `wanted`, only those.

    Of a product that is listed twice, the first line counts.
    """
    records = Records(
        path,
        product_of,
        expected="a JSON object with a parent_asin",
        allowed=max_bad_lines,
    )
    found: dict[str, Item] = {}
    missing: Counter[str] = Counter()
    long = 0
    seen: set[str] = set()
    for product in records:
        if (wanted is not None and product.id not in wanted) or product.id in seen:
            continue
        seen.add(product.id)
        if product.item is None:
            missing[product.missing] += 1
            continue
        item = product.item
        if len(item.title) > LONGEST_TITLE:
            long += 1
            title = cut(item.title, LONGEST_TITLE)
            item = replace(item, title=title)
        found[product.id] = item
    remarks = records.remarks()
    if missing:
        what = ", ".join(f"{missing[name]:,} without {name}" for name in NEEDED if missing[name])
        remarks.append(
            f"{missing.total():,} of {len(seen):,} products of {path.name} are incomplete and left "
            f"out ({what})"
        )
    if long:
        remarks.append(
            f"{long:,} titles of {path.name} are longer than {LONGEST_TITLE} characters and cut "
            "there"
        )
    return found, remarks


def catalogue_alone(path: Path, category: str, max_bad_lines: float) -> BuyerData:
    """The complete products without any user."""
    found, remarks = read_products(path, max_bad_lines)
    return BuyerData(catalogue_of(found, path, category), {}, remarks)


def catalogue_of(found: Mapping[str, Item], path: Path, category: str) -> Catalogue:
    """DataError where there is no product."""
    if not found:
        raise DataError(f"{path}: found no complete product, expected {', '.join(NEEDED)} of each")
    return Catalogue(list(found.values()), noun=noun_of(category))


def product_of(line: bytes) -> Product | None:
    """A line of the products, or None where it is malformed."""
    record = object_of(line)
    if record is None:
        return None
    number = name_in(record, "parent_asin")
    if number is None:
        return None
    # A path begins with the root, which all products of the file share.
    path = tuple(cut(name, LONGEST_VALUE) for name in plains_in(record, "categories"))
    found = {
        "title": plain_in(record, "title"),
        "description": description_in(record),
        "category": path if len(path) > 1 else (),
        "features": plains_in(record, "features"),
        "price": price_of(record.get("price")),
    }
    for name in NEEDED:
        if not found[name]:
            return Product(number, None, name)
    attributes = {"category": path, **_facts(record)}
    text = text_of(record)
    item = Item(
        number, found["title"], attributes, text.description, found["price"], text.without_features
    )
    return Product(number, item)


def _facts(record: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Store, average rating and number of ratings, as far as they are known."""
    found = {
        "store": tuple(cut(plain_text(s), LONGEST_VALUE) for s in distinct([record.get("store")]))
    }
    rating, number = record.get("average_rating"), record.get("rating_number")
    if isinstance(rating, int | float) and not isinstance(rating, bool) and 1 <= rating <= 5:
        found["average rating"] = (f"{rating:.1f}",)
    if isinstance(number, int) and not isinstance(number, bool) and 0 < number < 10**12:
        found["number of ratings"] = (str(number),)
    return {name: values for name, values in found.items() if values}
