"""The published figures, as files and by name."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter

from agents.core import plugins
from agents.core.errors import UsageError
from analysis import published
from analysis.metrics.core import parse
from sweeps.schema import CellConfig

DATASETS = ["ML-1M", "Amazon-Beauty", "Steam"]
METRICS = ["sr@1", "sr@3", "sr@5", "at_fail_plus_1"]
# The paper's own lines, a second time.
TABLE_2 = """
Zero-shot 0.06 0.46 0.71 3.87 0.00 0.08 0.15 5.61 0.22 0.57 0.67 3.51
ReAct 0.05 0.44 0.68 4.03 0.00 0.10 0.15 5.59 0.25 0.52 0.64 3.55
ChatCRS 0.05 0.52 0.79 3.72 0.07 0.26 0.35 4.86 0.12 0.41 0.57 4.09
RAH 0.22 0.55 0.74 3.40 0.13 0.22 0.34 4.84 0.34 0.59 0.68 3.17
LLMCRS 0.16 0.53 0.67 3.73 0.15 0.22 0.30 4.92 0.23 0.52 0.64 3.55
InteRecAgent 0.10 0.24 0.41 4.76 0.23 0.44 0.54 3.93 0.15 0.37 0.48 4.31
MACRec 0.04 0.19 0.46 4.89 0.20 0.40 0.52 4.09 0.19 0.39 0.61 4.00
Ours 0.27 0.68 0.81 3.13 0.29 0.52 0.65 3.50 0.52 0.78 0.88 2.27
"""
TABLE_3 = """
Ours 0.27 0.68 0.81 3.13 0.29 0.52 0.65 3.50 0.52 0.78 0.88 2.27
w/o_Action-First 0.24 0.57 0.75 3.47 0.17 0.46 0.47 4.40 0.37 0.67 0.73 2.95
w/o_LLM2RS 0.22 0.54 0.66 3.64 0.12 0.25 0.32 4.85 0.36 0.61 0.68 3.18
w/o_LLM-refine 0.06 0.26 0.36 4.84 0.09 0.23 0.37 5.02 0.28 0.49 0.56 3.74
"""


@pytest.mark.parametrize(("name", "text"), [("table2", TABLE_2), ("table3", TABLE_3)])
def test_every_figure_of_af_irs_is_there_as_printed(name, text):
    table = published.read(f"af_irs/{name}")
    found = {
        (row.dataset, row.row, metric): figure.text
        for row in table.rows
        for metric, figure in row.figures.items()
    }
    lines = [line.split() for line in text.split("\n") if line]
    expected = {
        (dataset, name.replace("_", " "), metric): values[4 * d + m]
        for name, *values in lines
        for d, dataset in enumerate(DATASETS)
        for m, metric in enumerate(METRICS)
    }
    assert found == expected
    assert table.metrics == METRICS


def test_what_the_paper_says_of_its_gains_follows_from_the_figures():
    rows = {(r.dataset, r.row): r.figures for r in published.read("af_irs/table2").rows}
    for dataset, more, fewer in [  # section 5.2
        ("ML-1M", 2.53, 7.9),
        ("Amazon-Beauty", 20.37, 10.9),
        ("Steam", 29.41, 28.4),
    ]:
        others = [figures for place, figures in rows.items() if place[0] == dataset]
        ours = rows[dataset, "Ours"]
        others.remove(ours)
        best = max(f["sr@5"].value for f in others)
        assert round(100 * (ours["sr@5"].value / best - 1), 2) == more
        least = min(f["at_fail_plus_1"].value for f in others)
        assert round(100 * (1 - ours["at_fail_plus_1"].value / least), 1) == fewer


def test_only_the_papers_own_method_is_marked_significant():
    for row in published.read("af_irs/table2").rows:
        for figure in row.figures.values():
            assert ("significant" in figure.marks) == (row.row == "Ours")


@pytest.mark.parametrize("name", published.names())
def test_every_table_uses_words_that_exist(name):
    table = published.read(name)
    assert [parse(metric).name for metric in table.metrics] == table.metrics
    assert {row.dataset for row in table.rows} == set(table.datasets)
    assert {row.row for row in table.rows} == set(table.agents)
    for row in table.rows:
        assert set(row.figures) == set(table.metrics)
        paths = set(row.settings) - {"backbone", "temperature", "cases", "repetitions"}
        assert {path.split(".")[0] for path in paths} <= set(CellConfig.model_fields)
        for path in paths:
            head, _, option = path.partition(".")
            if head in ("cases", "limits"):
                kind = CellConfig.model_fields[head].annotation
                assert option in TypeAdapter(kind).json_schema()["properties"]


@pytest.mark.parametrize(
    "wanted",
    [agent for name in published.names() for agent in published.read(name).agents.values()],
    ids=lambda wanted: "-".join(map(str, wanted.values())),
)
def test_a_row_stands_for_an_agent_with_such_options(wanted):
    pytest.importorskip(f"agents.{wanted['name']}")
    cls = plugins.load("agents", wanted["name"], "agent")
    options = {key: value for key, value in wanted.items() if key != "name"}
    assert plugins.build_options(cls.Options, options)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("af_irs/tabel2", "no published table is called 'af_irs/tabel2'; did you mean 'af_irs/tab"),
        ("af_irs", "(known: af_irs/table2, af_irs/table3)"),
        ("../af_irs/table2", "(known: af_irs/table2, af_irs/table3)"),
        ("af_irs/fig5", "Figure 5 is a plot without numbers"),
        ("af_irs/table1", "`crsweep plan` prints them"),
    ],
)
def test_an_unknown_name_is_refused_with_what_there_is(name, expected):
    with pytest.raises(UsageError) as caught:
        published.read(name)
    assert expected in caught.value.message
