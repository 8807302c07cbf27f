"""Session filtering, and what tells candidates apart (AF-IRS, 4.1.3 and 4.2.2): no model calls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from agents.core.items import Item, facts_of

WhenEmpty = Literal["drop_least_relevant", "union", "nothing"]


class Pool(NamedTuple):
    """What session filtering left."""

    mask: np.ndarray
    """(items,), bool."""
    kept: int
    """How many of the preferences, the most relevant first, it stands on."""


def session_filter(sets: Sequence[np.ndarray], allowed: np.ndarray, when_empty: WhenEmpty) -> Pool:
    """Eq. 3: the intersection of the preferences' item sets, most relevant first, in `allowed`.

    All are masks (items,). The paper does not say what follows when nothing is in it. Then
    `drop_least_relevant` leaves out preferences from the last one on until something is (without
    any, `allowed` remains), `union` takes what is in any of the sets, `nothing` takes nothing.
    """
    mask = allowed
    for kept, items in enumerate(sets):
        narrower = mask & items
        if narrower.any():
            mask = narrower
        elif when_empty == "drop_least_relevant":
            return Pool(mask, kept)
        elif when_empty == "union":
            return Pool(np.logical_or.reduce(sets) & allowed, len(sets))
        else:
            return Pool(narrower, len(sets))
    return Pool(mask, len(sets))


def alternatives(sets: Sequence[np.ndarray], parents: Sequence[int]) -> list[list[int]]:
    """Which preferences a user can only mean as alternatives: their places, the first's order.

    `sets` are their masks (items,), `parents` the nodes above them. Those under one node go
    together if no item is in two of them, such as two years or two subcategories of one attribute:
    eq. 3 would leave nothing of them. All others stand alone.
    """
    under: dict[int, list[int]] = {}
    for place, parent in enumerate(parents):
        under.setdefault(parent, []).append(place)
    found: list[list[int]] = []
    for places in under.values():
        apart = np.sum([sets[place] for place in places], axis=0).max(initial=0) <= 1
        found += [places] if apart else [[place] for place in places]
    return sorted(found)


class Share(NamedTuple):
    """How many of some items have an attribute value."""

    attribute: str
    value: str
    number: int


def distribution(items: Sequence[Item], most: int) -> list[Share]:
    """The attribute values that tell `items` apart, at most `most`, the most telling first.

    A value tells the more, the nearer it comes to be had by half of the items (most information
    in the answer); ties are in order of first appearance. What none or all have tells nothing.
    """
    counts = Counter(fact for item in items for fact in dict.fromkeys(facts_of(item)))
    telling = {fact: min(count, len(items) - count) for fact, count in counts.items()}
    best = sorted((fact for fact in telling if telling[fact]), key=lambda fact: -telling[fact])
    return [Share(fact.attribute, fact.value, counts[fact]) for fact in best[:most]]
