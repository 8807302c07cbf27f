"""The line of JSON that every benchmark ends with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class AtLeast:
    """A number that should reach its limit."""

    value: float
    limit: float

    @property
    def efficiency(self) -> float:
        return self.value / self.limit


@dataclass(frozen=True)
class AtMost:
    """A number above 0 that should stay below its limit."""

    value: float
    limit: float

    @property
    def efficiency(self) -> float:
        return self.limit / self.value


def ending(bench: str, measured: Mapping[str, AtLeast | AtMost], **facts: Any) -> str:
    """One line of JSON: what was measured and how, then each number, its `limit` and `efficiency`.

    An efficiency of 1 or more is good. With several numbers, `limit` has one for each, and
    `efficiency` is that of the worst.
    """
    limits = {name: number.limit for name, number in measured.items()}
    return json.dumps(
        {
            "bench": bench,
            **facts,
            **{name: number.value for name, number in measured.items()},
            "limit": limits if len(limits) > 1 else next(iter(limits.values())),
            "efficiency": round(min(number.efficiency for number in measured.values()), 3),
        }
    )
