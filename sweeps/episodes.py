"""The tasks of kind `episode`: one dialogue each."""

from __future__ import annotations

from typing import NamedTuple

from agents.core.seeds import Seeds
from sweeps.storage.records import EPISODE
from sweeps.streams import Remembered
from sweeps.tasks import Task


class EpisodeSpec(NamedTuple):
    """The case and the seeds of an episode."""

    case_id: str
    seeds: Seeds
    memory: Remembered | None = None
    """In a stream: what its agent remembers."""


def episode_task(episode_id: str, cell: int, seeds: Seeds, case_id: str) -> Task:
    """The first attempt at an episode of the cell at position `cell`."""
    return Task(EPISODE, episode_id, cell, EpisodeSpec(case_id, seeds))


def stream_task(episode_id: str, cell: int, seeds: Seeds, case_id: str, memory: Remembered) -> Task:
    """The first attempt at an episode of a stream."""
    return Task(EPISODE, episode_id, cell, EpisodeSpec(case_id, seeds, memory))
