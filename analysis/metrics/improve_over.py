"""Improvement over a baseline in recommendation (RSO, Table V, the column Improve.)."""

from __future__ import annotations

import re

from agents.core.errors import UsageError, near
from analysis import published, sql
from analysis.metrics.core import Metric

__all__ = ["improve_over"]

_PARTS = ("rec_sr", "recall_any@1", "recall_any@5")
_TABLE = "rso/table5"
_RUN = re.compile(r"([A-Za-z][A-Za-z0-9_.]*)=([^']+)")


def improve_over(argument: str | None) -> Metric:
    """`improve_over@published:UniCRS`: the mean relative change of `rec_sr`, `recall_any@1` and
    `recall_any@5` compared with the paper's numbers for UniCRS on the same data set; 0.151 is 15.1
    per cent.

    `improve_over@agent=zero_shot`: compared with our own cells whose axis `agent` has this label,
    on the same cases. Undefined if the baseline has no number for the data set, or a 0 among the
    three.
    """
    text = argument or ""
    if text.startswith("published:"):
        base = _published(text.removeprefix("published:"), text)
    elif found := _RUN.fullmatch(text):
        base = _run(found[1], found[2])
    else:
        shown = f"improve_over@{text}" if text else "improve_over"
        raise UsageError(
            f"metric {shown!r}: expected a baseline, such as improve_over@published:UniCRS or "
            "improve_over@agent=zero_shot"
        )
    change = " + ".join(f"o.{part} / nullif(b.{part}, 0) - 1" for part in ("rec", "one", "five"))
    return Metric(
        "x.num",
        "x.den",
        per_attempt=f"SELECT attempt_id, num, CASE WHEN num IS NOT NULL THEN 1 END AS den FROM "
        f"(SELECT o.attempt_id, ({change}) / 3 AS num FROM ({_OURS}) o JOIN ({base}) b "
        "USING (source_id))",
        needs_probe=True,
        undefined="data sets for which the baseline has no numbers",
    )


_OURS = (
    "SELECT e.attempt_id, e.cell, e.source_id, coalesce(l.recommends, false)::INT AS rec, "
    "coalesce(l.rank <= 1, false)::INT AS one, coalesce(l.rank <= 5, false)::INT AS five "
    f"FROM episodes e LEFT JOIN ({sql.read('last_turn')}) l USING (attempt_id) "
    "WHERE e.status = 'done' OR e.blame = 'agent'"
)
"""SQL: what each episode adds to the three numbers, as headline metrics count it."""


def _run(axis: str, label: str) -> str:
    """SQL: the numbers of the cells whose axis has this label, by their source of cases."""
    quoted, named = axis.replace('"', '""'), label.replace("'", "''")
    return (
        f"SELECT o.source_id, avg(rec) AS rec, avg(one) AS one, avg(five) AS five FROM ({_OURS}) o "
        f"JOIN cells c USING (cell) WHERE c.\"{quoted}\" = '{named}' GROUP BY o.source_id"
    )


def _published(row: str, text: str) -> str:
    """SQL: the published numbers of a row, by the sources of cases from its data sets."""
    table = published.read(_TABLE)
    rows = {one.row for one in table.rows}
    if row not in rows:
        raise UsageError(
            f"metric 'improve_over@{text}': {_TABLE} has no row {row!r}{near(row, rows)} "
            f"(rows: {', '.join(sorted(rows))})"
        )
    values = ", ".join(
        f"('{table.datasets[one.dataset]}', "
        f"{', '.join(repr(one.numbers[part].value) for part in _PARTS)})"
        for one in table.rows
        if one.row == row
    )
    return (
        "SELECT s.source_id, p.rec, p.one, p.five FROM plan_sources s "
        f"JOIN (VALUES {values}) p(dataset, rec, one, five) USING (dataset)"
    )
