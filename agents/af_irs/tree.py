"""The preference tree (AF-IRS, section 4.1.1): how a model builds it, and what it looks like.

The paper: attributes are clustered into a tree of three levels (broad categories, subcategories,
the attributes), then the items under each attribute, judged by title and description, into finer
subcategories. We decided:

- An attribute is a pair of an attribute's name and a value that the catalogue has. The finer
  subcategories are the fourth and last level. An item is listed under each of its attributes,
  or the intersection of eq. 3 would be empty; under each, it is in one subcategory.
- Large catalogues go in batches. A batch is shown the names given so far. Batches of one list come
  one after the other; the lists (the items of one attribute each) are independent and concurrent.
- Replies are merged without judgement: names equal after normalisation are one, and what is placed
  twice stays where it was first. What is left out is asked for once more, at the end of its list,
  and then goes to "Other". All of that is counted.
- An attribute of fewer than `smallest` items is not divided: its one subcategory has its name.
- A name with more than `most_values` values (a developer, a brand) makes no attributes: in every
  turn it would cost dozens of calls to choose among them. Unless it is asked for by name.
- Items without any attribute are under one node "Unlabelled" at every level.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, NamedTuple, TypeVar

import numpy as np
from pydantic import Field

from agents.core.artifacts import CallsRecipe, Content
from agents.core.ask import Ask, together
from agents.core.errors import UsageError, near
from agents.core.grounding import normalise
from agents.core.items import Catalogue, Fact, facts_of
from agents.core.steps import Bound, ReplyModel, Step, text

MOST_IN_A_BATCH = 100
_MOST_CATEGORIES = 30  # that one reply names, with their subcategories
_MOST_SUBCATEGORIES = 20
LEVELS = 4
OTHER = "Other"
UNLABELLED = "Unlabelled"
_LEFT_OVER = (normalise(OTHER), normalise(UNLABELLED))
_COUNTED = ("asked_again", "left_out", "placed_twice")
_NAMES_SHOWN = 60  # of those given so far, the latest: a prompt must not grow with the catalogue

TreePath = tuple[str, ...]
R = TypeVar("R", bound=ReplyModel)

Numbers = Annotated[
    list[Annotated[int, Field(ge=1, le=999)]],
    Field(max_length=MOST_IN_A_BATCH),
]


class _Category(ReplyModel):
    category: Annotated[str, text(60, "Name the broad category.")]
    subcategory: Annotated[str, text(60, "Name the subcategory.")]
    numbers: Annotated[Numbers, Field(description="Give the numbers of its attributes.")]

    @property
    def path(self) -> TreePath:
        return self.category, self.subcategory


class _Categories(ReplyModel):
    groups: Annotated[
        list[_Category],
        Field(
            min_length=1,
            max_length=_MOST_CATEGORIES,
            description="Write one entry for each subcategory.",
        ),
    ]


class _Subcategory(ReplyModel):
    name: Annotated[str, text(60, "Name the subcategory.")]
    numbers: Annotated[Numbers, Field(description="Give the numbers of its items.")]

    @property
    def path(self) -> TreePath:
        return (self.name,)


class _Subcategories(ReplyModel):
    groups: Annotated[
        list[_Subcategory],
        Field(
            min_length=1,
            max_length=_MOST_SUBCATEGORIES,
            description="Write one entry for each subcategory.",
        ),
    ]


CATEGORISE = Step("categorise", "group", _Categories)
SUBCATEGORISE = Step("subcategorise", "group", _Subcategories)


def _categorise(options: int) -> Step[_Categories]:
    """The step for a prompt of so many attributes."""
    return _of_members(CATEGORISE, _MOST_CATEGORIES, options)


def _subcategorise(items: int) -> Step[_Subcategories]:
    """The step for a prompt of so many items."""
    return _of_members(SUBCATEGORISE, _MOST_SUBCATEGORIES, items)


def _of_members(step: Step[R], groups: int, members: int) -> Step[R]:
    bounds = {"groups": Bound(min(groups, members)), "groups.numbers": Bound(members, members)}
    return step.bounded(**bounds)


class Attribute(NamedTuple):
    """One attribute of the tree. `items` are catalogue positions, ascending."""

    fact: Fact
    label: str
    """What its node is called: the value, with the attribute's name where the value has two."""
    items: tuple[int, ...]


class Groups:
    """Members of a list put into named groups by replies, each where it was put first.

    A group is found by its path of names; the form in which a name came first is kept.
    """

    def __init__(self) -> None:
        self.place: dict[int, TreePath] = {}
        self.shown: dict[TreePath, str] = {}
        self.counts: Counter[str] = Counter()

    def put(self, names: Sequence[str], numbers: Sequence[int], batch: Sequence[int]) -> None:
        """Puts members of `batch`, by their numbers in it, from 1, into the group so named."""
        names = [" ".join(name.split()) for name in names]
        names = [name if normalise(name) else OTHER for name in names]
        keys = tuple(map(normalise, names))
        for number in numbers:
            if batch[number - 1] in self.place:
                self.counts["placed_twice"] += 1
            else:
                self.place[batch[number - 1]] = keys
                for depth, name in enumerate(names, 1):
                    self.shown.setdefault(keys[:depth], name)

    def names(self) -> list[TreePath]:
        """The paths of names given so far, the latest of them, for the next prompt."""
        latest = list(self.members())[-_NAMES_SHOWN:]
        return [tuple(self.shown[key[:d]] for d in range(1, len(key) + 1)) for key in latest]

    def members(self) -> dict[TreePath, list[int]]:
        """The members of every group, groups and members in order of placing."""
        found: dict[TreePath, list[int]] = {}
        for member, key in self.place.items():
            found.setdefault(key, []).append(member)
        return found


@dataclass(frozen=True)
class PreferenceTree(CallsRecipe):
    """Builds the tree of a catalogue."""

    batch_attributes: int
    batch_items: int
    smallest: int
    attributes: tuple[str, ...] | None
    """Names of the attributes that make the tree; None: all that have few enough values."""
    most_values: int

    part = "tree"
    steps = (CATEGORISE, SUBCATEGORISE)
    version = 4

    def identity(self) -> Mapping[str, Any]:
        return {
            "preference_tree": {
                "batch_attributes": self.batch_attributes,
                "batch_items": self.batch_items,
                "smallest": self.smallest,
                "attributes": None if self.attributes is None else list(self.attributes),
                "most_values": self.most_values if self.attributes is None else None,
            },
            "version": self.version,
        }

    def widest_steps(self) -> tuple[Step[Any], ...]:
        return _categorise(self.batch_attributes), _subcategorise(self.batch_items)

    async def build(
        self, catalogue: Catalogue, ask: Ask, report: Callable[[int, int], None]
    ) -> Content:
        leaves = attributes_of(catalogue, self.attributes or self._few(catalogue))
        divided = [n for n, leaf in enumerate(leaves) if len(leaf.items) >= self.smallest]
        most_calls = [-(-len(leaves[n].items) // self.batch_items) for n in divided]
        calls = _CallCounter(report, -(-len(leaves) // self.batch_attributes) + sum(most_calls))

        def of_attributes(batch: Sequence[int]) -> dict[str, Any]:
            facts = [leaves[n].fact for n in batch]
            return {
                "noun": catalogue.noun,
                "options": [f"{fact.attribute}: {fact.value}" for fact in facts],
            }

        def of_items(attribute: Fact, batch: Sequence[int]) -> dict[str, Any]:
            items = [catalogue.items[position] for position in batch]
            return {"noun": catalogue.noun, "attribute": attribute, "items": items}

        everything = range(len(leaves))
        asking = _Grouping(_categorise, ask, self.batch_attributes, 2, of_attributes, calls)
        categories = await asking.run(everything, first_draw=0)
        # Draws are numbered across all attributes: no order of completion changes a seed. Twice
        # the calls, because all of them may have to be made again.
        draws = np.cumsum([0, *most_calls]) * 2
        grouped = await together(
            _Grouping(
                _subcategorise, ask, self.batch_items, 1, partial(of_items, leaves[n].fact), calls
            ).run(leaves[n].items, int(draw))
            for n, draw in zip(divided, draws, strict=False)
        )
        labelled = {item for leaf in leaves for item in leaf.items}
        bare = tuple(item for item in range(len(catalogue)) if item not in labelled)
        if bare:
            leaves.append(Attribute(Fact("", UNLABELLED), UNLABELLED, bare))
            categories.put((UNLABELLED, UNLABELLED), [1], [len(leaves) - 1])
        placed = sum((groups.counts for groups in grouped), Counter())
        counts = {"attributes": categories.counts, "items": placed}
        return _content(leaves, categories, dict(zip(divided, grouped, strict=True)), counts)

    def _few(self, catalogue: Catalogue) -> tuple[str, ...]:
        """Names of the attributes that have at most `most_values` values."""
        facts = {fact for item in catalogue.items for fact in facts_of(item)}
        values = Counter(fact.attribute for fact in facts)
        few = tuple(name for name in catalogue.attributes if values[name] <= self.most_values)
        if not few and catalogue.attributes:
            raise UsageError(
                f"most_values: every attribute has more than {self.most_values} values"
            )
        return few

    def load(self, content: Content, catalogue: Catalogue) -> Tree:
        return Tree(content, len(catalogue))


class Tree:
    """A built tree, read-only. Nodes are numbered depth first; node 0 is the first category."""

    def __init__(self, content: Content, items: int) -> None:
        self.size = items
        """How many items the catalogue has."""
        self.names: tuple[str, ...] = tuple(content.data["names"])
        self.levels: tuple[int, ...] = tuple(content.data["levels"])
        """1 categories, 2 subcategories, 3 attributes, 4 finer subcategories of items."""
        self.parents: tuple[int, ...] = tuple(content.data["parents"])
        """-1 for a category."""
        self.counts: Mapping[str, Mapping[str, int]] = content.data["counts"]
        """What building left out, placed twice, or numbered wrongly."""
        self.roots, self.children = self._children()
        self._left_over = [normalise(name) in _LEFT_OVER for name in self.names]
        self._starts = content.arrays["leaf_starts"]
        self._items = content.arrays["leaf_items"]
        # Depth first, so the leaves of a node are neighbours.
        is_leaf = [level == LEVELS for level in self.levels]
        self._first = np.cumsum([0, *is_leaf])
        self._end = [node + 1 for node in range(len(self.names))]
        for node in reversed(range(len(self.names))):
            if self.parents[node] >= 0:
                parent = self.parents[node]
                self._end[parent] = max(self._end[parent], self._end[node])

    def _children(self) -> tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]:
        below: list[list[int]] = [[] for _ in self.names]
        roots: list[int] = []
        for node, parent in enumerate(self.parents):
            (roots if parent < 0 else below[parent]).append(node)
        return tuple(roots), tuple(map(tuple, below))

    def is_uninformative(self, node: int) -> bool:
        """Whether `node` collects what was left over, so that it names no preference."""
        return self._left_over[node]

    def offered(self, nodes: Sequence[int]) -> list[int]:
        """`nodes`, with the children of those that name no preference in their place."""
        found: list[int] = []
        for node in nodes:
            found += self.offered(self.children[node]) if self.is_uninformative(node) else [node]
        return found

    def mask(self, node: int) -> np.ndarray:
        """(items,), bool: the items below `node`."""
        first, end = self._first[node], self._first[self._end[node]]
        under = np.zeros(self.size, bool)
        under[self._items[self._starts[first] : self._starts[end]]] = True
        return under

    def line(self, node: int) -> tuple[int, ...]:
        """The nodes from the category down to `node`."""
        above = self.line(self.parents[node]) if self.parents[node] >= 0 else ()
        return (*above, node)

    def path(self, node: int) -> tuple[str, ...]:
        """Names from the category down to `node`."""
        return tuple(self.names[each] for each in self.line(node))


def attributes_of(catalogue: Catalogue, names: Sequence[str]) -> list[Attribute]:
    """The catalogue's attributes of these names: by name, then those of most items first.

    Raises UsageError where the catalogue has none of a name.
    """
    for name in names:
        if name not in catalogue.attributes:
            known = ", ".join(catalogue.attributes)
            raise UsageError(
                f"attributes: no item has an attribute {name!r}"
                f"{near(name, catalogue.attributes)} (known: {known})"
            )
    items: dict[Fact, list[int]] = {}
    for position, item in enumerate(catalogue.items):
        for fact in dict.fromkeys(facts_of(item)):
            if fact.value.strip() and fact.attribute in names:
                items.setdefault(fact, []).append(position)
    times = Counter(normalise(fact.value) for fact in items)
    order = {name: place for place, name in enumerate(catalogue.attributes)}
    facts = sorted(items, key=lambda fact: (order[fact.attribute], -len(items[fact])))
    return [
        Attribute(
            fact,
            fact.value if times[normalise(fact.value)] == 1 else f"{fact.value} ({fact.attribute})",
            tuple(items[fact]),
        )
        for fact in facts
    ]


class _CallCounter:
    """Counts calls for `report`."""

    def __init__(self, report: Callable[[int, int], None], most: int) -> None:
        self._report = report
        self.most = most
        self._done = 0

    def count(self) -> None:
        self._done += 1
        self._report(self._done, self.most)


@dataclass(frozen=True)
class _Grouping:
    """How the members of a list are put into groups by a model."""

    step: Callable[[int], Step[Any]]
    """The step for a prompt of so many members."""
    ask: Ask
    batch: int
    depth: int
    """How many names lead to a group."""
    fields: Callable[[Sequence[int]], dict[str, Any]]
    """What a prompt shows of a batch, besides the names given so far."""
    calls: _CallCounter

    async def run(self, members: Sequence[int], first_draw: int) -> Groups:
        groups = Groups()
        draw = await self._ask(groups, members, first_draw)
        left = [member for member in members if member not in groups.place]
        groups.counts["asked_again"] += len(left)
        self.calls.most += -(-len(left) // self.batch)
        await self._ask(groups, left, draw)
        left = [member for member in left if member not in groups.place]
        groups.counts["left_out"] += len(left)
        groups.put([OTHER] * self.depth, range(1, len(left) + 1), left)
        return groups

    async def _ask(self, groups: Groups, members: Sequence[int], draw: int) -> int:
        """Asks for all of `members`, one batch after the other. The number of the next draw."""
        for at in range(0, len(members), self.batch):
            batch = members[at : at + self.batch]
            fields = self.fields(batch)
            reply = await self.ask(self.step(len(batch)), draw=draw, known=groups.names(), **fields)
            for group in reply.groups:
                groups.put(group.path, group.numbers, batch)
            self.calls.count()
            draw += 1
        return draw


class _Nodes:
    """The nodes of a tree being put together, depth first."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.parents: list[int] = []
        self.levels: list[int] = []
        self.starts = [0]
        self.items: list[int] = []

    def add(self, name: str, parent: int) -> int:
        self.names.append(name)
        self.parents.append(parent)
        self.levels.append(1 if parent < 0 else self.levels[parent] + 1)
        return len(self.names) - 1

    def add_leaf(self, name: str, parent: int, items: Sequence[int]) -> None:
        self.add(name, parent)
        self.items.extend(sorted(items))
        self.starts.append(len(self.items))


def _content(
    leaves: Sequence[Attribute],
    categories: Groups,
    divided: Mapping[int, Groups],
    counts: Mapping[str, Counter[str]],
) -> Content:
    """The tree of these groups: `divided` holds those of the items of some attributes."""
    below: dict[TreePath, dict[TreePath, list[int]]] = {}
    for leaf, group in categories.place.items():
        below.setdefault(group[:1], {}).setdefault(group, []).append(leaf)
    nodes = _Nodes()
    for category, subcategories in below.items():
        top = nodes.add(categories.shown[category], -1)
        for subcategory, members in subcategories.items():
            middle = nodes.add(categories.shown[subcategory], top)
            for leaf in members:
                attribute = nodes.add(leaves[leaf].label, middle)
                if leaf not in divided:
                    nodes.add_leaf(leaves[leaf].label, attribute, leaves[leaf].items)
                    continue
                for group, items in divided[leaf].members().items():
                    nodes.add_leaf(divided[leaf].shown[group], attribute, items)
    data = {
        "names": nodes.names,
        "parents": nodes.parents,
        "levels": nodes.levels,
        "counts": {what: {name: n[name] for name in _COUNTED} for what, n in counts.items()},
    }
    arrays = {
        "leaf_starts": np.array(nodes.starts, np.int32),
        "leaf_items": np.array(nodes.items, np.int32),
    }
    return Content(data, arrays)
