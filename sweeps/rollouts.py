"""The tasks of kind `rollout`: dialogues of a training loop, with training users.

They are not episodes: they are committed to a separate table, so no metric sees them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from agents.core.seeds import Seeds
from sweeps import identity
from sweeps.identity import sample_order
from sweeps.storage.records import ROLLOUT
from sweeps.tasks import Task


class RolloutSpec(NamedTuple):
    """One dialogue of a loop."""

    case_id: str
    seeds: Seeds
    loop: str
    """The key of the loop's artifact."""
    name: str
    """The name by which the agent knows it."""
    update: int
    """The update that learns from it, from 1."""
    weights: str
    """The digest of the weights that it is played with."""
    memory: None = None


def weights_key(loop: str) -> str:
    """The key under which workers have the current weights of a loop."""
    return f"{loop}.now"


def rollouts_of(
    loop: str,
    name: str,
    cell: int,
    seed: int,
    cases: Sequence[str],
    update: int,
    numbers: Sequence[int],
    weights: str,
) -> list[Task]:
    """The dialogues of an update; `numbers` are their positions in the whole loop, from 0.

    Users come in an order drawn by the seed: all of them once, then again in another order. Each
    dialogue has its own sampling seed. The digest of the weights is part of the id, so a dialogue
    played with other weights is never taken for this one.
    """
    found = []
    for number in numbers:
        case = case_at(cases, seed, number)
        spec = RolloutSpec(case, _seeds(seed, number), loop, name, update, weights)
        found.append(Task(ROLLOUT, identity.digest([loop, number, weights]), cell, spec))
    return found


def case_at(cases: Sequence[str], seed: int, number: int) -> str:
    """The user of the dialogue at this position in the loop."""
    again, place = divmod(number, len(cases))
    return cases[_order(tuple(cases), seed, again)[place]]


@lru_cache(maxsize=4)
def _order(cases: tuple[str, ...], seed: int, again: int) -> Sequence[int]:
    return sample_order(cases, _number(seed, "order", again))


def _seeds(seed: int, number: int) -> Seeds:
    return Seeds(_number(seed, "sampling", number), seed, 0)


def _number(seed: int, what: str, at: int) -> int:
    text = repr(("rollout", seed, what, at)).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:6], "big")
