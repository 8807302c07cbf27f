"""Tokens: mean input and output tokens of an episode, by role and step.

Calls of judges belong to the dialogue that they judge, those on a pair to its first side. They have
no columns of their own: each judgement names the attempt that made it, and its calls are stored.

Servers count thinking within the output (workers.backends.openai), so it is not added again.
"""

from __future__ import annotations

import re

from agents.core.errors import UsageError
from analysis.metrics.core import Metric
from analysis.sql.tokens import COUNTED

__all__ = ["tokens"]

_JUDGING = "SELECT DISTINCT judging_id, attempt_id FROM judgements WHERE annotator IS NULL"
_ARGUMENT = re.compile(r"[a-z_]+(\.[\w-]+)*(:[a-z_]+)?", re.ASCII)  # judges have labels


def tokens(argument: str | None) -> Metric:
    """`tokens`: both sides, without probes; `tokens@agent`, `tokens@user`, `tokens@agent.probe`: a
    role and its sub-roles; `tokens@agent:decide`: one step of a role. `tokens@judge`,
    `tokens@judge.relevance`: verdicts that count. `tokens` excludes judges.

    Undefined if a backend counts no tokens, or if a cell has no such call at all.
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
    calls, attempt = "calls c", "c.attempt_id"
    if argument is not None and argument.split(":")[0].split(".")[0] == "judge":
        calls = f"({_JUDGING}) j JOIN calls c ON c.attempt_id = j.judging_id"
        attempt = "j.attempt_id"
    return Metric(
        # An episode without such a call adds nothing to the sum and 1 to the count; one whose
        # answered calls were not counted is left out.
        "x.num",
        "coalesce(x.den, 1)",
        per_attempt=f"SELECT {attempt}, sum({COUNTED}) AS num, "
        f"bool_and({COUNTED} IS NOT NULL OR c.finish_reason IS NULL)::INT AS den FROM {calls} "
        f"WHERE {where} GROUP BY {attempt}",
        better="lower",
        digits=0,
    )
