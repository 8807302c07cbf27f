"""Persuasiveness as RSO and the evaluation of PC-CRS have it: i_post <= i_true alone."""

from __future__ import annotations

from analysis.metrics.core import JudgeWanted, Metric, label_only
from analysis.sql.verdicts import persuasion

__all__ = ["prs_filtered"]


def prs_filtered(argument: str | None) -> Metric:
    """`prs_filtered`: over recommendations with i_post <= i_true and i_pre <> i_true.

    The filter does not keep it in [0, 1]: it is above 1 where i_true < i_pre, and below 0 where
    the words lower the intention. Notes below a table count what was left out.
    """
    label = label_only(argument, "prs_filtered")
    return Metric(
        "x.num",
        "x.den",
        per_attempt="SELECT attempt_id, sum(p) AS num, count(p) AS den "
        f"FROM ({persuasion()}) WHERE i_post <= i_true GROUP BY ALL",
        judge=JudgeWanted("intention", label),
    )
