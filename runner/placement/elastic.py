"""What to start and to end when nodes come and go: pure decisions, made again at each look.

- A node that joins gets a worker, and replicas of engines whose number is `auto`.
- A node that announces its end (it drains) gets nothing more; what is on it ends in good order.
- What was on a node that is gone is started on another one, where there is room.
- GPUs of another type than those that the engines of the run began on are left alone, unless the
  sweep allows it; no more GPUs are held than `most`.
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

LEAST_WORKERS = 2
"""On a cluster of one node: one plays while the other packs and writes."""


class WorkerChanges(NamedTuple):
    """Nodes that get one more worker each time they are named, and workers that are to end."""

    start: list[str]
    end: list[str]


def worker_changes(nodes: Sequence[ClusterNode], workers: Mapping[str, str]) -> WorkerChanges:
    """`workers` maps each to its node. One on every node that stays, `LEAST_WORKERS` in all."""
    stay = [node.node_id for node in nodes if not node.leaving]
    here = {name: node for name, node in workers.items() if node in stay}
    if not stay:  # wherever they are, they are all that there is
        return WorkerChanges([], [])
    each = -(-LEAST_WORKERS // len(stay))
    there = Counter(here.values())
    start = [node for node in stay for _ in range(each - there[node])]
    if there.total() >= LEAST_WORKERS:
        start = [node for node in stay if not there[node]]
    return WorkerChanges(start, [name for name in workers if name not in here])


@dataclass(frozen=True)
class Serving:
    """An engine that is loaded. `at` maps replicas to their nodes; `wanted` is how many there are
    to be, None for as many as there is room for."""

    key: str
    gpus: float
    wanted: int | None
    at: Mapping[int, str]


class ReplicaChanges(NamedTuple):
    """(engine, node) of replicas to start, and (engine, replica) of those to end."""

    start: list[tuple[str, str]]
    end: list[tuple[str, int]]


def replica_changes(
    nodes: Sequence[ClusterNode], engines: Sequence[Serving], most: float | None = None
) -> ReplicaChanges:
    """What engines need and nodes have room for, the engine with the fewest replicas first.

    `nodes` are those that engines may use, with the GPUs that this run may take there. A replica
    whose node is gone or leaves is ended once another one can be started, or if its node is gone.
    """
    there = {node.node_id for node in nodes}
    stay = {node.node_id for node in nodes if not node.leaving}
    free = {node.node_id: Fraction(node.gpus) for node in nodes if node.node_id in stay}
    held = Fraction(0)
    kept: dict[str, int] = {}
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
        # Those with a number come first: what is left over is for the others.
        short.sort(key=lambda e: (e.wanted is None, kept[e.key]))
        found = None
        for engine in short:
            needs = exact(engine.gpus)
            if most is not None and held + needs > exact(most):
                continue
            rooms = [node for node, has in free.items() if _fits(has, needs)]
            if rooms:
                found = engine, max(rooms, key=lambda node: (free[node], node))
                break
        if found is None:
            break
        engine, node = found
        free[node] -= exact(engine.gpus)
        held += exact(engine.gpus)
        kept[engine.key] += 1
        start.append((engine.key, node))
    # On a node that leaves, the last replica of an engine serves until another one is there.
    last = {key for key, count in kept.items() if count == 0}
    end = [(key, i) for key, i in end if key not in last or _at(engines, key, i) not in there]
    return ReplicaChanges(start, end)


def main_type(nodes: Sequence[ClusterNode]) -> str:
    """The type that most GPUs have."""
    gpus: Counter[str] = Counter()
    for node in nodes:
        gpus[node.gpu_type] += node.gpus
    return max(gpus, key=lambda kind: (gpus[kind], kind), default="")


def of_type(nodes: Sequence[ClusterNode], kind: str) -> list[ClusterNode]:
    """The nodes with GPUs of this type, and those without any."""
    return [node for node in nodes if not node.gpus or node.gpu_type == kind]


def capped(nodes: Sequence[ClusterNode], most: float | None) -> list[ClusterNode]:
    """The nodes with no more GPUs in all than `most`: whole ones, of the fullest nodes first."""
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
    """The nodes with the GPUs that are `free` there or `mine`, and not those that others hold."""
    return [
        node._replace(
            gpus=min(node.gpus, math.floor(free.get(node.node_id, 0) + mine.get(node.node_id, 0)))
        )
        for node in nodes
    ]


def _fits(free: Fraction, needs: Fraction) -> bool:
    """Whether a replica fits into what is free of a node: a share of a GPU sits on one GPU, and
    what is free of one may be in use on the others."""
    return free >= needs and (free >= 1 or needs <= free % 1)


def _at(engines: Sequence[Serving], key: str, index: int) -> str:
    return next(engine.at[index] for engine in engines if engine.key == key)
