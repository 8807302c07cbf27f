"""What the backends without a model, `rules` and `latency`, compute alike."""

from __future__ import annotations

import hashlib

_CHARACTERS_A_TOKEN = 4  # the usual rule of thumb for English


def estimated_tokens(characters: int) -> int:
    """About how many tokens a text of so many characters has."""
    return -(-characters // _CHARACTERS_A_TOKEN)


def unit_hash(data: bytes) -> float:
    """A number in [0, 1) that depends only on `data`."""
    return int.from_bytes(hashlib.blake2b(data, digest_size=7).digest(), "big") / 2**56
