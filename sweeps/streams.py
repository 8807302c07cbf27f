"""Streams: the dialogues of an agent with memory, in order, one batch at a time.

- A chain is a cell with one choice of seeds. The seed `order` determines the order of its cases.
- All dialogues of a batch have the memory left by the batches before it.
- The id of an episode depends on the cases of the batches before its own, so a larger sample, with
  a different order, is another chain. The memory's digest is not known before the dialogues are
  played: it is recorded with each episode, and checked when a chain is resumed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from agents.core.seeds import Seeds
from sweeps import identity


class Remembered(NamedTuple):
    """An agent's memory at the beginning of a dialogue. Crosses processes."""

    digest: str
    entries: tuple[str, ...]
    """JSON texts, oldest first."""

    @staticmethod
    def of(entries: Iterable[str]) -> Remembered:
        entries = tuple(entries)
        return Remembered(identity.digest(list(entries)), entries)

    def plus(self, entries: Iterable[str]) -> Remembered:
        """The memory with more entries; itself if there are none."""
        entries = tuple(entries)
        return Remembered.of((*self.entries, *entries)) if entries else self

    def read(self) -> tuple[Any, ...]:
        return tuple(map(json.loads, self.entries))


def entry_text(entry: Any) -> str:
    """The text of one entry; equal entries have equal texts."""
    return identity.canonical(entry)


NOTHING = Remembered.of(())


class Link(NamedTuple):
    """One episode of a chain."""

    episode_id: str
    case_id: str


@dataclass(frozen=True)
class Chain:
    """The episodes of the cell at position `cell` with `seeds`, in batches."""

    cell: int
    seeds: Seeds
    batches: tuple[tuple[Link, ...], ...]


def chain_of(index: int, cell_id: str, case_ids: Sequence[str], seeds: Seeds, batch: int) -> Chain:
    """The chain of a cell with these seeds."""
    order = identity.sample_order(case_ids, seeds.order)
    cases = [case_ids[position] for position in order]
    batches = []
    before = ""
    for start in range(0, len(cases), batch):
        now = cases[start : start + batch]
        batches.append(tuple(Link(_episode_id(cell_id, case, seeds, before), case) for case in now))
        before = identity.digest([before, *sorted(now)])
    return Chain(index, seeds, tuple(batches))


def _episode_id(cell_id: str, case_id: str, seeds: Seeds, before: str) -> str:
    found = identity.episode_id(cell_id, case_id, seeds)
    return identity.digest([found, before])
