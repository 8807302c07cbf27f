"""Acceptance by strategy (CSI, Figure 8)."""

from __future__ import annotations

import re

from agents.core.errors import UsageError
from analysis.metrics.core import Metric

__all__ = ["acceptance_after"]


def acceptance_after(argument: str | None) -> Metric:
    """`acceptance_after@social_proof`: among turns with this action or strategy, the share whose
    answer accepts an item, pooled over dialogues. Undefined for dialogues without such a turn.

    `acceptance_after@persuade:first`: only the first such turn of each dialogue.
    """
    found = re.fullmatch(r"([a-z][a-z_]*)(:first)?", argument or "")
    if found is None:
        shown = f"acceptance_after@{argument}" if argument else "acceptance_after"
        raise UsageError(
            f"metric {shown!r}: expected an action or a strategy, such as "
            "acceptance_after@social_proof, or acceptance_after@persuade:first"
        )
    turns = f"SELECT * FROM turns WHERE '{found[1]}' IN (action, strategy)"
    if found[2]:
        turns += " QUALIFY row_number() OVER (PARTITION BY attempt_id ORDER BY turn) = 1"
    return Metric(
        "x.num",
        "x.den",
        per_attempt="SELECT attempt_id, "
        "count(*) FILTER (WHERE user_decision = 'accept') AS num, count(*) AS den "
        f"FROM ({turns}) GROUP BY attempt_id",
        is_share=True,
        undefined="dialogues without such a turn",
    )
