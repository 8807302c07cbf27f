"""Recall as RSO and PC-CRS have it: is any target among the first k of the last turn's ranking?"""

from __future__ import annotations

from analysis import sql
from analysis.metrics.core import Metric, positive

__all__ = ["recall_any"]


def recall_any(argument: str | None) -> Metric:
    """`recall_any@k`: share of dialogues whose last turn ranks a target among the first k.

    Unlike `recall@k` it reads the last turn, not the last ranking that is known: a last turn
    without a ranking counts 0, as in RSO's released evaluation. Agents that only ask are asked what
    they would have recommended.
    """
    depth = positive(argument, "recall_any", "the depth k")
    return Metric(
        "coalesce(x.num, 0)",
        per_attempt=f"SELECT attempt_id, coalesce(rank <= {depth}, false)::INT AS num "
        f"FROM ({sql.read('last_turn')})",
        most=1,
        needs_probe=True,
        depth=depth,
    )
