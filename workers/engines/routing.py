"""Which replica takes a call: consistent hashing with bounded loads.

The calls of one dialogue share a growing prefix, and a user opens the same way with every agent. So
all calls of one (seed, case) go to one replica, whose KV cache holds the prefix. If a replica is
added or removed, only its share of the dialogues moves. A replica that is loaded above its share
passes calls on to the next on the ring (Mirrokni, Thorup, Zadimoghaddam 2018).
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable, Sequence

from sweeps.identity import number

_POINTS = 64  # on the ring for each replica: shares are even within a few per cent
_SLACK = 1.25  # times its share that a replica may hold before calls move on
_LEAST = 4  # calls that never count as loaded


class Ring:
    """Replicas on a ring of hashes. Immutable."""

    def __init__(self, replicas: Iterable[int]) -> None:
        points = [(number(f"{r}/{i}"), r) for r in replicas for i in range(_POINTS)]
        points.sort()
        self._hashes = [h for h, _ in points]
        self._owners = [r for _, r in points]
        self.size = len(set(self._owners))

    def order(self, key: str) -> list[int]:
        """All replicas, in the order of preference for this route."""
        start = bisect.bisect(self._hashes, number(key))
        seen: dict[int, None] = {}
        for step in range(len(self._owners)):
            seen.setdefault(self._owners[(start + step) % len(self._owners)])
            if len(seen) == self.size:
                break
        return list(seen)


def choose(order: Sequence[int], load: Callable[[int], int], room: int) -> int | None:
    """The replica of `order` that takes the next call; None if all are full.

    `load` gives the current calls of each, `room` the maximum.
    """
    loads = [load(replica) for replica in order]
    share = _SLACK * (sum(loads) + 1) / len(order)
    bound = min(room, max(_LEAST, share))
    # The least loaded one is below its share, so None means that all have `room` calls.
    return next((r for r, has in zip(order, loads, strict=True) if has < bound), None)
