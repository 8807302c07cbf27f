"""Search in the catalogue by attribute values, as agents that query an item database use it.

The values come from a model, so they are matched like titles (`agents.core.grounding`): a value
that means none of the catalogue's is counted, never guessed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from agents.core.grounding import TitleIndex
from agents.core.items import Catalogue, Item
from agents.core.per_object import PerObject
from agents.core.phrases import Phrases
from agents.core.tables import Column, column_of
from agents.recommenders.core import best


class SearchResult(NamedTuple):
    """`items` are the best of the `total` items that have all of `values` (in plain words).

    `dropped` are the values that were dropped because no item has them as well; `unknown` are those
    that the catalogue does not have.
    """

    items: tuple[Item, ...] = ()
    values: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    total: int = 0


class AttributeSearch:
    """Finds the items of one catalogue by attribute values.

    `vocabulary` has a column for each attribute, with its most frequent values, for prompts.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self._items = catalogue.items
        self._phrases = Phrases(catalogue.items)
        self._names = tuple(self._phrases.places)
        self._index = TitleIndex(self._names)
        self.vocabulary: tuple[Column, ...] = tuple(
            column_of(name, "VARCHAR[]", [i.attributes.get(name, ()) for i in self._items])
            for name in catalogue.attributes
        )

    @staticmethod
    def of(catalogue: Catalogue) -> AttributeSearch:
        """The one search over `catalogue` in this process."""
        return _SEARCHES.of(catalogue)

    def named_in(self, texts: Iterable[str]) -> tuple[str, ...]:
        """The attribute values that `texts` name word for word, each once, in order."""
        return tuple(dict.fromkeys(v for text in texts for v in self._phrases.named_in(text)))

    def search(
        self, values: Iterable[str], allowed: np.ndarray, order: np.ndarray, most: int
    ) -> SearchResult:
        """At most `most` of the items in the mask `allowed` (items,) that have all of `values`.

        `values` are in order of importance. While no item has all of them, the last one is
        dropped; there are no items where none has the first. Items are in the order of the scores
        `order` (items,), higher first, ties in the order of the catalogue. Never padded.
        """
        known: dict[str, None] = {}
        unknown: dict[str, None] = {}
        for value in values:
            match = self._index.ground(value)
            if match is None:
                unknown[value] = None
            else:
                known[self._names[match.place]] = None
        wanted = tuple(known)
        left, used = allowed, 0
        for value in wanted:
            narrowed = left & self._mask(value)
            if not narrowed.any():
                break
            left, used = narrowed, used + 1
        if not used:
            return SearchResult(dropped=wanted, unknown=tuple(unknown))
        items = tuple(self._items[place] for place in best(order, most, among=left).tolist())
        total = int(np.count_nonzero(left))
        return SearchResult(items, wanted[:used], wanted[used:], tuple(unknown), total)

    def _mask(self, value: str) -> np.ndarray:
        """(items,), bool: which items have `value`."""
        mask = np.zeros(len(self._items), bool)
        mask[self._phrases.places[value]] = True
        return mask


_SEARCHES = PerObject(AttributeSearch)
