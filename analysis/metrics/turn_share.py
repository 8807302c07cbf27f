"""Shares of turns by action or strategy (CSI, Figure 7; RSO, Figure 3)."""

from __future__ import annotations

import re

from agents.core.errors import UsageError
from analysis.metrics.core import Metric, part_of_dialogue

__all__ = ["turn_share"]

_ARGUMENT = re.compile(r"([A-Za-z]+(?:[ _][A-Za-z]+)*)(?::([1-9])/([2-9]|10))?")


def turn_share(argument: str | None) -> Metric:
    """`turn_share@persuade`, `turn_share@Opinion Inquiry`: of all turns, those whose action or
    strategy has this name, pooled over dialogues.

    `turn_share@persuade:1/3`: of the turns in the first third of their dialogue, by their middle
    (`part_of_dialogue`). Undefined for dialogues without such turns.
    """
    found = _ARGUMENT.fullmatch(argument or "")
    if found is None or (found[2] and int(found[2]) > int(found[3])):
        shown = f"turn_share@{argument}" if argument else "turn_share"
        raise UsageError(
            f"metric {shown!r}: expected an action or a strategy, such as turn_share@persuade, or "
            "turn_share@persuade:1/3 for the first third of each dialogue"
        )
    name, part, parts = found[1], int(found[2] or 1), int(found[3] or 1)
    inside = f"{part_of_dialogue(parts)} = {part}"
    return Metric(
        "x.num",
        "x.den",
        per_attempt="SELECT t.attempt_id, "
        f"count(*) FILTER (WHERE '{name}' IN (t.action, t.strategy)) AS num, count(*) AS den "
        f"FROM turns t JOIN episodes e USING (attempt_id) WHERE t.turn > 0 AND {inside} "
        "GROUP BY t.attempt_id",
        better=None,
        is_share=True,
    )
