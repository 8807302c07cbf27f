"""Persuasiveness over dialogues with acceptance (DESIRE, eq. 11, without its zeros)."""

from __future__ import annotations

from analysis.metrics.core import JudgeWanted, Metric, label_only
from analysis.sql.verdicts import accepted_persuasion

__all__ = ["prs_over_accepted"]


def prs_over_accepted(argument: str | None) -> Metric:
    """`prs_over_accepted`, x 100: of the item accepted last, over dialogues that accept one.

    Undefined where an acceptance has no valid verdicts, and where i_true = i_pre.
    """
    label = label_only(argument, "prs_over_accepted")
    return Metric(
        "100 * x.p",
        "CASE WHEN x.accepted AND x.p IS NOT NULL THEN 1 END",
        per_attempt=accepted_persuasion(),
        digits=2,
        judge=JudgeWanted("intention", label),
        undefined="dialogues without acceptance, without verdicts, or with i_true = i_pre",
    )
