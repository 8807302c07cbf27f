"""Sales win rate: accepted items above the user's budget (CSI, section 2.2)."""

from __future__ import annotations

from analysis.metrics.core import Metric, no_argument

__all__ = ["swr"]


def swr(argument: str | None) -> Metric:
    """`swr`: among dialogues that accept an item, the share whose item costs more than the budget.

    Counts are pooled. A price equal to the budget's highest, or below its lowest, is in budget.
    Undefined if nothing is accepted; an accepted item without a price is left out.
    """
    no_argument(argument, "swr")
    return Metric(
        "x.num",
        "x.den",
        per_attempt="SELECT attempt_id, max((over = 'true')::INT) AS num, 1 AS den FROM ("
        "SELECT t.attempt_id, t.user_extra ->> '$.over_budget' AS over FROM turns t "
        "WHERE t.user_decision = 'accept' AND contains(t.user_extra, '\"over_budget\":')) "
        "WHERE over IS NOT NULL GROUP BY attempt_id",
        is_share=True,
        undefined="dialogues that accept nothing, or an item without a price",
    )
