"""Average turns: a failure counts T+1 turns (AF-IRS: its Table 2 rows fit)."""

from __future__ import annotations

from analysis.metrics.core import SAME_LIMIT, Metric, no_argument

__all__ = ["at_fail_plus_1"]


def at_fail_plus_1(argument: str | None) -> Metric:
    """`at_fail_plus_1`: a success counts its turn, a failure counts T+1. T: the limit of turns."""
    no_argument(argument, "at_fail_plus_1")
    return Metric(
        "coalesce(e.success_turn, e.max_turns + 1)",
        SAME_LIMIT,
        better="lower",
        digits=2,
        of_success=True,
    )
