"""Convincing acceptance over all dialogues (DESIRE, eq. 12)."""

from __future__ import annotations

from analysis.metrics.core import Metric, convincing_acceptance

__all__ = ["ca_over_all"]

_UNDEFINED = (
    "acceptances of a target without a verdict on credibility, and agents that speak in fixed "
    "sentences"
)


def ca_over_all(argument: str | None) -> Metric:
    """`ca_over_all@TAU`, x 100: the share of dialogues whose last accepted item is a target, with a
    credibility of at least TAU (the mean over turns).

    Undefined where a target was accepted and credibility has no valid verdict.
    """
    return convincing_acceptance("ca_over_all", argument, "true", _UNDEFINED)
