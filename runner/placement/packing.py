"""Packing: whether a set of engines fits on a cluster, and where each replica goes.

A share of a GPU sits on one GPU, a whole number of GPUs in one node. Which GPU of a node an engine
gets is Ray's choice: GPUs have no numbers here.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, combinations
from typing import Any

_MOST_STEPS = 20_000  # spots tried before a set of engines counts as a misfit

EngineSet = frozenset[int]
"""A set of engines, as positions in the list of engines."""
GPU = tuple[int, ...]
"""The engines on one GPU, as positions in the list of engines, sorted."""
Grid = tuple[tuple[GPU, ...], ...]
"""The GPUs of each node, sorted: equal GPUs are interchangeable."""


@dataclass(frozen=True)
class PlacementEngine:
    """A model as served: `gpus` a replica, a fraction < 1 or a whole number in one node, or 0."""

    key: str
    label: str
    replicas: int
    gpus: float


@dataclass(frozen=True)
class Node:
    """A machine with so many GPUs, or CPU slots in their place."""

    name: str
    gpus: int


@dataclass(frozen=True)
class Allocation:
    """Where a replica is loaded: a node, and how many of its GPUs, or which share of one.

    `since` is the stage that loads it: an engine that moves to another GPU of its node is another
    allocation too.
    """

    engine: str
    replica: int
    node: str
    gpus: float
    since: int


def exact(gpus: float) -> Fraction:
    """A share as people mean it: 0.333... is a third, so three of them fill a GPU."""
    return Fraction(gpus).limit_denominator(1000)


def held(grid: Grid) -> EngineSet:
    return frozenset(e for node in grid for gpu in node for e in gpu)


class Cluster:
    """The nodes, and how engines are packed into them.

    Best fit comes first, or with `spread` the node with the fewest replicas of the engine. Where
    that fails, other packings are tried, up to `_MOST_STEPS`. Only beyond those can a set of
    engines be called a misfit that is none.
    """

    def __init__(
        self, engines: Sequence[PlacementEngine], nodes: Sequence[Node], spread: bool = False
    ) -> None:
        self._engines, self._nodes, self._spread = engines, nodes, spread
        shares = [exact(engine.gpus) for engine in engines]
        self._gpu = math.lcm(*(share.denominator for share in shares))
        """Units of one GPU: sizes are whole numbers of them."""
        self._size = [int(share * self._gpu) for share in shares]
        self.empty: Grid = tuple(((),) * node.gpus for node in nodes)
        self._known: dict[tuple[tuple[int, int], ...], bool] = {}
        self._fits: dict[EngineSet, bool] = {}

    def fits(self, engines: EngineSet) -> bool:
        """Whether these engines fit on the empty cluster. Equal demands are packed once."""
        known = self._fits.get(engines)
        if known is not None:
            return known
        demand = Counter[int]()
        for e in engines:
            demand[self._size[e]] += self._engines[e].replicas
        key = tuple(sorted(demand.items()))
        if key not in self._known:
            self._known[key] = self.add(self.empty, engines) is not None
        return self._fits.setdefault(engines, self._known[key])

    def add(self, grid: Grid, engines: EngineSet) -> Grid | None:
        """`grid` with `engines` packed around what it holds; None where there is no room.

        Replicas in falling size, each into the first of its spots; then, depth first, into the
        others.
        """
        order = sorted(engines, key=lambda e: (-self._size[e], e))
        replicas = [e for e in order for _ in range(self._engines[e].replicas)]
        needs = [0]  # of the replicas from each on, the last first
        for e in reversed(replicas):
            needs.append(needs[-1] + self._size[e])
        failed: set[tuple[int, tuple[Any, ...]]] = set()
        steps = 0

        def pack(n: int, grid: Grid) -> Grid | None:
            nonlocal steps
            if n == len(replicas):
                return grid
            shape = (n, self._shape(grid))
            if shape in failed or needs[len(replicas) - n] > self._room(grid):
                return None
            for spot in self._spots(grid, replicas[n]):
                steps += 1
                if steps > _MOST_STEPS:
                    return None
                found = pack(n + 1, spot)
                if found is not None:
                    return found
            failed.add(shape)
            return None

        return pack(0, grid)

    def _spots(self, grid: Grid, e: int) -> list[Grid]:
        """The grids with one more replica of `e`, best fit or emptiest first, equal ones once."""
        found: list[tuple[tuple[int, ...], Grid]] = []
        for n, node in enumerate(grid):
            if node in grid[:n]:
                continue
            # Engines without a GPU sit on one like the others, but take none of it.
            idle = sorted((gpu for gpu in node if not self._used(gpu)), key=len)
            free = len(idle)
            first = (sum(gpu.count(e) for gpu in node), -self._room([node])) if self._spread else ()
            if size := self._size[e] // self._gpu:
                if free >= size:
                    rest = [gpu for gpu in node if self._used(gpu)] + idle[size:]
                    rest += [tuple(sorted((*gpu, e))) for gpu in idle[:size]]
                    found.append(((*first, free, n), self._with(grid, n, rest)))
                continue
            for gpu in dict.fromkeys(node):
                room = self._gpu - self._used(gpu)
                if room >= self._size[e]:
                    rest = list(node)
                    rest[rest.index(gpu)] = tuple(sorted((*gpu, e)))
                    # A GPU that is free costs what whole engines may need: it comes last.
                    fit = room if self._used(gpu) else self._gpu + free
                    found.append(((*first, fit, n), self._with(grid, n, rest)))
        return [after for _, after in sorted(found, key=lambda spot: spot[0])]

    @staticmethod
    def _with(grid: Grid, n: int, node: Iterable[GPU]) -> Grid:
        return (*grid[:n], tuple(sorted(node)), *grid[n + 1 :])

    def _used(self, gpu: GPU) -> int:
        return sum(min(self._size[e], self._gpu) for e in gpu)

    def _room(self, grid: Iterable[Sequence[GPU]]) -> int:
        return sum(self._gpu - self._used(gpu) for node in grid for gpu in node)

    def _shape(self, grid: Grid) -> tuple[Any, ...]:
        """How full GPUs are, whichever engines fill them."""
        return tuple(sorted(tuple(sorted(map(self._used, node))) for node in grid))

    def without(self, grid: Grid, engines: EngineSet) -> Grid:
        """`grid` less `engines`."""
        return tuple(
            tuple(sorted(tuple(e for e in gpu if e not in engines) for gpu in node))
            for node in grid
        )

    def largest(self, core: EngineSet, others: Iterable[int]) -> EngineSet:
        """`core` and as many of `others`, in their order, as fit with it."""
        for e in others:
            if self.fits(core | {e}):
                core |= {e}
        return core

    def allocate(
        self, grid: Grid, wanted: EngineSet, leaving: Sequence[int]
    ) -> tuple[Grid, EngineSet]:
        """`grid` with all of `wanted`, and the engines that this loads.

        The engines of `leaving` make room, in their order, as far as they must. Where that is not
        enough, as few of those that could have stayed are moved.
        """
        new, gone = wanted - held(grid), EngineSet()
        moving = EngineSet()

        def packed() -> Grid | None:
            return self.add(self.without(grid, gone | moving), new | moving)

        after = packed()
        for e in leaving:
            if after is not None:
                break
            gone |= {e}
            after = packed()
        staying = sorted(wanted - new)
        for some in chain.from_iterable(combinations(staying, n + 1) for n in range(len(staying))):
            if after is not None:
                break
            moving = frozenset(some)
            after = packed()
        assert after is not None, "the set fits on the empty cluster"
        for e in sorted(gone, key=leaving.index, reverse=True):
            gone -= {e}
            if (kept := packed()) is not None:
                after = kept
            else:
                gone |= {e}
        return after, new | moving

    def allocations(self, grid: Grid, since: Mapping[int, int]) -> Iterator[Allocation]:
        """Where each replica is; those of an engine are alike, and numbered in the nodes' order."""
        for e in sorted(held(grid)):
            replica = 0
            for node, gpus in zip(self._nodes, grid, strict=True):
                on = sum(gpu.count(e) for gpu in gpus)
                for _ in range(on // max(1, self._size[e] // self._gpu)):
                    engine = self._engines[e]
                    yield Allocation(engine.key, replica, node.name, engine.gpus, since[e])
                    replica += 1
