"""Decision success rate, pooled over decisions (AF-IRS, section 5.4.1)."""

from __future__ import annotations

from analysis import sql
from analysis.metrics.core import Metric, positive

__all__ = ["dsr_pooled"]


def dsr_pooled(argument: str | None) -> Metric:
    """`dsr_pooled@t`: correct decisions divided by all decisions of the first t turns.

    Decisions after the episode's end do not count. If it is unknown what the agent would have
    recommended in an asking turn (it does not say, and no probe asked), the episode is undefined:
    counting only its other turns would favour agents that ask.
    """
    turn = positive(argument, "dsr_pooled", "the number of turns t")
    decisions = sql.read("decisions").format(turn=turn)
    return Metric(
        "x.num",
        "x.den",
        per_attempt="SELECT attempt_id, count(*) FILTER (WHERE correct) AS num, "
        "CASE WHEN bool_and(correct IS NOT NULL) THEN count(*) END AS den "
        f"FROM ({decisions}) GROUP BY attempt_id",
        needs_probe=True,
    )
