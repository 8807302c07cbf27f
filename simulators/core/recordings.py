"""Dialogues recorded elsewhere, and the labels of people that came with them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from simulators.core.judge import RecordedDialogue

RECORDINGS = "simulators.recordings"


class Label(NamedTuple):
    """A label of a recorded dialogue: of one reply (`turn`, from 1) or of the whole dialogue."""

    dialogue_id: str
    turn: int | None
    dimension: str
    value: float


class Recordings(NamedTuple):
    """Dialogues by their ids, in the order of the file, and their labels."""

    dialogues: dict[str, RecordedDialogue]
    labels: tuple[Label, ...]


RecordingsReader = Callable[[Path], Recordings]
"""The export of each module in `simulators.recordings`. Raises DataError."""
