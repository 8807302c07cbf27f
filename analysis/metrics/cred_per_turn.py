"""Credibility of claims against item facts (PC-CRS, RSO): the mean per turn."""

from __future__ import annotations

from analysis.metrics.core import Metric, label_only, turn_mean

__all__ = ["cred_per_turn"]


def cred_per_turn(argument: str | None) -> Metric:
    """`cred_per_turn`: a judge's 1 to 5, the mean over the turns that claim something, then over
    dialogues.

    Undefined for dialogues without such a turn or a valid verdict.
    """
    return turn_mean("credibility", ["credibility"], label_only(argument, "cred_per_turn"))
