"""Dialogues that others recorded, and what people said of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from simulators.core.judge import RecordedDialogue

RECORDINGS = "simulators.recordings"


class Label(NamedTuple):
    """What people said of a recorded dialogue: of one reply (`turn`, from 1) or of all of it."""

    dialogue_id: str
    turn: int | None
    dimension: str
    value: float


class Recordings(NamedTuple):
    """Dialogues by their ids, in the order of the file, and the labels that came with them."""

    dialogues: dict[str, RecordedDialogue]
    labels: tuple[Label, ...]


Reader = Callable[[Path], Recordings]
"""What each module of `simulators.recordings` exports. Raises DataError."""
