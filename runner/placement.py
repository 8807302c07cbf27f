"""The placement: which model engines sit on which GPUs, and when.

`place` is pure: no Ray, no clock, no I/O. It cuts the works of a sweep into stages: in each, a set
of engines is resident, every work of the stage finds all its engines there, and between stages as
few engines as possible are loaded. Three searches, one inside the other:

- **Seating**: do these engines fit beside those that stay? A fraction shares a GPU, a whole
  number sits inside one node. Best fit first; if it fails, every packing is tried, up to
  `_PACK_STEPS` steps. Only beyond those can a set be called a misfit that is none.
- **Sets**: which set of resident engines follows which? Exact (A*) for up to 6 engines; beyond
  that A* with an effort limit, then a beam search.
- **Seats over time**: engines that stay keep their seats. When the cheapest sequence of sets cannot
  be seated without a move, up to 6 engines are searched again with their seats, exactly within
  `_SEAT_STEPS`; beyond that, an engine that is in the way is loaded again, as a load.

`Placement.bound` is a proven lower bound of the loads; its derivation is with `_Sets.bound` and
`_Sets.root_bound`. Where loads equal it they are minimal. Up to 6 engines they are, unless engines
must move among so many replicas that `_SEAT_STEPS` run out (about 1 in 40 random mixes of shares
and whole GPUs on several nodes).

Beyond 6 engines these are within 10 % of the bound: models that share a user (and a critic), grids
with room for two models or for the smaller side and one more, sparse pairs (15 of 16 models). These
are often not: other full grids (8 x 8 with room for 4: 30 loads, bound 24; for 6: 23 and 16), dense
pairs with room for four or more (10 to 20 %), triples (60 of 16 models with room for 4: 48 and 33),
mixed sizes (up to 75 %). The bound looks at one load at a time, and there a load that serves much
is paid for by others that serve little; how much of a gap is the plan's is not known.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations
from typing import Literal, NamedTuple, get_args

Phase = Literal["prepare", "dialogue", "judge"]

_EXACT = 6  # engines up to which the loads are minimal
_PACK_STEPS = 20_000  # patterns tried before a set of replicas counts as not packable
_SEAT_STEPS = 1_500_000  # GPUs looked at, over all arrangements tried to avoid moving an engine
_EXACT_STATES = 2_000_000  # states for up to 6 engines: more than there are in practice
_BOUNDED_STATES = 40_000  # states beyond 6 engines, before the beam takes over
_BEAM_EFFORT = 60_000  # states that all beams together may look at
_SUBSETS = 40_000  # resident sets looked at for the bound; beyond, a coarser one is used

Grid = tuple[tuple[int, ...], ...]
"""What sits on each GPU of the cluster, node after node: positions of engines, in order."""


@dataclass(frozen=True)
class Engine:
    """A model as served: `gpus` a replica, a fraction < 1 or a whole number in one node."""

    key: str
    label: str
    replicas: int
    gpus: float


@dataclass(frozen=True)
class Node:
    """A machine with so many GPUs, or the CPU slots that stand in for them."""

    name: str
    gpus: int


@dataclass(frozen=True)
class Work:
    """Engines that must be resident together in a phase; phases run one after the other."""

    phase: Phase
    engines: frozenset[str]


@dataclass(frozen=True)
class Seat:
    """Where a replica sits: GPUs counted from 0 in their node, and the share of each it takes."""

    engine: str
    replica: int
    node: str
    gpus: tuple[int, ...]
    share: float


@dataclass(frozen=True)
class Stage:
    """What is resident for a while. `unloads`, then `loads`, happen at its start.

    An engine whose seats change is in both. `works` are positions in what `place` was given.
    """

    phase: Phase
    engines: frozenset[str]
    works: tuple[int, ...]
    loads: tuple[str, ...]
    unloads: tuple[str, ...]
    seats: tuple[Seat, ...]


@dataclass(frozen=True)
class Placement:
    """The stages in order, why some works have none, and the loads next to their lower bound."""

    stages: tuple[Stage, ...]
    misfits: Mapping[int, str]
    loads: int
    bound: int


def place(engines: Sequence[Engine], nodes: Sequence[Node], works: Sequence[Work]) -> Placement:
    """Plans the stages that serve every work that fits, with few loads.

    Raises ValueError for an engine or a work that makes no sense whatever the cluster.
    """
    _check(engines, nodes, works)
    floor = _Floor(engines, nodes)
    position = {engine.key: i for i, engine in enumerate(engines)}
    masks = [sum(1 << position[key] for key in work.engines) for work in works]
    misfits = {
        i: _reason([engines[e] for e in _bits(mask)], nodes)
        for i, mask in enumerate(masks)
        if not floor.fits(mask)
    }
    fitting = [
        (get_args(Phase).index(work.phase), masks[i])
        for i, work in enumerate(works)
        if i not in misfits
    ]
    sets = _Sets(fitting, floor)
    path, bound = sets.search()
    grids = _seated(path, floor)
    if _moves(grids, floor) > bound and sets.count <= _EXACT:
        better, bound = _seat_search(sets, floor, _moves(grids, floor), bound)
        grids = better or grids
    grids = _lingering(grids, floor)

    waiting = {i: mask for i, mask in enumerate(masks) if i not in misfits}
    stages: list[Stage] = []
    before = last = floor.empty
    for number, phase in enumerate(get_args(Phase)):
        # What is left from the phase before may serve some of this one, or all.
        own = [last, *(grid for at, grid in grids if at == number)]
        last = own[-1]
        for grid in own:
            held = _held(grid)
            served = [
                i for i, mask in waiting.items() if works[i].phase == phase and not mask & ~held
            ]
            if not served:
                continue
            for i in served:
                del waiting[i]
            kept = floor.kept(before, grid)
            stages.append(
                Stage(
                    phase=phase,
                    engines=frozenset(engines[e].key for e in _bits(held)),
                    works=tuple(served),
                    loads=tuple(engines[e].key for e in _bits(held & ~kept)),
                    unloads=tuple(engines[e].key for e in _bits(_held(before) & ~kept)),
                    seats=tuple(floor.seats(grid)),
                )
            )
            before = grid
    loads = sum(len(stage.loads) for stage in stages)
    return Placement(tuple(stages), misfits, loads, bound)


def _check(engines: Sequence[Engine], nodes: Sequence[Node], works: Sequence[Work]) -> None:
    for engine in engines:
        whole = engine.gpus >= 1 and float(engine.gpus).is_integer()
        if not (whole or 0.001 <= engine.gpus < 1):
            raise ValueError(
                f"engine {engine.label}: a replica takes a whole number of GPUs, or a share from "
                f"0.001 to 1; found {engine.gpus}"
            )
        if engine.replicas < 1:
            raise ValueError(f"engine {engine.label}: found {engine.replicas} replicas, not 1 up")
    keys = Counter(engine.key for engine in engines)
    if double := [key for key, times in keys.items() if times > 1]:
        raise ValueError(f"engine {double[0]} is named twice")
    for node in nodes:
        if node.gpus < 0:
            raise ValueError(f"node {node.name}: found {node.gpus} GPUs, not 0 up")
    for work in works:
        if unknown := sorted(work.engines - keys.keys()):
            raise ValueError(f"a {work.phase} work needs engine {unknown[0]}, which is not given")


def _reason(engines: Sequence[Engine], nodes: Sequence[Node]) -> str:
    """Why these engines do not fit together, in one line."""
    largest = max((node.gpus for node in nodes), default=0)
    for engine in engines:
        if engine.gpus > max(largest, 1):
            return (
                f"a replica of {engine.label} needs {engine.gpus:g} GPUs in one node; "
                f"the largest node has {largest}"
            )
    names = [
        f"{engine.label} ({engine.replicas} x {_amount(_exact(engine.gpus))})" for engine in engines
    ]
    listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    need = sum((engine.replicas * _exact(engine.gpus) for engine in engines), Fraction(0))
    have = sum(node.gpus for node in nodes)
    verb = "needs" if len(names) == 1 else "need"
    if need > have:
        return f"{listed} {verb} {_amount(need)}; the cluster has {have}"
    sizes = Counter(node.gpus for node in nodes if node.gpus)
    shape = " + ".join(f"{sizes[size]} x {_amount(size)}" for size in sorted(sizes, reverse=True))
    return (
        f"{listed} {verb} {_amount(need)} and the cluster has {have}, "
        f"but the replicas cannot be packed into its nodes ({shape})"
    )


def _amount(gpus: Fraction | int) -> str:
    return f"{float(gpus):g} GPU{'' if gpus == 1 else 's'}"


def _exact(gpus: float) -> Fraction:
    """A share as people mean it: 0.333... is a third, so three of them fill a GPU."""
    return Fraction(gpus).limit_denominator(1000)


def _bits(mask: int) -> Iterator[int]:
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


def _held(grid: Grid) -> int:
    """Mask of the engines that sit somewhere."""
    mask = 0
    for content in grid:
        for engine in content:
            mask |= 1 << engine
    return mask


# --- Seating -------------------------------------------------------------------------------------


def _pack(sizes: Mapping[int, int], bins: Sequence[int]) -> list[list[int]] | None:
    """Packs `sizes` (size -> how many) into bins: the sizes in each bin, or None.

    Best fit in falling size first. Then exact: bin after bin, every filling that leaves no room
    for another item, remembering what failed; gives up as None after `_PACK_STEPS` fillings.
    """
    order = sorted(sizes, reverse=True)
    total = sum(size * sizes[size] for size in order)
    if total > sum(bins) or (order and order[0] > max(bins, default=0)):
        return None
    left = list(bins)
    packed: list[list[int]] = [[] for _ in bins]
    for size in order:
        for _ in range(sizes[size]):
            fitting = [(room, i) for i, room in enumerate(left) if room >= size]
            if not fitting:
                return _pack_exactly(order, [sizes[size] for size in order], bins)
            at = min(fitting)[1]
            left[at] -= size
            packed[at].append(size)
    return packed


def _pack_exactly(
    order: Sequence[int], counts: Sequence[int], bins: Sequence[int]
) -> list[list[int]] | None:
    turns = sorted(range(len(bins)), key=lambda i: (bins[i], i))
    rooms = [0] * (len(bins) + 1)  # of this bin and those after it
    for n in reversed(range(len(bins))):
        rooms[n] = rooms[n + 1] + bins[turns[n]]
    failed: set[tuple[int, tuple[int, ...]]] = set()
    packed: list[list[int]] = [[] for _ in bins]
    steps = 0

    def fillings(room: int, rest: tuple[int, ...], at: int = 0) -> Iterator[tuple[int, ...]]:
        if at == len(order):
            yield ()
            return
        most = min(rest[at], room // order[at])
        for count in range(most, -1, -1):
            for tail in fillings(room - count * order[at], rest, at + 1):
                used = count * order[at] + sum(
                    n * size for n, size in zip(tail, order[at + 1 :], strict=True)
                )
                if count < rest[at] and room - used >= order[at]:
                    continue  # room for another: the filling with it is at least as good
                yield (count, *tail)

    def fill(n: int, rest: tuple[int, ...]) -> bool:
        nonlocal steps
        if not any(rest):
            return True
        need = sum(size * count for size, count in zip(order, rest, strict=True))
        if need > rooms[n] or (n, rest) in failed:
            return False
        for filling in fillings(bins[turns[n]], rest):
            steps += 1
            if steps > _PACK_STEPS:
                return False
            after = tuple(a - b for a, b in zip(rest, filling, strict=True))
            if fill(n + 1, after):
                packed[turns[n]] = [
                    size for size, count in zip(order, filling, strict=True) for _ in range(count)
                ]
                return True
        failed.add((n, rest))
        return False

    return packed if fill(0, tuple(counts)) else None


class _Floor:
    """The cluster and what its GPUs hold. Shares are counted in whole units, `unit` a GPU."""

    def __init__(self, engines: Sequence[Engine], nodes: Sequence[Node]) -> None:
        self._engines = engines
        self._nodes = nodes
        exact = [_exact(engine.gpus) for engine in engines]
        self.unit = math.lcm(*(size.denominator for size in exact))
        self.whole = [size.numerator if size >= 1 else 0 for size in exact]
        self.share = [0 if size >= 1 else int(size * self.unit) for size in exact]
        self.spans: list[range] = []
        start = 0
        for node in nodes:
            self.spans.append(range(start, start + node.gpus))
            start += node.gpus
        self.empty: Grid = ((),) * start
        self._known: dict[tuple[tuple[int, int, int], ...], bool] = {}
        self._fits: dict[int, bool] = {0: True}

    def fits(self, mask: int) -> bool:
        """Whether these engines have seats on the empty cluster. Equal demands are asked once."""
        known = self._fits.get(mask)
        if known is None:
            demand = Counter[tuple[int, int]]()
            for e in _bits(mask):
                demand[self.whole[e], self.share[e]] += self._engines[e].replicas
            key = tuple(sorted((*size, count) for size, count in demand.items()))
            if key not in self._known:
                self._known[key] = self.seat(self.empty, mask) is not None
            known = self._fits[mask] = self._known[key]
        return known

    def room(self, grid: Grid, gpu: int) -> int:
        """Units left on a GPU; an engine of whole GPUs leaves none."""
        used = sum(self.share[e] or self.unit for e in grid[gpu])
        return self.unit - used

    def without(self, grid: Grid, mask: int) -> Grid:
        return tuple(
            tuple(e for e in content if not mask >> e & 1) if content else content
            for content in grid
        )

    def seat(self, grid: Grid, new: int) -> Grid | None:
        """The grid with the engines of mask `new` beside what sits there; None without room.

        Shares fill the GPUs already shared first; each fresh GPU they need is then one more item
        of one GPU, as free in its choice of node as the engines of one GPU.
        """
        wholes: dict[int, list[int]] = {}
        shares: dict[int, list[int]] = {}
        for e in _bits(new):
            times = [e] * self._engines[e].replicas
            if self.whole[e]:
                wholes.setdefault(self.whole[e], []).extend(times)
            else:
                shares.setdefault(self.share[e], []).extend(times)
        free = [[gpu for gpu in span if not grid[gpu]] for span in self.spans]
        spare = sum(map(len, free)) - sum(size * len(who) for size, who in wholes.items())
        opened = [gpu for gpu, content in enumerate(grid) if content and self.room(grid, gpu) > 0]
        rooms = [self.room(grid, gpu) for gpu in opened]
        wanted = {size: len(who) for size, who in shares.items()}
        lacking = sum(size * count for size, count in wanted.items()) - sum(rooms)
        packed = None
        for fresh in range(max(0, -(-lacking // self.unit)), spare + 1):
            packed = _pack(wanted, rooms + [self.unit] * fresh)
            if packed is not None:
                break
        if packed is None:
            return None
        shared, packed = packed[len(rooms) :], packed[: len(rooms)]
        counts = {size: len(who) for size, who in wholes.items()}
        if shared:
            counts[1] = counts.get(1, 0) + len(shared)
        seated = _pack(counts, [len(gpus) for gpus in free])
        if seated is None:
            return None
        after = [list(content) for content in grid]
        for gpu, sizes in zip(opened, packed, strict=True):
            after[gpu] += [shares[size].pop(0) for size in sizes]
        for gpus, sizes in zip(free, seated, strict=True):
            for size in sizes:
                taken, gpus[:size] = gpus[:size], []
                if wholes.get(size):
                    e = wholes[size].pop(0)
                    for gpu in taken:
                        after[gpu].append(e)
                else:
                    after[taken[0]] += [shares[part].pop(0) for part in shared.pop()]
        return tuple(tuple(sorted(content)) for content in after)

    def seatings(self, grid: Grid, new: int, effort: int) -> tuple[list[Grid], int]:
        """Every way to seat the engines of `new`, equal nodes and GPUs told apart only once.

        And how many GPUs that looked at; it stops, unfinished, after more than `effort`.
        """
        order = sorted(_bits(new), key=lambda e: (-self.whole[e], -self.share[e], e))
        level = {self.shape(grid): grid}
        tried = 0
        for e in order:
            for _ in range(self._engines[e].replicas):
                following: dict[object, Grid] = {}
                for at in level.values():
                    for spot in self._spots(at, e):
                        after = list(at)
                        for gpu in spot:
                            after[gpu] = tuple(sorted((*at[gpu], e)))
                        full = tuple(after)
                        following.setdefault(self.shape(full), full)
                        tried += len(full)
                    if tried > effort:
                        return [], tried
                level = following
        return list(level.values()), tried

    def _spots(self, grid: Grid, e: int) -> Iterator[tuple[int, ...]]:
        seen: set[object] = set()
        for span in self.spans:
            node = tuple(sorted(grid[span.start : span.stop]))
            if self.whole[e]:
                free = [gpu for gpu in span if not grid[gpu]]
                if len(free) >= self.whole[e] and node not in seen:
                    seen.add(node)
                    yield tuple(free[: self.whole[e]])
                continue
            for gpu in span:
                if self.room(grid, gpu) >= self.share[e] and (node, grid[gpu]) not in seen:
                    seen.add((node, grid[gpu]))
                    yield (gpu,)

    def shape(self, grid: Grid) -> tuple[Grid, ...]:
        """The grid without the names of nodes and GPUs."""
        return tuple(sorted(tuple(sorted(grid[span.start : span.stop])) for span in self.spans))

    def kept(self, before: Grid, after: Grid) -> int:
        """Mask of the engines that sit in both grids, on the same seats."""
        moved = 0
        for old, new in zip(before, after, strict=True):
            if old != new:
                for e in {*old, *new}:
                    if old.count(e) != new.count(e):
                        moved |= 1 << e
        return _held(before) & _held(after) & ~moved

    def seats(self, grid: Grid) -> Iterator[Seat]:
        """The seats of a grid; the replicas of an engine are alike and numbered in its order."""
        for e in _bits(_held(grid)):
            engine, replica = self._engines[e], 0
            for node, span in zip(self._nodes, self.spans, strict=True):
                own = [gpu - span.start for gpu in span for held in grid[gpu] if held == e]
                size = self.whole[e] or 1
                for at in range(0, len(own), size):
                    share = 1.0 if self.whole[e] else engine.gpus
                    yield Seat(engine.key, replica, node.name, tuple(own[at : at + size]), share)
                    replica += 1


# --- Sets ----------------------------------------------------------------------------------------


class _State(NamedTuple):
    """Engines resident and still of use, and the works still to serve: masks."""

    resident: int
    todo: int


class _Sets:
    """Which engines are resident after which, seats left aside.

    Only works that no other work of their phase contains matter: the rest are served with them.
    A state drops engines of no further use, and a step loads only what one unserved work lacks:
    what is loaded later or kept longer serves at least as much, so nothing is lost by it.
    """

    def __init__(self, works: Iterable[tuple[int, int]], floor: _Floor) -> None:
        self._floor = floor
        distinct = sorted(
            dict.fromkeys(work for work in works if work[1]), key=lambda work: work[0]
        )
        top = [
            (phase, mask)
            for phase, mask in distinct
            if not any(at == phase and mask != m and not mask & ~m for at, m in distinct)
        ]
        self.phase = [phase for phase, _ in top]
        self.masks = [mask for _, mask in top]
        self.todo = (1 << len(top)) - 1
        self._phases = [
            sum(1 << w for w in range(len(top)) if self.phase[w] == phase)
            for phase in sorted(set(self.phase))
        ]
        engines = 0
        for mask in self.masks:
            engines |= mask
        self.count = engines.bit_count()
        self._with = {
            e: sum(1 << w for w, mask in enumerate(self.masks) if mask >> e & 1)
            for e in _bits(engines)
        }
        self._needs: dict[int, int] = {}
        self._maximal: dict[tuple[int, int], list[int]] = {}
        self._looked = 0
        self._rest: dict[_State, int] = {}
        self._gains = [self._gain(self._masks_of(works)) for works in self._phases]

    def _masks_of(self, works: int) -> list[int]:
        return [self.masks[w] for w in _bits(works)]

    def needed(self, todo: int) -> int:
        """Mask of the engines that the works of `todo` name."""
        known = self._needs.get(todo)
        if known is None:
            known = 0
            for w in _bits(todo):
                known |= self.masks[w]
            self._needs[todo] = known
        return known

    def current(self, todo: int) -> int:
        """The works of `todo` that belong to its first phase."""
        return next((todo & works for works in self._phases if todo & works), 0)

    def settle(self, resident: int, todo: int) -> _State:
        """Serves what `resident` can, phase after phase, and forgets engines of no more use."""
        while now := self.current(todo):
            served = sum(1 << w for w in _bits(now) if not self.masks[w] & ~resident)
            todo &= ~served
            if now != served:
                break
        return _State(resident & self.needed(todo), todo)

    def steps(self, state: _State, near: int | None = None) -> Iterator[tuple[int, int]]:
        """What may be resident next, and the loads that it takes.

        Per unserved work: the largest sets that keep as much as fits. `near` leaves out works that
        lack more than `near` engines above the least that any lacks.
        """
        lacks = [
            ((self.masks[w] & ~state.resident).bit_count(), self.masks[w])
            for w in _bits(self.current(state.todo))
        ]
        least = min(lacks)[0]
        for cost, mask in lacks:
            if near is None or cost <= least + near:
                for resident in self._kept(state.resident | mask, mask, near is not None):
                    yield resident, cost

    def _kept(self, union: int, mask: int, few: bool) -> list[int]:
        """The largest subsets of `union` around `mask` that fit; with `few` only the very largest.

        They are found by taking one engine after another away.
        """
        key = (union, mask)
        known = self._maximal.get(key)
        if known is not None:
            return known
        found: list[int] = []
        level = {union: None}
        while level and not (few and found):
            following: dict[int, None] = {}
            for subset in level:
                self._looked += 1
                if any(not subset & ~larger for larger in found):
                    continue
                if self._floor.fits(subset):
                    found.append(subset)
                    continue
                for e in _bits(subset & ~mask):
                    following[subset & ~(1 << e)] = None
            if few and len(following) > 200:
                following = dict.fromkeys(list(following)[:200])
            level = following
        self._maximal[key] = found
        return found

    def _gain(self, works: Sequence[int]) -> _Gain:
        """How much of `works` (masks) resident sets cover; coarse where there are too many."""
        engines = 0
        for mask in works:
            engines |= mask
        members = list(_bits(engines))
        containing = {e: sum(1 << w for w, mask in enumerate(works) if mask >> e & 1)
                      for e in members}  # fmt: skip
        gain = dict.fromkeys(members, 0)
        inside = [0] * (len(members) + 1)
        seen = 0
        stack = [(0, 0, (1 << len(works)) - 1)]  # engines decided, those in, works still possible
        while stack:
            at, subset, possible = stack.pop()
            if at == len(members):
                seen += 1
                inside[subset.bit_count()] = max(inside[subset.bit_count()], possible.bit_count())
                for e in _bits(subset):
                    gain[e] = max(gain[e], (possible & containing[e]).bit_count())
                if seen > _SUBSETS:
                    degrees = {e: containing[e].bit_count() for e in members}
                    return _Gain(degrees, [len(works)] * (len(members) + 1))
                continue
            e = members[at]
            stack.append((at + 1, subset, possible & ~containing[e]))
            if self._floor.fits(subset | 1 << e):
                stack.append((at + 1, subset | 1 << e, possible))
        for k in range(1, len(inside)):
            if not any(inside[k:]):
                inside[k:] = []
                break
        return _Gain(gain, inside)

    def bound(self, state: _State) -> int:
        """Loads that every continuation of `state` needs; loads may wait until their phase.

        A work is served when the last of its engines is loaded, by that load. Let n works of a
        phase wait, g(e) of them at most be served by one load of e (the most that contain e inside
        one set that fits), and g the largest g(e). Each engine that is not resident is loaded
        once at least; any further load serves at most g. So with F such engines

            loads >= |F| + (n - sum of g(e) over F) / g        (rounded up, and at least |F|)

        In a later phase, engines that no earlier phase needs are surely loaded in it (F), and what
        is resident at its start may serve as many works at once as one set that fits contains.
        Loads of different phases add up.
        """
        total, seen = 0, state.resident
        for i, works in enumerate(self._phases):
            waiting = state.todo & works
            if not waiting:
                continue
            needed = self.needed(waiting)
            gain = self._gains[i]
            count = waiting.bit_count()
            fresh = needed & ~seen
            if state.todo & -state.todo & ~works:  # not the first phase that waits
                settled = waiting
                for e in _bits(fresh):
                    settled &= ~self._with[e]
                count -= min(settled.bit_count(), max(gain.inside, default=0))
            best, surely = 1, 0
            for e in _bits(needed):
                most = min(gain.by_load[e], (waiting & self._with[e]).bit_count())
                best = max(best, most)
                if fresh >> e & 1:
                    surely += most
            total += fresh.bit_count() + -(-max(0, count - surely) // best)
            seen |= needed
        return total

    def root_bound(self) -> int:
        """The bound of the whole problem, which starts with nothing resident.

        As `bound`, and sharper for the first phase. Before anything is unloaded, k loads bring a
        set of k engines that fits, and serve at most the works inside such a set, i(k). The other
        engines' first loads serve at most the largest g(e) there are, every further one g:

            loads >= min over k of  E + (n - i(k) - the E - k largest g(e)) / g

        with E the engines of the phase. The same holds for the pairs inside the works in place of
        the works, and the larger of the two bounds is taken.
        """
        if not self._phases:
            return 0
        whole = self.bound(_State(0, self.todo))
        first = self._phases[0]
        later = self.bound(_State(0, self.todo)) - self.bound(_State(0, first))
        masks = self._masks_of(first)
        pairs = sorted({1 << a | 1 << b for m in masks for a, b in combinations(_bits(m), 2)})
        best = 0
        for units in (masks, pairs):
            if not units:
                continue
            gain = self._gains[0] if units is masks else self._gain(units)
            engines = self.needed(first).bit_count()
            largest = sorted(gain.by_load.values(), reverse=True)
            most = max(1, largest[0])
            best = max(
                best,
                min(
                    engines + -(-max(0, len(units) - inside - sum(largest[: engines - k])) // most)
                    for k, inside in enumerate(gain.inside)
                    if k
                ),
            )
        return max(whole, best + later)

    def search(self) -> tuple[list[_Step], int]:
        """A sequence of resident sets that serves everything, and a lower bound of its loads."""
        start = self.settle(0, self.todo)
        if not start.todo:
            return [], 0
        bound = self.root_bound()
        exact = self.count <= _EXACT
        path, proven = self._a_star(start, bound, _EXACT_STATES if exact else _BOUNDED_STATES)
        bound = max(bound, proven)
        if path is not None:
            return path, bound
        self._maximal.clear()
        best = self._cores(start)
        for taste in range(_TASTES):
            if sum(step.loads for step in best) > bound:
                path = self._beam(start, taste)
                best = min(best, path, key=lambda steps: sum(step.loads for step in steps))
        return best, bound

    def rest(self, state: _State) -> int:
        """The fewest loads from `state` on, seats left aside; for up to 6 engines."""
        known = self._rest.get(state)
        if known is None:
            path, known = self._a_star(state, 0, _EXACT_STATES)
            if path is None:
                known = self.bound(state)
            self._rest[state] = known
        return known

    def _a_star(self, start: _State, least: int, limit: int) -> tuple[list[_Step] | None, int]:
        """The cheapest path and its loads; or None and what was proven within `limit` states."""
        came: dict[_State, tuple[_State, _Step]] = {}
        cost = {start: 0}
        # Ties go to what serves more, then to the order of the works as given.
        queue = [(self.bound(start), len(self.masks), -start.todo, start)]
        while queue:
            total, *_, state = heapq.heappop(queue)
            done = cost[state]
            if total > max(least, done + self.bound(state)):
                continue  # reached more cheaply since
            if not state.todo:
                return _walk(came, start, state), done
            phase = self.phase[(state.todo & -state.todo).bit_length() - 1]
            for resident, loads in self.steps(state):
                self._looked += 1
                after = self.settle(resident, state.todo)
                if done + loads < cost.get(after, 1 << 30):
                    cost[after] = done + loads
                    came[after] = (state, _Step(phase, resident, loads))
                    estimate = max(least, done + loads + self.bound(after))
                    left = after.todo.bit_count()
                    heapq.heappush(queue, (estimate, left, -after.todo, after))
            if self._looked > limit:
                return None, min((entry[0] for entry in queue), default=least)
        raise AssertionError("every work fits alone, so some path serves all")

    def _beam(self, start: _State, taste: int) -> list[_Step]:
        """A cheap path: of the states that took the same loads, the most promising go on."""
        came: dict[_State, tuple[_State, _Step]] = {}
        cost = {start: 0}
        levels: dict[int, dict[_State, None]] = {0: {start: None}}
        fan = max(1, len(self.masks) * 3)
        width = max(2, _BEAM_EFFORT // _TASTES // (fan * max(1, len(self.masks) // 2)))
        loads = 0
        while True:
            level = [s for s in levels.pop(loads, ()) if cost[s] == loads]
            for state in level:
                if not state.todo:
                    return _walk(came, start, state)
            level.sort(key=lambda state: self._promise(state, taste))
            for state in level[:width]:
                phase = self.phase[(state.todo & -state.todo).bit_length() - 1]
                for resident, more in self.steps(state, near=1):
                    after = self.settle(resident, state.todo)
                    if loads + more < cost.get(after, 1 << 30):
                        cost[after] = loads + more
                        came[after] = (state, _Step(phase, resident, more))
                        levels.setdefault(loads + more, {})[after] = None
            loads += 1

    def _promise(self, state: _State, taste: int) -> tuple[float, ...]:
        """A guess of the loads to come; smaller goes first. Which is best differs: there are two.

        Works that wait count as loads at their best. An engine that is still wanted, however
        seldom, will cost more than its works: for the second taste the more the oftener.
        """
        best = max(max(gain.by_load.values()) for gain in self._gains)
        guess = state.todo.bit_count() / best
        for e in _bits(self.needed(state.todo)):
            if taste:
                guess += 0.6 * math.sqrt((state.todo & self._with[e]).bit_count())
            else:
                guess += 0.8 if state.resident >> e & 1 else 2.0
        return (guess, *state)

    def _cores(self, start: _State) -> list[_Step]:
        """A cheap path for grids: a core of engines stays while one other after another visits.

        The next core is the one that serves most works a load, grown engine by engine.
        """
        path: list[_Step] = []
        state = start
        while state.todo:
            now = self.current(state.todo)
            phase = self.phase[(now & -now).bit_length() - 1]
            core, visitors = self._core(state.resident, self._masks_of(now))
            while visitors:
                here = visitors & state.resident
                visitor = max(  # the one with most works left goes last, and stays for the next
                    _bits(here or visitors),
                    key=lambda e: (-(state.todo & self._with[e]).bit_count(), -e),
                )
                visitors &= ~(1 << visitor)
                want = 0  # of the core, only what still has works with this visitor
                for mask in self._masks_of(self.current(state.todo)):
                    if not mask & ~(core | 1 << visitor):
                        want |= mask
                if not want & ~state.resident:
                    continue
                resident = max(
                    self._kept(state.resident | want, want, True),
                    key=lambda kept: sum(
                        (state.todo & self._with[e]).bit_count() for e in _bits(kept)
                    ),
                )
                path.append(_Step(phase, resident, (want & ~state.resident).bit_count()))
                state = self.settle(resident, state.todo)
                if state.todo & now == 0:
                    break
        return path

    def _core(self, resident: int, works: Sequence[int]) -> tuple[int, int]:
        """The core and the visitors (masks) that serve most of `works` a load."""
        engines = 0
        for mask in works:
            engines |= mask
        best = (0.0, 0, 0, 0)
        for seed in _bits(engines):
            core = 1 << seed
            while core:
                grown = (-1.0, 0, 0, 0)
                for e in _bits(engines & ~core):
                    found = self._worth(core, resident, works)
                    best = max(best, found)
                    grown = max(grown, self._worth(core | 1 << e, resident, works))
                best = max(best, grown)
                core = grown[2]
        return best[2], best[3]

    def _worth(self, core: int, resident: int, works: Sequence[int]) -> tuple[float, int, int, int]:
        visitors = served = 0
        for mask in works:
            rest = mask & ~core
            if rest & (rest - 1) == 0:
                # A core that is a whole work counts one of its own engines as the visitor.
                rest = rest or mask & -mask
                if visitors & rest or self._floor.fits(core | rest):
                    visitors |= rest
                    served += 1
        if not served:
            return (-1.0, 0, 0, 0)
        loads = ((core | visitors) & ~resident).bit_count()
        return (served / max(1, loads), served, core, visitors)


_TASTES = 2


class _Gain(NamedTuple):
    by_load: dict[int, int]
    """How many works one load of an engine can serve."""
    inside: list[int]
    """How many works a resident set of so many engines can contain."""


class _Step(NamedTuple):
    phase: int
    resident: int
    loads: int


def _walk(came: Mapping[_State, tuple[_State, _Step]], start: _State, state: _State) -> list[_Step]:
    path: list[_Step] = []
    while state != start:
        state, step = came[state]
        path.append(step)
    return path[::-1]


# --- Seats over time -----------------------------------------------------------------------------


def _moves(grids: Sequence[tuple[int, Grid]], floor: _Floor) -> int:
    """Loads that a sequence of grids takes."""
    total, before = 0, floor.empty
    for _, grid in grids:
        total += (_held(grid) & ~floor.kept(before, grid)).bit_count()
        before = grid
    return total


def _seated(path: Sequence[_Step], floor: _Floor) -> list[tuple[int, Grid]]:
    """Seats a path of sets step by step, without looking ahead.

    Engines of no further use stay where they do not stand in the way. If those that should stay
    do, as few as possible are seated anew.
    """
    grids: list[tuple[int, Grid]] = []
    grid = floor.empty
    for step in path:
        new = step.resident & ~_held(grid)
        idle = list(_bits(_held(grid) & ~step.resident))
        before, after = grid, None
        while after is None:
            if floor.fits(_held(grid) | new):
                after = floor.seat(grid, new)
            if after is None:
                if not idle:
                    break
                grid = floor.without(grid, 1 << idle.pop())
        staying = list(_bits(_held(grid)))
        for count in range(1, len(staying) + 1):
            if after is not None:
                break
            for moving in combinations(staying, count):
                mask = sum(1 << e for e in moving)
                after = floor.seat(floor.without(grid, mask), new | mask)
                if after is not None:
                    break
        assert after is not None, "the set fits on the empty cluster"
        grid = _linger(before, after, floor)
        grids.append((step.phase, grid))
    return grids


def _linger(before: Grid, after: Grid, floor: _Floor) -> Grid:
    """`after`, with the engines of `before` that it lacks and whose seats it leaves free."""
    for e in _bits(_held(before) & ~_held(after)):
        own = [(gpu, content.count(e)) for gpu, content in enumerate(before) if e in content]
        if all(floor.room(after, gpu) >= (floor.share[e] or floor.unit) * n for gpu, n in own):
            full = list(after)
            for gpu, n in own:
                full[gpu] = tuple(sorted((*after[gpu], *[e] * n)))
            after = tuple(full)
    return after


def _lingering(grids: Sequence[tuple[int, Grid]], floor: _Floor) -> list[tuple[int, Grid]]:
    """Keeps engines loaded for as long as nobody takes their seats."""
    kept: list[tuple[int, Grid]] = []
    before = floor.empty
    for phase, grid in grids:
        before = _linger(before, grid, floor)
        kept.append((phase, before))
    return kept


def _seat_search(
    sets: _Sets, floor: _Floor, upper: int, bound: int
) -> tuple[list[tuple[int, Grid]] | None, int]:
    """Grids that take fewer loads than `upper`, if there are any, and the bound that is proven.

    A* over what sits where, with equal nodes and GPUs told apart only once. To serve a work, any
    resident engines may leave, also one that the work needs: it is then seated anew.
    """
    start = (floor.shape(floor.empty), sets.todo)
    grids = {start: floor.empty}
    cost = {start: 0}
    came: dict[object, tuple[tuple[tuple[Grid, ...], int], int]] = {}
    queue = [(bound, len(sets.masks), 0, start)]
    effort = _SEAT_STEPS
    while queue:
        total, _, done, key = heapq.heappop(queue)
        if done > cost[key]:
            continue
        todo, grid = key[1], grids[key]
        if not todo:
            found: list[tuple[int, Grid]] = []
            while key != start:
                earlier, phase = came[key]
                found.append((phase, grids[key]))
                key = earlier
            return found[::-1], done
        grid = floor.without(grid, ~sets.needed(todo))
        resident = _held(grid)
        phase = sets.phase[(todo & -todo).bit_length() - 1]
        for mask in sorted({sets.masks[w] for w in _bits(sets.current(todo))}):
            leaving = resident
            while True:
                new = mask & ~(resident & ~leaving)
                stays = resident & ~leaving | mask
                after = sets.settle(stays, todo)
                loads = done + new.bit_count()
                estimate = max(total, loads + sets.bound(after))
                if estimate < upper:
                    estimate = max(estimate, loads + sets.rest(after))
                if estimate < upper and floor.fits(stays):
                    ways, tried = floor.seatings(floor.without(grid, leaving), new, effort)
                    effort -= tried
                    if effort < 0:
                        return None, max(bound, total)
                    for way in ways:
                        following = (floor.shape(way), after.todo)
                        if loads < cost.get(following, 1 << 30):
                            cost[following] = loads
                            grids[following] = way
                            came[following] = (key, phase)
                            left = after.todo.bit_count()
                            heapq.heappush(queue, (estimate, left, loads, following))
                if not leaving:
                    break
                leaving = (leaving - 1) & resident
    return None, upper
