"""Relevance of replies (DESIRE, section 4.1.3): preference alignment."""

from __future__ import annotations

from analysis.metrics.core import Metric, label_only, turn_mean

__all__ = ["relevance_alignment"]


def relevance_alignment(argument: str | None) -> Metric:
    """`relevance_alignment`: as `relevance`, of preference alignment alone."""
    label = label_only(argument, "relevance_alignment")
    return turn_mean("relevance", ["alignment"], label)
