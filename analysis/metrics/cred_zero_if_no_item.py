"""Credibility of claims against item facts, where a dialogue that names no item counts 0 (RSO)."""

from __future__ import annotations

from analysis.metrics.core import JudgeWanted, Metric, label_only
from analysis.sql.verdicts import turn_scores

__all__ = ["cred_zero_if_no_item"]

_SHOWN = (
    "SELECT attempt_id, coalesce(max(len(shown)), 0) > 0 AS shows FROM turns GROUP BY attempt_id"
)


def cred_zero_if_no_item(argument: str | None) -> Metric:
    """`cred_zero_if_no_item`: as `cred_per_turn`, but 0 for dialogues that recommend nothing.

    RSO's released evaluation does this, so a system that never recommends has a credibility of 0
    (Table IV, QwenCRS on INSPIRED). Undefined for dialogues with items and without a valid verdict.
    """
    return Metric(
        "coalesce(x.score, 0)",
        "CASE WHEN x.score IS NOT NULL OR NOT x.shows THEN 1 END",
        per_attempt=f"SELECT s.attempt_id, s.shows, v.score FROM ({_SHOWN}) s "
        f"LEFT JOIN ({turn_scores(['credibility'])}) v USING (attempt_id)",
        digits=2,
        judge=JudgeWanted("credibility", label_only(argument, "cred_zero_if_no_item")),
        undefined="dialogues with items of which no verdict is valid",
    )
