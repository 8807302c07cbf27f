"""Yelp as SCPR and UNICORN published it: businesses with categories, and people who rated them.

The data comes from the Yelp Open Dataset, whose licence forbids redistribution, and is never part
of crsweep.

- Attributes have two layers: 590 tags (`city_3`, `star_4`, `price_2`, `category_Pizza`) and the 29
  kinds that a taxonomy divides them into. Facts of a business are its tags and the kinds of its
  categories. Cities have numbers, not names, in the files.
- A dialogue names businesses, and chains have many of one name. Such a name is followed by the city
  ("Subway, City 8") and, if that is not enough, by a number in the order of the file ("Subway, City
  8, No. 2"). No two are merged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from agents.core.errors import DataError, near
from agents.core.items import Fact
from simulators.core.cases import Published
from simulators.domains.core.described_items import (
    Described,
    ListedItems,
    listed_items,
    read_described,
)
from simulators.domains.core.fields import text_in
from simulators.domains.core.json_files import as_json, numbers_in, read_object
from simulators.domains.core.published_split import GRAPH, NAMES, SplitDomain, SplitOptions

__all__ = ["Yelp"]

_KIND, _CATEGORY, _CITY = "kind", "category", "city"
# What a tag begins with -> the attribute, and how its value is written.
_LAYERS = {
    "category": (_CATEGORY, "{}"),
    "price": ("price", "price level {}"),
    "star": ("rating", "{} stars"),
    "city": (_CITY, "City {}"),
}
_ONE_STAR = "1 stars"


class _Tag(NamedTuple):
    attribute: str
    value: str


class Yelp(SplitDomain):
    """Businesses, and people who rated them, from a folder with the published files."""

    Options = SplitOptions
    name = "yelp"
    item_files = (
        (GRAPH, "item_dict-original_tag.json"),
        (GRAPH, "second-layer_oringinal_tag_map.json"),
        (GRAPH, "2-layer taxonomy.json"),
        (NAMES, "busi_name.json"),
    )

    @property
    def dataset(self) -> str:
        return "Yelp"

    def published(self) -> Published | None:
        return Published(
            "DESIRE, section 4.1.1",
            {"users": 27_675, "items": 70_311, "attributes": 590, "interactions": 1_368_606},
        )

    def read_items(self, paths: Sequence[Path]) -> ListedItems:
        listing, tags_file, taxonomy_file, names_file = paths
        tags = _tags(tags_file)
        kinds = _kinds(taxonomy_file, tags)
        businesses = read_described(listing, tags.keys())
        facts = {n: _facts(one, tags, kinds) for n, one in businesses.items()}
        names = read_object(names_file, "a JSON object that maps ids of businesses to names")
        titles = _distinct(
            {n: text_in(names, one.business) for n, one in businesses.items()},
            {n: one.get(_CITY, ()) for n, one in facts.items()},
        )
        return listed_items(
            titles,
            facts,
            noun="place",
            names=names_file,
            attributes=len(tags),
            facets=_facets(tags, kinds),
        )


def _tags(path: Path) -> dict[int, _Tag]:
    """The second layer: what each feature is called."""
    found: dict[int, _Tag] = {}
    for name, number in read_object(path, "a JSON object that maps tags to numbers").items():
        numbers = numbers_in([number])
        layer, underscore, value = name.partition("_")
        if numbers is None or not underscore or not value.strip() or layer not in _LAYERS:
            raise DataError(
                f"{path}: found {as_json({name: number})}, expected a number for a tag that begins "
                f"with {', '.join(f'{layer}_' for layer in _LAYERS)}{near(layer, _LAYERS)}"
            )
        if number in found:
            raise DataError(f"{path}: the number {number} is that of two tags, one is {name!r}")
        attribute, form = _LAYERS[layer]
        written = form.format(" ".join(value.split()))
        found[number] = _Tag(attribute, "1 star" if written == _ONE_STAR else written)
    return found


def _kinds(path: Path, tags: Mapping[int, _Tag]) -> dict[int, str]:
    """The first layer: the kind of each category. Cities, stars and prices are their own kinds."""
    found: dict[int, str] = {}
    for kind, listed in read_object(path, "a JSON object that maps kinds to numbers").items():
        numbers = numbers_in(listed)
        if numbers is None or not all(number in tags for number in numbers):
            raise DataError(
                f"{path}: {as_json(kind)}: found {as_json(listed)}, expected a list of the numbers "
                "of tags"
            )
        for number in numbers:
            if tags[number].attribute == _CATEGORY:
                found.setdefault(number, " ".join(kind.split()))
    return found


def _facets(tags: Mapping[int, _Tag], kinds: Mapping[int, str]) -> dict[Fact, str]:
    """Categories are asked about by their kind, as in EAR; the kinds are not asked about."""
    found = {Fact(_KIND, kind): "" for kind in kinds.values()}
    return found | {
        Fact(tags[number].attribute, tags[number].value): kind for number, kind in kinds.items()
    }


def _facts(
    business: Described, tags: Mapping[int, _Tag], kinds: Mapping[int, str]
) -> dict[str, tuple[str, ...]]:
    """Attributes of a business, those that say most first."""
    values: dict[str, dict[str, None]] = {_KIND: {}, **{name: {} for name, _ in _LAYERS.values()}}
    for feature in business.features:
        tag = tags[feature]
        values[tag.attribute][tag.value] = None
        if feature in kinds:
            values[_KIND][kinds[feature]] = None
    return {name: tuple(each) for name, each in values.items() if each}


def _distinct(names: Mapping[int, str], cities: Mapping[int, Sequence[str]]) -> dict[int, str]:
    """`names` with what is needed to tell equal ones apart."""
    shared = {name for name, times in Counter(names.values()).items() if times > 1}
    placed = {
        number: ", ".join((name, *cities[number])) if name and name in shared else name
        for number, name in names.items()
    }
    taken, times, found = set(placed.values()), Counter[str](), {}
    for number, name in placed.items():
        title = name
        times[name] += 1
        while name and times[name] > 1:
            title = f"{name}, No. {times[name]}"
            if title not in taken:
                break
            times[name] += 1
        taken.add(title)
        found[number] = title
    return found
