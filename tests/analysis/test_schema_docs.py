"""The pages on views and queries say what is so."""

from __future__ import annotations

import re

from analysis.results import Results
from sweeps.storage.records import SCHEMAS
from tests import schema_docs
from tests.analysis.builder import messy
from tests.conftest import ROOT


def test_the_page_of_the_views_is_what_the_schemas_say():
    page = schema_docs.page()
    assert schema_docs.PAGE.read_text(encoding="utf-8") == page, "run python -m tests.schema_docs"
    for schema in SCHEMAS.values():
        for name in schema.names:
            assert f"| `{name}` |" in page
    assert "| `success_turn` | `SMALLINT` | 1-based; null without success |" in page


def test_each_of_the_ten_queries_runs_and_finds_something(tmp_path):
    built = messy(3, cases=9)
    judge = built.judge("clarity", "clear")
    for episode in built.rows["episodes"]:
        if episode["status"] == "done":
            built.verdict(judge, episode, "clear", 3)
    for call in built.rows["calls"][::5]:
        call["valid"] = False
    results = Results.open(built.write(tmp_path / "sweep"))
    results.confine("1GB")
    queries = re.findall(r"```sql\n(.*?)```", (ROOT / "docs/queries.md").read_text(), re.DOTALL)
    assert len(queries) == 10
    found = [len(results.select(query)[1]) for query in queries]
    assert [number for number, rows in enumerate(found, start=1) if not rows] in ([], [7])
