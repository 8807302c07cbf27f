"""Hit rate of candidates: did a tool's list for the model contain a target? (AF-IRS 5.4.2)"""

from __future__ import annotations

import re

from agents.core.errors import UsageError
from analysis.metrics.core import Metric

__all__ = ["hr"]

_ARGUMENT = re.compile(r"([1-9]\d*)_(turn|session)")


def hr(argument: str | None) -> Metric:
    """`hr@50_turn`: share of turns with candidates whose first 50 contain a target;
    `hr@50_session`: share of dialogues with candidates in which any turn's do.

    Undefined, not 0, for agents without a tool. Lists are not padded.
    """
    found = _ARGUMENT.fullmatch(argument or "")
    if found is None:
        shown = f"hr@{argument}" if argument else "hr"
        raise UsageError(f"metric {shown!r}: expected hr@50_turn or hr@50_session")
    depth, unit = int(found[1]), found[2]
    hit = f"coalesce(best_place(t.candidates, e.targets) <= {depth}, false)"
    num, den = ("count(*) FILTER (WHERE hit)", "count(*)")
    if unit == "session":
        num, den = ("max(hit::INT)", "1")
    return Metric(
        "x.num",
        "x.den",
        per_attempt=f"SELECT attempt_id, {num} AS num, {den} AS den FROM ("
        f"SELECT t.attempt_id, {hit} AS hit FROM turns t JOIN episodes e USING (attempt_id) "
        "WHERE t.candidates IS NOT NULL) GROUP BY attempt_id",
        most=1 if unit == "session" else None,
    )
