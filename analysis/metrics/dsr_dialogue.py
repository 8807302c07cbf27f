"""Decision success rate, the mean of each dialogue's own share (AF-IRS, section 5.4.1)."""

from __future__ import annotations

from analysis import sql
from analysis.metrics.core import Metric, positive

__all__ = ["dsr_dialogue"]


def dsr_dialogue(argument: str | None) -> Metric:
    """`dsr_dialogue@t`: like `dsr_pooled@t`, but every dialogue weighs the same."""
    turn = positive(argument, "dsr_dialogue", "the number of turns t")
    decisions = sql.read("decisions").format(turn=turn)
    return Metric(
        "x.num",
        "x.den",
        per_attempt="SELECT attempt_id, avg(correct::INT) AS num, "
        "CASE WHEN bool_and(correct IS NOT NULL) THEN 1 END AS den "
        f"FROM ({decisions}) GROUP BY attempt_id",
        needs_probe=True,
    )
