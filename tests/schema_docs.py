"""Writes docs/schema.md, the columns of the views, from the Arrow schemas and their comments.

    python -m tests.schema_docs

Names and types are what DuckDB says of the views; descriptions are the comments in
`sweeps/storage/records.py`. A test compares the page with what this module would write.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from analysis.results import Results
from tests.analysis.builder import Built, grid_of
from tests.conftest import ROOT

PAGE = ROOT / "docs" / "schema.md"
_FIELD = re.compile(r'pa\.field\("(\w+)",.*?\),?(?:\s+# (.*))?$')
_OF_VIEWS = {
    "episodes": (
        "One row per episode of the plan: its earliest `done` attempt, otherwise its latest failed "
        "one. Each axis of the grid is a column too, here `agent` and `roles.agent`; an axis whose "
        "name is taken is `axis.NAME`.",
        "episodes",
    ),
    "turns": ("One row per turn of every attempt. Join on `attempt_id`.", "turns"),
    "calls": ("One row per model call of every attempt, judges' calls included.", "calls"),
    "judgements": (
        "One row per verdict of the plan's judges and of people, on dialogues in `episodes`.",
        "judgements",
    ),
    "cases": ("The cases of the plan.", "cases"),
    "cells": ("The cells of the plan, with a column for each axis.", "cases"),
    "curves": (
        "What was measured while the artifacts of the plan were trained. `artifact` is the name in "
        "the plan, `seed` the training seed.",
        "curves",
    ),
    "rollouts": (
        "One row per attempt at a dialogue of a training loop. It is not an episode: no metric "
        "counts it. Its turns and calls are joined on `attempt_id`.",
        "rollouts",
    ),
    "attempts": ("Every row that was ever committed: what `episodes` selects from.", "episodes"),
}
_OURS = {
    "cell": "position of the cell in the plan, from 0",
    "position": "of the case in the seeded permutation, from 0",
    "agent": "an axis: the label of its value",
    "roles.agent": "an axis: the label of its value",
    "bundle_id": "the file that the row was first written in",
    "driver_epoch": "number of the run that wrote the row",
}


def page() -> str:
    """The text of docs/schema.md."""
    comments = _comments()
    parts = [
        "# The views of `crsweep sql`\n",
        "Written by `python -m tests.schema_docs` from the Arrow schemas; do not edit. Types are "
        "DuckDB's. [results.md](results.md#sql) explains JSON columns,\n[queries.md](queries.md) "
        "has examples.",
    ]
    with tempfile.TemporaryDirectory() as folder:
        built = Built(grid_of("a", backbones=["s"]), seeds=[0])
        results = Results.open(built.write(Path(folder) / "sweep"))
        for view, (words, table) in _OF_VIEWS.items():
            columns = results.query(f"DESCRIBE {view}").fetchall()
            parts.append(f"\n## {view}\n\n{words}\n\n| column | type | |\n|---|---|---|")
            for name, kind, *_ in columns:
                said = _OURS.get(name) or comments[table].get(name, "")
                parts.append(f"| `{name}` | `{kind}` | {said} |")
        results.db.close()
    return "\n".join(parts) + "\n"


def _comments() -> dict[str, dict[str, str]]:
    """Table -> column -> what the comment next to its field says."""
    found: dict[str, dict[str, str]] = {}
    table, above = "", ""
    for line in (ROOT / "sweeps/storage/records.py").read_text(encoding="utf-8").splitlines():
        if opened := re.match(r"([A-Z]+) = pa\.schema\(", line):
            table = opened[1].lower()
        if not table:
            continue
        if field := _FIELD.search(line):
            found.setdefault(table, {})[field[1]] = _escaped(field[2] or above)
            above = ""
        elif comment := re.match(r"\s+# (.*)", line):
            above = f"{above} {comment[1]}".strip()
    return found


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
