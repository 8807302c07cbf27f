"""Recommendation success rate: the last turn recommends a target (RSO, Table V; PC-CRS)."""

from __future__ import annotations

from analysis import sql
from analysis.metrics.core import Metric, no_argument

__all__ = ["rec_sr"]


def rec_sr(argument: str | None) -> Metric:
    """`rec_sr`: share of dialogues whose last turn shows a target. One that shows nothing counts 0.

    RSO's targets are all items of the wanted genres (`domain.targets: genre`); with `targets:
    recommended` there is one.
    """
    no_argument(argument, "rec_sr")
    return Metric(
        "coalesce(x.num, 0)",
        per_attempt=f"SELECT attempt_id, recommends::INT AS num FROM ({sql.read('last_turn')})",
        most=1,
    )
