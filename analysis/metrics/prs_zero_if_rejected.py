"""Persuasiveness over all dialogues, those without acceptance as 0 (the text of DESIRE, eq. 11)."""

from __future__ import annotations

from analysis.metrics.core import JudgeWanted, Metric, label_only
from analysis.sql.verdicts import accepted_persuasion

__all__ = ["prs_zero_if_rejected"]


def prs_zero_if_rejected(argument: str | None) -> Metric:
    """`prs_zero_if_rejected`, x 100: of the item accepted last; 0 where nothing was accepted.

    Undefined where an acceptance has no valid verdicts, and where i_true = i_pre. Dialogues that
    the agent failed count 0.
    """
    label = label_only(argument, "prs_zero_if_rejected")
    return Metric(
        "CASE WHEN x.accepted THEN 100 * x.p ELSE 0 END",
        "CASE WHEN NOT x.accepted OR x.p IS NOT NULL THEN 1 END",
        per_attempt=accepted_persuasion(),
        digits=2,
        judge=JudgeWanted("intention", label),
        undefined="acceptances without verdicts, or with i_true = i_pre",
    )
