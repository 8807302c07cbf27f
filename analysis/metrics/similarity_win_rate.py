"""How often the item that a user accepts is nearer to the target than another variant's (CSI,
Figure 9)."""

from __future__ import annotations

import re

from agents.core.errors import UsageError
from analysis.metrics.core import Metric

__all__ = ["similarity_win_rate"]

_SIMILARITY = (
    "SELECT e.attempt_id, e.cell, e.case_id, e.seed, e.seed_training, e.seed_order, "
    "max((t.user_extra ->> '$.target_similarity')::DOUBLE) AS similarity "
    "FROM episodes e JOIN turns t USING (attempt_id) "
    "WHERE e.status = 'done' AND t.user_decision = 'accept' GROUP BY ALL"
)


def similarity_win_rate(argument: str | None) -> Metric:
    """`similarity_win_rate`: how often an accepted item is more similar to the user's latest target
    than the item accepted in another cell.

    Pairs are dialogues with the same user and seeds in two cells, in which both accept an item; a
    tie counts as half a win, and counts are pooled. `similarity_win_rate@0` compares only with the
    first cell of the plan. The user must record the similarity (`csuser` with `records_similarity:
    true`).
    """
    if argument is not None and not re.fullmatch(r"[0-9]{1,6}", argument):
        raise UsageError(
            f"metric 'similarity_win_rate@{argument}': expected the position of a cell in the "
            "plan, such as similarity_win_rate@0"
        )
    against = None if argument is None else int(argument)
    only = "" if against is None else f" AND b.cell = {against}"
    return Metric(
        "x.num",
        "x.den",
        per_attempt=f"WITH s AS ({_SIMILARITY}) SELECT a.attempt_id, "
        "sum(CASE WHEN a.similarity > b.similarity THEN 1.0 "
        "WHEN a.similarity = b.similarity THEN 0.5 ELSE 0.0 END) AS num, count(*) AS den "
        "FROM s a JOIN s b USING (case_id, seed, seed_training, seed_order) "
        f"WHERE a.cell <> b.cell{only} AND a.similarity IS NOT NULL "
        "AND b.similarity IS NOT NULL GROUP BY a.attempt_id",
        against=against,
        is_share=True,
        undefined="dialogues that accept nothing, or of which no other cell accepts anything"
        if against is None
        else f"those of cell {against} itself, and dialogues that accept nothing here or there",
    )
