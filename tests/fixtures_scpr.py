"""Small made-up data in the layout of SCPR (LastFM, Yelp). Nothing in it is real."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

GRAPH, NAMES, INTERACTIONS = "Graph_generate_data", "ID_map_info", "UI_Interaction_data"
TAGS = ("folk", "dub", "new wave", "80s", "choral", "swing", "noise", "ragtime")
FIRST = ("Paper", "Velvet", "Crooked", "Northern", "Hollow", "Golden", "Patient", "Stolen")
SECOND = ("Tailors", "Orchard", "Comets", "Ferry", "Harbour")
# Two cities, two star tags, two price tags, six categories; the last belongs to no kind.
YELP_TAGS = {
    "city_0": 0, "city_1": 1, "star_1": 2, "star_4": 3, "price_1": 4, "price_2": 5,
    "category_Noodles": 6, "category_Soup": 7, "category_Tea Rooms": 8, "category_Bars": 9,
    "category_Fish & Chips": 10, "category_Bridal": 11,
}  # fmt: skip
TAXONOMY = {
    "Asian food": [6, 7],
    "Drinks": [8, 9],
    "British food": [10, 8],
    "city": [0, 1],
    "stars": [2, 3],
    "price": [4, 5],
}


class Split(NamedTuple):
    """What the three files of interactions list: a user's items, by the user's number."""

    train: Mapping[int, Sequence[int]]
    valid: Mapping[int, Sequence[int]]
    test: Mapping[int, Sequence[int]]


def split(users: int = 30, items: int = 40, each: int = 14, seed: int = 0) -> Split:
    """7, 4 and 3 of every 14 interactions; no user has an item twice."""
    rng = random.Random(seed)
    drawn = {user: rng.sample(range(items), each) for user in range(users)}
    first, second = each * 7 // 14, each * 11 // 14
    return Split(
        {user: one[:first] for user, one in drawn.items()},
        {user: one[first:second] for user, one in drawn.items()},
        {user: one[second:] for user, one in drawn.items()},
    )


def name(number: int) -> str:
    part = number // (len(FIRST) * len(SECOND))
    first, second = FIRST[number % len(FIRST)], SECOND[number // len(FIRST) % len(SECOND)]
    return f"{first} {second}" + (f" {part + 1}" if part else "")


def write_json(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=4), encoding="utf-8")
    return path


def write_split(folder: Path, given: Split) -> None:
    for part, listed in given._asdict().items():
        write_json(folder / INTERACTIONS / f"review_dict_{part}.json", listed)


def write_lastfm(
    folder: Path,
    given: Split | None = None,
    *,
    items: int = 40,
    nameless: Sequence[int] = (),
    features: Mapping[int, Sequence[int]] | None = None,
) -> Path:
    rng = random.Random(1)
    own = {n: sorted(rng.sample(range(len(TAGS)), rng.randint(2, 4))) for n in range(items)}
    own |= dict(features or {})
    write_split(folder, split(items=items) if given is None else given)
    listed = {
        n: {"categories": tags, "feature_index": tags, "busi_id": 9000 + n}
        for n, tags in own.items()
    }
    names = {n: "None" if n in nameless else name(n) for n in range(items)}
    write_json(folder / GRAPH / "item_dict.json", listed)
    write_json(folder / NAMES / "item_reverse_map.json", _named(names))
    write_json(folder / NAMES / "tag_reverse_map.json", _named(dict(enumerate(TAGS))))
    return folder


def write_yelp(
    folder: Path,
    given: Split | None = None,
    *,
    items: int = 40,
    names: Mapping[int, str | None] | None = None,
    features: Mapping[int, Sequence[int]] | None = None,
) -> Path:
    rng = random.Random(2)
    own = {
        n: [rng.randrange(2), rng.randrange(2, 4), 4, *rng.sample(range(6, 12), 2)]
        for n in range(items)
    }
    own |= dict(features or {})
    called = {n: name(n) for n in range(items)} | dict(names or {})
    write_split(folder, split(items=items) if given is None else given)
    listed = {
        n: {
            "categories": [f - 6 for f in tags if f >= 6],
            "city": 0,
            "stars": 4,
            "RestaurantsPriceRange2": None,
            "feature_index": tags,
            "busi_id": f"business-{n}",
        }
        for n, tags in own.items()
    }
    write_json(folder / GRAPH / "item_dict-original_tag.json", listed)
    write_json(folder / GRAPH / "second-layer_oringinal_tag_map.json", YELP_TAGS)
    write_json(folder / GRAPH / "2-layer taxonomy.json", TAXONOMY)
    known = {f"business-{n}": called[n] for n in called if called[n] is not None}
    write_json(folder / NAMES / "busi_name.json", {**known, "business-x": "Not in the data"})
    return folder


def _named(names: Mapping[int, str]) -> dict[int, Any]:
    return {n: {"real_id": [9000 + n], "real_name": [text]} for n, text in names.items()}
