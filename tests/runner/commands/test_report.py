"""`crsweep report`: the files that it writes."""

from __future__ import annotations

import json

import pytest

from agents.core.errors import UsageError
from runner.commands.report import show_report
from tests.analysis.report.test_page import sweep
from tests.runner.commands.test_results import printed, screen
from tests.sweep_files import write_sweep


def written(folder, file=None, **options) -> str:
    console = screen()
    given = {"out": None, "assets": None, "dialogues": 1, **options}
    show_report(str(folder), file, console=console, **given)
    return printed(console)


def test_tables_and_figures_are_files_of_their_own(tmp_path):
    folder = sweep(tmp_path / "r")
    tables = {"main": {"rows": ["agent"], "ties": "agent"}}
    figures = {"line": {"kind": "seeds"}, "none": {"kind": "shares", "of": "strategy"}}
    file = write_sweep(tmp_path, tables=tables, figures=figures)
    out = tmp_path / "page.html"
    said = written(folder, file, out=out, assets=tmp_path / "paper")
    assert "1 table, 1 figure" in said
    assert "not made: none: no turn has a value of strategy" in said
    assert sorted(p.name for p in (tmp_path / "paper").iterdir()) == [
        "line.pdf", "main.csv", "main.tex",
    ]  # fmt: skip
    assert r"\toprule" in (tmp_path / "paper" / "main.tex").read_text()
    assert f"as defined in {file.name}" in out.read_text()


def test_equal_results_give_equal_pages(tmp_path):
    folder = sweep(tmp_path / "r")
    for name in ("a.html", "b.html"):
        written(folder, out=tmp_path / name)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_a_report_needs_a_folder_that_exists(tmp_path):
    with pytest.raises(UsageError, match=r"the folder .* does not exist"):
        written(sweep(tmp_path / "r"), out=tmp_path / "none" / "x.html")


def test_items_that_cannot_be_named_are_said_to_be(tmp_path):
    folder = sweep(tmp_path / "r")
    manifest = json.loads((folder / "manifest.json").read_text())
    for cell in manifest["cells"]:
        cell["settings"]["domain"] = {"name": "movielens", "path": "${oc.env:NOT_SET_HERE}/ml"}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert "items of source are shown by their ids" in written(folder, out=tmp_path / "x.html")
    assert "by their ids" not in written(folder, out=tmp_path / "y.html", dialogues=0)
