"""Success rate: the share of episodes with success at turn <= t (AF-IRS, section 5.1.4)."""

from __future__ import annotations

from analysis.metrics.core import Metric, positive

__all__ = ["sr"]


def sr(argument: str | None) -> Metric:
    """`sr@t`. What counts as success is the sweep's success rule, stored with every episode."""
    turn = positive(argument, "sr", "the turn t")
    return Metric(f"CASE WHEN e.success_turn <= {turn} THEN 1 ELSE 0 END", most=1, of_success=True)
