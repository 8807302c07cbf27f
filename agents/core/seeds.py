"""How seeds of calls are derived."""

from __future__ import annotations

import hashlib
from typing import NamedTuple


class Seeds(NamedTuple):
    """The three things that may vary between repetitions.

    `sampling` affects every model call, `training` what agents fit beforehand, `order` the order in
    which agents with memory meet their users.
    """

    sampling: int
    training: int
    order: int


def call_seed(
    sampling: int, scope: str, role: str, step: str, turn: int, draw: int, reask: int
) -> int:
    """SHA-256 of its arguments, cut to 48 bits (exact in every JSON parser).

    The cell is deliberately left out: a user opens with the same message for every agent (common
    random numbers). Retries are left out too, so a retried call has the same seed.
    """
    text = repr((sampling, scope, role, step, turn, draw, reask))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big")
