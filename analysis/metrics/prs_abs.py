"""Persuasiveness by absolute differences, as PC-CRS computes it while it chats."""

from __future__ import annotations

from analysis.metrics.core import JudgeWanted, Metric, label_only
from analysis.sql.verdicts import persuasion

__all__ = ["prs_abs"]


def prs_abs(argument: str | None) -> Metric:
    """`prs_abs`: 1 - |i_true - i_post| / |i_true - i_pre|, and 0 where i_true = i_pre.

    Over all recommendations that were judged; never above 1.
    """
    label = label_only(argument, "prs_abs")
    value = (
        "CASE WHEN i_true = i_pre THEN 0 ELSE 1 - abs(i_true - i_post) / abs(i_true - i_pre) END"
    )
    return Metric(
        "x.num",
        "x.den",
        per_attempt=f"SELECT attempt_id, sum({value}) AS num, count(*) AS den "
        f"FROM ({persuasion()}) GROUP BY ALL",
        judge=JudgeWanted("intention", label),
    )
