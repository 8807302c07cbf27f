"""What trainings of this package take from those of recommenders. Imports torch."""

from __future__ import annotations

from agents.recommenders._torch import (
    adam_arrays,
    array_of,
    copied,
    device_of,
    restore_adam,
    restored_weights,
    seeded,
    trainable,
    weight_arrays,
)

__all__ = [
    "adam_arrays",
    "array_of",
    "copied",
    "device_of",
    "restore_adam",
    "restored_weights",
    "seeded",
    "trainable",
    "weight_arrays",
]
