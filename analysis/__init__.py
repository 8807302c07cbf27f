"""The results of sweeps, from Python: `results = analysis.open("results/ml100k")`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from analysis.notebook.frames import Frames

__all__ = ["open"]


def open(where: str | Path) -> Frames:
    """Opens the results in a sweep's output folder: a path, or `s3://bucket/prefix`.

    Raises UsageError if it is not the folder of a sweep, StoreError if it cannot be read.
    """
    from analysis.notebook.frames import Frames

    return Frames(where)
