"""Watching intention: how much the user wants what was recommended, after the dialogue (RSO)."""

from __future__ import annotations

from analysis.metrics.core import JudgeWanted, Metric, label_only
from analysis.sql.verdicts import intention_after

__all__ = ["wi"]


def wi(argument: str | None) -> Metric:
    """`wi`, from 1 to 5: the judge `intention`'s `post`, the mean over dialogues.

    RSO judges the item that was recommended last by the whole dialogue: `{name: intention, item:
    last_recommended, words: dialogue}`. Undefined for dialogues without such an item or a valid
    verdict.
    """
    return Metric(
        "x.num",
        "x.den",
        per_attempt=intention_after(),
        digits=2,
        judge=JudgeWanted("intention", label_only(argument, "wi")),
        undefined="dialogues that recommend nothing, or without a valid verdict",
    )
