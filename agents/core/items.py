"""Items, catalogues, and the part of a case that an agent may see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from agents.core.errors import DataError
from agents.core.grounding import TitleIndex
from agents.core.text import repaired

LONGEST_TITLE = 200
"""In characters. A reply cannot name a longer title, so domains cut titles here."""

_LIKE_CONSONANTS = ("eu", "one", "uni", "use")  # "a user", "a unit"


@dataclass(frozen=True, slots=True)
class Item:
    """Something that can be recommended.

    `attributes` maps an attribute's name to its values, broad ones first (`{"genre": ("Comedy",
    "Romance")}`). `price` is in the domain's currency. `without_features` is the description
    without the list of features that ends it; empty if it has none.
    """

    id: str
    title: str
    attributes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    description: str = ""
    price: float | None = None
    without_features: str = ""

    def __post_init__(self) -> None:
        if not (self.title.isascii() and self.description.isascii()):
            for name in ("title", "description", "without_features"):
                object.__setattr__(self, name, repaired(getattr(self, name)))

    @property
    def summary(self) -> str:
        """The description, without a list of features."""
        return self.without_features or self.description


@dataclass(frozen=True, slots=True)
class Fact:
    """A statement about an item: an attribute and one of its values."""

    attribute: str
    value: str


def facts_of(item: Item) -> tuple[Fact, ...]:
    """Every attribute value of `item`, in the catalogue's order."""
    return tuple(Fact(name, value) for name, values in item.attributes.items() for value in values)


def with_article(noun: str) -> str:
    """`a movie`, `an item`: the noun of a catalogue with its article, by spelling."""
    vowel = noun[:1].lower() in tuple("aeiou") and not noun.lower().startswith(_LIKE_CONSONANTS)
    return f"{'an' if vowel else 'a'} {noun}"


class Catalogue:
    """The items of a domain, in a fixed order, found by id or by title.

    Raises DataError for two items with the same id, and for an empty catalogue unless
    `may_be_empty` (recorded dialogues that do not mark their items).
    """

    def __init__(
        self,
        items: Sequence[Item],
        *,
        noun: str,
        may_be_empty: bool = False,
        facets: Mapping[Fact, str] | None = None,
    ) -> None:
        if not items and not may_be_empty:
            raise DataError("the catalogue has no items")
        self.items = tuple(items)
        self.noun = noun
        self.facets = dict(facets or {})
        """The facet under which a fact is asked about, if it is not its attribute; empty for a fact
        that is not asked about, because it names a facet of others."""
        self.position = {item.id: index for index, item in enumerate(self.items)}
        if len(self.position) != len(self.items):
            seen: set[str] = set()
            double = next(i.id for i in self.items if i.id in seen or seen.add(i.id))
            raise DataError(f"two items of the catalogue have the id {double!r}")

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, item_id: str) -> Item:
        return self.items[self.position[item_id]]

    @cached_property
    def titles(self) -> TitleIndex:
        return TitleIndex([item.title for item in self.items])

    @cached_property
    def attributes(self) -> tuple[str, ...]:
        """Names of all attributes, in order of first appearance."""
        return tuple(dict.fromkeys(name for item in self.items for name in item.attributes))


@dataclass(frozen=True, slots=True)
class VisibleCase:
    """What an agent may know about a simulated user: an id, and what it liked before.

    Hidden data (targets, needs, budget) is in `simulators.core.cases.HiddenCase`, in a package that
    agents cannot import, so a leak is an import error.
    """

    case_id: str
    history: tuple[Item, ...]
    """Oldest first."""
    user_id: str = field(default="", kw_only=True)
    """The user's name in `Interactions.user_ids`, if it differs from the id of the case."""


@dataclass(frozen=True)
class Interactions:
    """User-item events for training: three arrays of one length, ordered by user, then time.

    `users` holds positions in `user_ids`; `items` holds positions in the catalogue.
    """

    user_ids: tuple[str, ...]
    users: np.ndarray
    items: np.ndarray
    times: np.ndarray

    def __len__(self) -> int:
        return len(self.users)


@dataclass(frozen=True)
class TrainingData:
    """What a recommender may be trained on; it contains no test pair.

    `validation` has, for each of `interactions.user_ids`, the catalogue position of the item after
    its last interaction, for early stopping; -1 if there is none.
    """

    items: int
    """The number of items in the catalogue."""
    interactions: Interactions
    validation: np.ndarray
    catalogue: Catalogue | None = None
    """For methods that learn from facts; None if there are only interactions."""
    dialogues: Pairs | None = None
    """The users and targets of the split `train`, for policies that learn from dialogues."""


@dataclass(frozen=True)
class Pairs:
    """Users and their targets: positions in `Interactions.user_ids` and in the catalogue."""

    users: np.ndarray
    items: np.ndarray

    def __len__(self) -> int:
        return len(self.users)
