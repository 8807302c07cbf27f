"""Relevance of replies (DESIRE, section 4.1.3): information sufficiency."""

from __future__ import annotations

from analysis.metrics.core import Metric, label_only, turn_mean

__all__ = ["relevance_sufficiency"]


def relevance_sufficiency(argument: str | None) -> Metric:
    """`relevance_sufficiency`: as `relevance`, of information sufficiency alone."""
    label = label_only(argument, "relevance_sufficiency")
    return turn_mean("relevance", ["sufficiency"], label)
