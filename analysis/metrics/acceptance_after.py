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

    `acceptance_after@persuade:over_budget`, `acceptance_after@persuade:first:over_budget`: only an
    item that costs more than the user's budget and that this turn showed counts as accepted, so
    that an item offered before, within the budget, is no success of the argument. An acceptance of
    an item without a price is left out, as are answers of users that record no budget.
    """
    found = re.fullmatch(r"([a-z][a-z_]*)(:first)?(:over_budget)?", argument or "")
    if found is None:
        shown = f"acceptance_after@{argument}" if argument else "acceptance_after"
        raise UsageError(
            f"metric {shown!r}: expected an action or a strategy, such as "
            "acceptance_after@social_proof, acceptance_after@persuade:first, or "
            "acceptance_after@persuade:first:over_budget"
        )
    turns = f"SELECT * FROM turns WHERE '{found[1]}' IN (action, strategy)"
    if found[2]:
        turns += " QUALIFY row_number() OVER (PARTITION BY attempt_id ORDER BY turn) = 1"
    accepts, counted = "user_decision = 'accept'", "true"
    if found[3]:
        over = "user_extra ->> '$.over_budget'"
        counted = (
            f"contains(user_extra, '\"over_budget\":') AND (NOT {accepts} OR {over} IS NOT NULL)"
        )
        here = "list_contains((user_extra -> '$.shown_in')::INT[], turn)"
        accepts += f" AND {over} = 'true' AND {here}"
    return Metric(
        "x.num",
        "x.den",
        per_attempt="SELECT attempt_id, "
        f"count(*) FILTER (WHERE {accepts}) AS num, count(*) FILTER (WHERE {counted}) AS den "
        f"FROM ({turns}) GROUP BY attempt_id",
        is_share=True,
        undefined="dialogues without such a turn"
        + (
            ", or whose answer has no budget or accepts an item without a price" if found[3] else ""
        ),
    )
