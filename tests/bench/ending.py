"""The line of JSON that every benchmark ends with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class AtLeast:
    """A figure that should reach its limit."""

    value: float
    limit: float

    @property
    def efficiency(self) -> float:
        return self.value / self.limit


@dataclass(frozen=True)
class AtMost:
    """A figure above 0 that should stay below its limit."""

    value: float
    limit: float

    @property
    def efficiency(self) -> float:
        return self.limit / self.value


def ending(bench: str, figures: Mapping[str, AtLeast | AtMost], **facts: Any) -> str:
    """One line of JSON: what was measured and how, then each figure, its `limit` and `efficiency`.

    An efficiency of 1 or more is good. With several figures `limit` has one for each, and
    `efficiency` is that of the worst.
    """
    limits = {name: figure.limit for name, figure in figures.items()}
    return json.dumps(
        {
            "bench": bench,
            **facts,
            **{name: figure.value for name, figure in figures.items()},
            "limit": limits if len(limits) > 1 else next(iter(limits.values())),
            "efficiency": round(min(figure.efficiency for figure in figures.values()), 3),
        }
    )
