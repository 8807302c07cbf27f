"""NDCG with one relevant item: 1 / log2(rank + 1), the rank counted from 1."""

from __future__ import annotations

from analysis import sql
from analysis.metrics.core import Metric, positive

__all__ = ["ndcg"]


def ndcg(argument: str | None) -> Metric:
    """`ndcg@k`, over episodes with a ranking; of several targets, the best placed counts."""
    depth = positive(argument, "ndcg", "the depth k")
    gain = f"CASE WHEN rank <= {depth} THEN 1 / log2(rank + 1) ELSE 0 END"
    return Metric(
        "x.num",
        "x.den",
        per_attempt=f"SELECT attempt_id, {gain} AS num, 1 AS den FROM ({sql.read('last_rank')})",
        depth=depth,
    )
