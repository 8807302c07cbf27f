"""`crsweep judge`: a table of the verdicts in a folder."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from agents.core.plural import many
from analysis.results import Results
from analysis.tables import sheets
from runner.driver.failures import failure_lines, view_line
from sweeps.storage.records import JUDGEMENT


def show_judgements(results: Results, command: str, console: Console) -> None:
    """Prints a row for each judge and dimension, with counts by status and the mean, then the
    failures.

    `command` is the command that judges the folder.
    """
    rows = results.query(
        "SELECT judge, coalesce(dimension, '(failed)'), count(*), "
        "count(*) FILTER (WHERE status = 'valid'), "
        "count(*) FILTER (WHERE status = 'unparsed'), avg(value) "
        "FROM judgements WHERE annotator IS NULL GROUP BY ALL ORDER BY 1, min(task_id), 2"
    ).fetchall()
    other = results.query(
        "SELECT j.judge, count(DISTINCT j.episode_id) FROM all_judgements j "
        "ANTI JOIN plan_judges p ON p.judge_digest = j.judge_digest "
        "WHERE j.annotator IS NULL AND j.status <> 'failed' GROUP BY j.judge ORDER BY j.judge"
    ).fetchall()
    if other:
        named = ", ".join(f"{judge} ({many(count, 'dialogue')})" for judge, count in other)
        console.print(
            f"earlier verdicts are kept, but no table shows them: {named}. Tables show the judges "
            "that judged last; list both (judges=[...]) to see both, which repeats no call",
            markup=False, soft_wrap=True,
        )  # fmt: skip
    if not rows:
        return
    table = Table("judge", "dimension", "verdicts", "valid", "unparsed", "mean", box=None)
    for judge, dimension, count, valid, unparsed, mean in rows:
        shown = "-" if mean is None else f"{mean:.3f}"
        table.add_row(
            escape(judge), escape(dimension), f"{count:,}", f"{valid:,}", f"{unparsed:,}", shown
        )
    sheets.print_whole(table, console)
    failed = failure_lines(results, command, JUDGEMENT)
    for line in (*failed, *([view_line(results)] if failed else [])):
        console.print(line, markup=False, soft_wrap=True)
