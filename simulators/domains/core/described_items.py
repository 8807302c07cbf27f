"""The items of data sets in the layout of SCPR: what the file that lists them says."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from agents.core.errors import DataError
from agents.core.items import LONGEST_TITLE, Catalogue, Fact, Item
from simulators.domains.core.fields import cut, text_in
from simulators.domains.core.json_files import (
    KeyValues,
    as_json,
    each_key_once,
    number_of,
    numbers_in,
    read_object,
)


class Described(NamedTuple):
    """What the file says of one item."""

    features: Sequence[int]
    business: str
    """Its id in the data set that it comes from, where that is a text."""


class ListedItems(NamedTuple):
    """The items that can be named in a dialogue, and the numbers of those that cannot."""

    catalogue: Catalogue
    nameless: Sequence[int]
    attributes: int
    """How many attributes, in the sense of the papers, the files list."""
    remarks: Sequence[str]


def read_described(path: Path, features: Collection[int]) -> dict[int, Described]:
    """The items by their numbers, ascending; `features` are those that have a name."""
    expected = "a JSON object that maps items to objects with a feature_index"
    found = {}
    for key, value in read_object(path, expected, _what_counts).items():
        number = number_of(path, key, "an item")
        numbers = numbers_in(value.get("feature_index")) if isinstance(value, dict) else None
        if numbers is None:
            raise DataError(
                f"{path}: item {number}: found {as_json(value)}, expected an object with a "
                "feature_index, which is a list of numbers"
            )
        unknown = next((feature for feature in numbers if feature not in features), None)
        if unknown is not None:
            raise DataError(
                f"{path}: item {number}: found the feature {unknown}, expected one that has a name"
            )
        found[number] = Described(numbers, text_in(value, "busi_id"))
    return dict(sorted(found.items()))


def _what_counts(pairs: KeyValues) -> dict[str, Any]:
    """An object, reduced to what is read of it if it is an item: Yelp lists 70,311 of them."""
    found = each_key_once(pairs)
    if "feature_index" not in found:
        return found
    return {key: found[key] for key in ("feature_index", "busi_id") if key in found}


def listed_items(
    titles: Mapping[int, str],
    facts: Mapping[int, Mapping[str, tuple[str, ...]]],
    *,
    noun: str,
    names: Path,
    attributes: int,
    facets: Mapping[Fact, str] | None = None,
) -> ListedItems:
    """The items with their titles and facts, by number; an empty title means none is known.

    `names` is the file of the titles. DataError if no item has one.
    """
    named = {number: title for number, title in titles.items() if title}
    if not named:
        raise DataError(f"{names}: found no name of an item, expected those of {len(titles):,}")
    remarks = []
    if len(named) < len(titles):
        remarks.append(
            f"{len(titles) - len(named):,} of {len(titles):,} items have no name in {names.name} "
            "and are left out: a dialogue could not name them"
        )
    long = [title for title in named.values() if len(title) > LONGEST_TITLE]
    if long:
        remarks.append(
            f"{len(long):,} names of {names.name} are longer than {LONGEST_TITLE} characters and "
            "cut there, so that replies can name them"
        )
    items = [
        Item(str(number), cut(title, LONGEST_TITLE), facts[number])
        for number, title in named.items()
    ]
    nameless = [number for number in titles if number not in named]
    return ListedItems(Catalogue(items, noun=noun, facets=facets), nameless, attributes, remarks)
