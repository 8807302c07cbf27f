"""Relevance of replies (DESIRE, section 4.1.3): the mean of its three parts."""

from __future__ import annotations

from analysis.metrics.core import Metric, label_only, turn_mean

__all__ = ["relevance"]


def relevance(argument: str | None) -> Metric:
    """`relevance`: a judge's 1 to 5, the mean over the turns of a dialogue, then over dialogues.

    Undefined for dialogues without a valid verdict.
    """
    label = label_only(argument, "relevance")
    return turn_mean("relevance", ["clarity", "sufficiency", "alignment"], label)
