"""Session filtering, and values that separate candidates (AF-IRS, 4.1.3, 4.2.2): no model calls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from agents.af_irs.tree import Tree
from agents.core.items import Item, facts_of

WhenEmpty = Literal["drop_least_relevant", "union", "nothing"]


class Filtered(NamedTuple):
    """What session filtering left."""

    mask: np.ndarray
    """(items,), bool."""
    kept: int
    """How many of the preferences were used, the most relevant first."""


def session_filter(
    sets: Sequence[np.ndarray], allowed: np.ndarray, when_empty: WhenEmpty
) -> Filtered:
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
            return Filtered(mask, kept)
        elif when_empty == "union":
            return Filtered(np.logical_or.reduce(sets) & allowed, len(sets))
        else:
            return Filtered(narrower, len(sets))
    return Filtered(mask, len(sets))


class Preference(NamedTuple):
    """A session preference, as eq. 3 takes it."""

    rank: int
    """Place in the order of relevance."""
    words: str
    items: np.ndarray
    """(items,), bool."""


def preferences_of(tree: Tree, nodes: Sequence[int], *, unite: bool) -> list[Preference]:
    """The sets of eq. 3 for these nodes, the most relevant first.

    With `unite`, nodes whose branches no item has together, such as two years or two subcategories
    of one attribute, are alternatives: one set, of which eq. 3 alone would leave nothing.
    """
    found = [
        Preference(rank, " > ".join(tree.path(node)), tree.mask(node))
        for rank, node in enumerate(nodes)
    ]
    if unite and found:
        found = _united(tree, [(tree.line(node), p) for node, p in zip(nodes, found, strict=True)])
    return sorted(found, key=lambda preference: preference.rank)


def _united(tree: Tree, found: Sequence[tuple[Sequence[int], Preference]]) -> list[Preference]:
    """`found` with alternatives united, each with the rest of its path."""
    if len(found) == 1:
        return [found[0][1]]
    branches: dict[int, list[tuple[Sequence[int], Preference]]] = {}
    for line, preference in found:
        branches.setdefault(line[0], []).append((line[1:], preference))
    parts = [_united(tree, branch) for branch in branches.values()]
    apart = np.sum([tree.mask(node) for node in branches], axis=0).max() <= 1
    if len(parts) == 1 or not apart:
        return [preference for part in parts for preference in part]
    words = (" & ".join(preference.words for preference in part) for part in parts)
    masks = (np.logical_and.reduce([preference.items for preference in part]) for part in parts)
    rank = min(preference.rank for part in parts for preference in part)
    return [Preference(rank, " | ".join(words), np.logical_or.reduce(list(masks)))]


class Share(NamedTuple):
    """How many of some items have an attribute value."""

    attribute: str
    value: str
    number: int


def distribution(items: Sequence[Item], most: int) -> list[Share]:
    """The attribute values that separate `items` best, at most `most`, the most informative first.

    A value is most informative if half of the items have it. Ties are in order of first
    appearance. A value that all or none have is left out.
    """
    counts = Counter(fact for item in items for fact in dict.fromkeys(facts_of(item)))
    telling = {fact: min(count, len(items) - count) for fact, count in counts.items()}
    best = sorted((fact for fact in telling if telling[fact]), key=lambda fact: -telling[fact])
    return [Share(fact.attribute, fact.value, counts[fact]) for fact in best[:most]]
