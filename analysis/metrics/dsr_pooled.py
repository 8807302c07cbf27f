"""Decision success rate, pooled over decisions (AF-IRS, section 5.4.1)."""

from __future__ import annotations

from analysis import sql
from analysis.metrics.core import Metric, positive

__all__ = ["dsr_pooled"]


def dsr_pooled(argument: str | None) -> Metric:
    """`dsr_pooled@t`: correct decisions by all decisions of the first t turns.

    Decisions after the episode's end do not exist. An asking turn counts where it is known what the
    agent would have recommended: it reports it, or the probe asked.
    """
    turn = positive(argument, "dsr_pooled", "the number of turns t")
    decisions = sql.read("decisions").format(turn=turn)
    return Metric(
        "x.num",
        "x.den",
        per_attempt=f"SELECT attempt_id, count(*) FILTER (WHERE correct) AS num, count(*) AS den "
        f"FROM ({decisions}) GROUP BY attempt_id",
        needs_probe=True,
    )
