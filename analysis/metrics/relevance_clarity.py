"""Relevance of replies (DESIRE, section 4.1.3): clarity of expression."""

from __future__ import annotations

from analysis.metrics.core import Metric, label_only, turn_mean

__all__ = ["relevance_clarity"]


def relevance_clarity(argument: str | None) -> Metric:
    """`relevance_clarity`: as `relevance`, of clarity of expression alone."""
    label = label_only(argument, "relevance_clarity")
    return turn_mean("relevance", ["clarity"], label)
