"""The category explorer (CSI, section 3.2 and appendix B.3): a catalogue's tree of categories.

The path of an item is its attribute `category`, the widest first; in domains without that
attribute, the first value of its first attribute. Paths come from models and users, so their names
are compared without case, punctuation and spaces.
"""

from __future__ import annotations

import re
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

        A level without a choice (`settled`) may be left out. It ends before the first name that is
        none of the subcategories there: never guessed.
        """
        path: CategoryPath = ()
        for name in names:
            found = self._find(path, name)
            if found is None:
                break
            path = found
        return path

    def settled(self, path: CategoryPath) -> CategoryPath:
        """`path`, extended through every level without a choice.

        That is a level with one subcategory, which has all items of the level; the root may have
        more items, those without a category.
        """
        while (below := self._only_below(path)) is not None:
            path = below
        return path

    def named(self, words: str, known: CategoryPath = ()) -> CategoryPath:
        """The path that a user's `words` name, the widest first; `known` is what it was before.

        At each level, the one subcategory whose name is in the words is taken; if none or several
        are, the one of `known`, or the only one. It ends where there is none: never guessed. Names
        are compared without case, punctuation, "and" and the possessive; a word that belongs to the
        name of one level belongs to none below it.
        """
        left: list[str | None] = [*_words(words)]
        path: CategoryPath = ()
        while below := self._below.get(path, {}):
            found = _longest([name for name in below.values() if _place(name, left) is not None])
            if len(found) == 1:
                following = (*path, found[0])
            elif len(known) > len(path) and known[: len(path)] == path:
                following = known[: len(path) + 1]
            elif (only := self._only_below(path)) is not None:
                following = only
            else:
                break
            path = following
            place = _place(path[-1], left)
            if place is not None:
                left[place] = [None] * (place.stop - place.start)
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

    def _find(self, path: CategoryPath, name: str) -> CategoryPath | None:
        """The subcategory of this name below `path`, or below the levels without a choice there."""
        at: CategoryPath | None = path
        while at is not None:
            step = self._below.get(at, {}).get(_folded(name))
            if step is not None:
                return (*at, step)
            at = self._only_below(at)
        return None

    def _only_below(self, path: CategoryPath) -> CategoryPath | None:
        """The level below `path`, where that is no choice."""
        below = self._below.get(path, {})
        if len(below) != 1:
            return None
        (name,) = below.values()
        found = (*path, name)
        return found if not path or self._sizes[found] == self._sizes[path] else None


def path_of(item: Item) -> CategoryPath:
    """The category path of an item, the widest category first; () if it has no attributes."""
    if "category" in item.attributes:
        return item.attributes["category"]
    first: Sequence[str] = next(iter(item.attributes.values()), ())
    return tuple(first[:1])


def _folded(name: str) -> str:
    return "".join(character for character in name.casefold() if character.isalnum())


def _words(text: str) -> list[str]:
    """The words by which names are found in what a user says."""
    plain = _POSSESSIVE.sub("", text.casefold())
    return [word for word in re.findall(r"\w+", plain) if word != "and"]


def _place(name: str, left: Sequence[str | None]) -> slice | None:
    """Where the words of `name` first occur among those left."""
    wanted = _words(name)
    for start in range(len(left) - len(wanted) + 1):
        if wanted and left[start : start + len(wanted)] == wanted:
            return slice(start, start + len(wanted))
    return None


def _longest(names: Sequence[str]) -> list[str]:
    """`names` without those that are part of another."""
    return [
        name
        for name in names
        if not any(name != other and _place(name, _words(other)) is not None for other in names)
    ]


_POSSESSIVE = re.compile(r"['\u2019]s?\b")

_TREES = PerObject(CategoryTree)
