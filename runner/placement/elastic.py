"""What to start and stop when nodes join and leave: pure decisions, repeated at every check.

- A node that joins gets a worker, and replicas of engines whose number is `auto`.
- A node that is draining gets nothing more; what runs there ends normally.
- Replicas of a lost node are started on another one, if there is room.
- GPUs of a type other than the one the engines started on are not used, unless the sweep allows it.
  No more than `most` GPUs are held.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

from runner.placement.packing import exact
from workers.backends.core.backend import ClusterNode

MIN_WORKERS = 2
"""Workers on a cluster of one node: one plays while the other packs and writes."""


class WorkerChanges(NamedTuple):
    """Nodes that get another worker each time they are listed, and workers to end."""

    start: list[str]
    end: list[str]


def worker_changes(nodes: Sequence[ClusterNode], workers: Mapping[str, str]) -> WorkerChanges:
    """Keeps one worker on every node that stays, and at least `MIN_WORKERS`.

    `workers` maps each worker to its node.
    """
    stay = [node.node_id for node in nodes if not node.leaving]
    here = {name: node for name, node in workers.items() if node in stay}
    if not stay:  # keep them, wherever they are: there are no others
        return WorkerChanges([], [])
    each = -(-MIN_WORKERS // len(stay))
    there = Counter(here.values())
    start = [node for node in stay for _ in range(each - there[node])]
    if there.total() >= MIN_WORKERS:
        start = [node for node in stay if not there[node]]
    return WorkerChanges(start, [name for name in workers if name not in here])


@dataclass(frozen=True)
class Serving:
    """A loaded engine. `at` maps replicas to nodes; `wanted` is the target number, None for as many
    as fit."""

    key: str
    gpus: float
    wanted: int | None
    at: Mapping[int, str]


class ReplicaChanges(NamedTuple):
    """(engine, node) of replicas to start, and (engine, replica) of those to end."""

    start: list[tuple[str, str]]
    end: list[tuple[str, int]]


def replica_changes(
    nodes: Sequence[ClusterNode],
    engines: Sequence[Serving],
    most: float | None = None,
    spread: bool = False,
) -> ReplicaChanges:
    """What engines need and nodes have room for, starting with the engine with the fewest replicas.

    A replica goes to the node with least room for it, or with `spread` to the one with the fewest
    replicas of its engine.

    `nodes` are those that engines may use, with the GPUs available to this run. A replica on a
    leaving node ends once another one can be started; one on a lost node ends at once.
    """
    there = {node.node_id for node in nodes}
    stay = {node.node_id for node in nodes if not node.leaving}
    free = {node.node_id: Fraction(node.gpus) for node in nodes if node.node_id in stay}
    held = Fraction(0)
    kept: dict[str, int] = {}
    on = {engine.key: Counter(engine.at.values()) for engine in engines}
    end: list[tuple[str, int]] = []
    for engine in engines:
        good = [index for index, node in engine.at.items() if node in stay]
        kept[engine.key] = len(good)
        for index, node in engine.at.items():
            if node in stay:
                free[node] -= exact(engine.gpus)
                held += exact(engine.gpus)
            else:
                end.append((engine.key, index))
    start: list[tuple[str, str]] = []
    while True:
        short = [e for e in engines if e.wanted is None or kept[e.key] < e.wanted]
        # Engines with a fixed number come first; the others get the rest.
        short.sort(key=lambda e: (e.wanted is None, kept[e.key]))
        found = None
        for engine in short:
            needs = exact(engine.gpus)
            if most is not None and held + needs > exact(most):
                continue
            rooms = [node for node, has in free.items() if _fits(has, needs)]
            if rooms:
                there_are = on[engine.key]
                if spread:
                    best = min(rooms, key=lambda node: (there_are[node], -free[node], node))
                else:
                    best = min(rooms, key=lambda node: (free[node], node))
                found = engine, best
                break
        if found is None:
            break
        engine, node = found
        free[node] -= exact(engine.gpus)
        held += exact(engine.gpus)
        kept[engine.key] += 1
        on[engine.key][node] += 1
        start.append((engine.key, node))
    # The last replica of an engine keeps serving on a leaving node until another one is up.
    last = {key for key, count in kept.items() if count == 0}
    end = [(key, i) for key, i in end if key not in last or _at(engines, key, i) not in there]
    return ReplicaChanges(start, end)


def main_type(nodes: Sequence[ClusterNode]) -> str:
    """The most common GPU type."""
    gpus: Counter[str] = Counter()
    for node in nodes:
        gpus[node.gpu_type] += node.gpus
    return max(gpus, key=lambda kind: (gpus[kind], kind), default="")


def unused_types(nodes: Sequence[ClusterNode]) -> dict[str, int]:
    """GPUs of each other type than the main one, which engines leave alone."""
    gpus: Counter[str] = Counter()
    for node in nodes:
        if node.gpus and node.gpu_type != main_type(nodes):
            gpus[node.gpu_type] += node.gpus
    return dict(gpus)


def of_type(nodes: Sequence[ClusterNode], kind: str) -> list[ClusterNode]:
    """The nodes with GPUs of this type, and those without GPUs."""
    return [node for node in nodes if not node.gpus or node.gpu_type == kind]


def capped(nodes: Sequence[ClusterNode], most: float | None) -> list[ClusterNode]:
    """The nodes with at most `most` GPUs in total: whole nodes, the fullest first."""
    if most is None:
        return list(nodes)
    left, found = math.ceil(most), {}
    for node in sorted(nodes, key=lambda node: -node.gpus):
        found[node.node_id] = min(node.gpus, left)
        left -= found[node.node_id]
    return [node._replace(gpus=found[node.node_id]) for node in nodes]


def without_others(
    nodes: Sequence[ClusterNode], free: Mapping[str, float], mine: Mapping[str, float]
) -> list[ClusterNode]:
    """The nodes with only the GPUs that are `free` or `mine`."""
    return [
        node._replace(
            gpus=min(node.gpus, math.floor(free.get(node.node_id, 0) + mine.get(node.node_id, 0)))
        )
        for node in nodes
    ]


def _fits(free: Fraction, needs: Fraction) -> bool:
    """Whether a replica fits into the free part of a node.

    A share of a GPU must be on a single GPU, and the free part of one may be in use on the others.
    """
    return free >= needs and (free >= 1 or needs <= free % 1)


def _at(engines: Sequence[Serving], key: str, index: int) -> str:
    return next(engine.at[index] for engine in engines if engine.key == key)
