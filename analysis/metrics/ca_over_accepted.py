"""Convincing acceptance over dialogues that accept an item (PC-CRS)."""

from __future__ import annotations

from analysis.metrics.core import Metric, convincing_acceptance

__all__ = ["ca_over_accepted"]

_UNDEFINED = (
    "dialogues without acceptance, acceptances of a target without a verdict, and agents that "
    "speak in fixed sentences"
)


def ca_over_accepted(argument: str | None) -> Metric:
    """`ca_over_accepted@TAU`, x 100: as `ca_over_all`, over dialogues that accept an item.

    The evaluation of PC-CRS does not ask whether the item is right, and takes the credibility of
    the last reply; here both are as in `ca_over_all`.
    """
    return convincing_acceptance("ca_over_accepted", argument, "x.accepted", _UNDEFINED)
