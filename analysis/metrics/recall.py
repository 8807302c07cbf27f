"""Recall with one relevant item: is a target among the first k of the last known ranking?"""

from __future__ import annotations

from analysis import sql
from analysis.metrics.core import Metric, positive

__all__ = ["recall"]


def recall(argument: str | None) -> Metric:
    """`recall@k`, over episodes with a ranking; of several targets, the best placed counts."""
    depth = positive(argument, "recall", "the depth k")
    return Metric(
        "x.num",
        "x.den",
        per_attempt=f"SELECT attempt_id, CASE WHEN rank <= {depth} THEN 1 ELSE 0 END AS num, "
        f"1 AS den FROM ({sql.read('last_rank')})",
        most=1,
        depth=depth,
    )
