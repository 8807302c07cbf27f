"""The category explorer (CSI, section 3.2 and appendix B.3): a catalogue's tree of categories.

The path of an item is its attribute `category`, the widest first; in domains without that
attribute, the first value of its first attribute. Paths come from models and users, so their names
are compared without case, punctuation and spaces.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from agents.core.items import Catalogue, Item
from agents.core.per_object import PerObject

CategoryPath = tuple[str, ...]


class Subcategory(NamedTuple):
    """A category one level down, and how many items are in it or below."""

    name: str
    items: int


class CategoryTree:
    """Where each item of one catalogue is in the tree."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.paths: tuple[CategoryPath, ...] = tuple(path_of(item) for item in catalogue.items)
        self._sizes: Counter[CategoryPath] = Counter(
            path[:depth] for path in self.paths for depth in range(len(path) + 1)
        )
        self._below: dict[CategoryPath, dict[str, str]] = {}
        for path in self._sizes:
            if path:
                self._below.setdefault(path[:-1], {}).setdefault(_folded(path[-1]), path[-1])

    @staticmethod
    def of(catalogue: Catalogue) -> CategoryTree:
        """The one tree of `catalogue` in this process."""
        return _TREES.of(catalogue)

    def resolve(self, names: Iterable[str]) -> CategoryPath:
        """The longest path of the tree that `names`, the widest first, spell.

        A single root may be left out. It ends before the first name that is none of the
        subcategories there: never guessed.
        """
        path: CategoryPath = ()
        for name in names:
            step = self._step(path, name)
            if step is None and not path and len(roots := self._below.get((), {})) == 1:
                (root,) = roots.values()
                step = self._step((root,), name)
                path = (root,) if step is not None else path
            if step is None:
                break
            path = (*path, step)
        return path

    def subcategories(self, path: CategoryPath) -> tuple[Subcategory, ...]:
        """What is one level below `path`, the largest first."""
        names = self._below.get(path, {}).values()
        found = [Subcategory(name, self._sizes[*path, name]) for name in names]
        return tuple(sorted(found, key=lambda each: -each.items))

    def within(self, path: CategoryPath) -> np.ndarray:
        """(items,), bool: which items are in `path` or below."""
        return np.fromiter(
            (own[: len(path)] == path for own in self.paths), bool, count=len(self.paths)
        )

    def narrowest(self, path: CategoryPath, among: np.ndarray) -> np.ndarray:
        """Those of the mask `among` (items,) that are in the narrowest part of `path` with any.

        All of `among` where only the root has any.
        """
        for depth in range(len(path), 0, -1):
            found = among & self.within(path[:depth])
            if found.any():
                return found
        return among

    def _step(self, path: CategoryPath, name: str) -> str | None:
        return self._below.get(path, {}).get(_folded(name))


def path_of(item: Item) -> CategoryPath:
    """The category path of an item, the widest category first; () if it has no attributes."""
    if "category" in item.attributes:
        return item.attributes["category"]
    first: Sequence[str] = next(iter(item.attributes.values()), ())
    return tuple(first[:1])


def _folded(name: str) -> str:
    return "".join(character for character in name.casefold() if character.isalnum())


_TREES = PerObject(CategoryTree)
