"""Tokens: mean input and output tokens of an episode, by role and step.

Servers count thinking within the output (workers.backends.openai), so it is not added again.
"""

from __future__ import annotations

import re

from agents.core.calls import MOST_TOKENS
from agents.core.errors import UsageError
from analysis.metrics.core import Metric

__all__ = ["tokens"]

_ARGUMENT = re.compile(r"[a-z_]+(\.[a-z_]+)*(:[a-z_]+)?")


def tokens(argument: str | None) -> Metric:
    """`tokens`: both sides, probes left out; `tokens@agent`, `tokens@user`, `tokens@agent.probe`:
    a role and what falls back to it; `tokens@agent:decide`: one step of a role.

    Undefined where a backend counts no tokens, or where a cell has no such call at all.
    """
    if argument is None:
        where = "NOT ends_with(c.role, '.probe')"
    elif _ARGUMENT.fullmatch(argument):
        role, _, step = argument.partition(":")
        where = f"(c.role = '{role}' OR starts_with(c.role, '{role}.'))"
        if not role.endswith(".probe"):
            where += " AND NOT ends_with(c.role, '.probe')"
        if step:
            where += f" AND c.step = '{step}'"
    else:
        raise UsageError(
            f"metric 'tokens@{argument}': expected tokens@agent or tokens@agent:decide"
        )
    # Impossible counts, which earlier versions stored, are as unknown as none; sums may be large.
    counted = (
        f"CASE WHEN c.input_tokens BETWEEN 0 AND {MOST_TOKENS} "
        f"AND c.output_tokens BETWEEN 0 AND {MOST_TOKENS} "
        "THEN c.input_tokens::BIGINT + c.output_tokens END"
    )
    return Metric(
        # An episode without such a call adds nothing to the sum and 1 to the count; one whose
        # answered calls were not counted is left out.
        "x.num",
        "coalesce(x.den, 1)",
        per_attempt=f"SELECT c.attempt_id, sum({counted}) AS num, "
        f"bool_and({counted} IS NOT NULL OR c.finish_reason IS NULL)::INT AS den FROM calls c "
        f"WHERE {where} GROUP BY c.attempt_id",
        better="lower",
        digits=0,
    )
