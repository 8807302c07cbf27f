"""Acceptance by strategy (CSI, Figure 8)."""

from __future__ import annotations

import re

from agents.core.errors import UsageError
from analysis.metrics.core import Metric

__all__ = ["acceptance_after"]


def acceptance_after(argument: str | None) -> Metric:
    """`acceptance_after@social_proof`: of the turns with this action or strategy, those whose
    answer accepts an item, pooled over dialogues. Undefined for dialogues without such a turn."""
    if argument is None or not re.fullmatch(r"[a-z][a-z_]*", argument):
        shown = f"acceptance_after@{argument}" if argument else "acceptance_after"
        raise UsageError(
            f"metric {shown!r}: expected an action or a strategy, such as "
            "acceptance_after@social_proof"
        )
    return Metric(
        "x.num",
        "x.den",
        per_attempt="SELECT attempt_id, "
        "count(*) FILTER (WHERE user_decision = 'accept') AS num, count(*) AS den "
        f"FROM turns WHERE '{argument}' IN (action, strategy) GROUP BY attempt_id",
    )
