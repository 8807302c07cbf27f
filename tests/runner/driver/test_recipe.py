"""A folder whose episode ids are of an older recipe: readable, run again, and never mixed in."""

import io
import json
from collections import Counter

import pytest
from rich.console import Console

from agents.core.seeds import call_seed
from analysis.results import Results
from analysis.statistics.compare import compare_all
from analysis.tables.table import make_table
from runner.commands.plan import show_plan
from runner.driver.manifest import recipe_line
from runner.driver.run import run
from sweeps import identity
from sweeps import manifest as manifests
from tests.runner.reading import raw
from tests.sweep_files import write_sweep

WHY = (
    "these results use recipe 1 for episode ids; this crsweep uses recipe 3, so "
    "all episodes are planned again, and tables show only the new ones (to keep the table of the "
    "old ones, set another `out`)"
)


SWEEP = {
    "grid": {"agent": ["zero_shot", "react"], "seed": [0, 1]},
    "roles": {"user": "strong", "agent": "weak"},
}


def run_in_process(path) -> str:
    console = Console(file=io.StringIO(), width=100)
    outcome = run(path, [], accept_source_change=False, console=console)
    assert outcome.left == 0
    return console.file.getvalue()


@pytest.fixture
def old(tmp_path):
    """A sweep file, and a folder that it filled under recipe 1, as an early version did:
    other ids and words, a manifest that names no recipe, sources that have changed since."""
    path = write_sweep(tmp_path, **SWEEP)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("agents.core.ask.call_seed", lambda *parts: call_seed(*parts) ^ 1)
        patch.setattr(identity, "RECIPE", 1)
        patch.setattr("runner.driver.manifest.RECIPE", 1)
        run_in_process(path)
    file = tmp_path / "out" / manifests.FILE
    manifest = json.loads(file.read_text())
    assert manifest.pop("recipe") == 1
    for source in manifest["plugin_sources"].values():
        source["hash"] = "0" * len(source["hash"])
    file.write_text(json.dumps(manifest))
    return path


def table_of(out):
    results = Results.open(out)
    rows = make_table(results, ["sr@5"]).rows
    assert [(row.counted, row.planned) for row in rows] == [(8, 8), (8, 8)]
    return results


def test_a_folder_of_an_older_recipe_is_still_read_and_tabulated(old, tmp_path):
    results = table_of(tmp_path / "out")
    assert results.query("SELECT count(*) FROM episodes").fetchall() == [(16,)]


def test_a_run_plans_every_episode_again_says_why_once_and_mixes_no_cell(old, tmp_path):
    out = tmp_path / "out"
    old_cells = {cell.cell_id for cell in table_of(out).manifest.cells}
    console = Console(file=io.StringIO(), width=100)
    show_plan(old, [], gpus=(), as_json=False, console=console)
    said = run_in_process(old)  # no refusal, although sources have changed: nothing is mixed
    for text in (console.file.getvalue(), said):
        assert text.count(WHY) == 1
    assert "16 to run" in said

    results = table_of(out)
    new_cells = {cell.cell_id for cell in results.manifest.cells}
    assert not old_cells & new_cells
    assert Counter(raw(out, "episodes").cell_id) == dict.fromkeys(old_cells | new_cells, 8)
    counted = results.query("SELECT DISTINCT cell_id FROM episodes").fetchall()
    assert {cell for (cell,) in counted} == new_cells
    assert results.query("SELECT count(*) FROM attempts").fetchall() == [(32,)]

    again = run_in_process(old)
    assert "nothing to do: all 16 episodes are settled" in again
    assert "recipe" not in again


def test_tables_and_comparisons_are_those_of_a_folder_that_never_held_the_old_rows(old, tmp_path):
    def found(out):
        results = Results.open(out)
        return make_table(results, ["sr@5", "tokens"]).rows, compare_all(
            results, ["tokens"], "agent"
        )

    before = found(tmp_path / "out")
    run_in_process(old)
    after = found(tmp_path / "out")
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    run_in_process(write_sweep(fresh, **SWEEP))
    assert after == found(fresh / "out")
    assert after != before  # or the comparison would prove nothing


def test_a_folder_of_this_recipe_needs_no_word(tmp_path):
    path = write_sweep(tmp_path, grid={"agent": ["zero_shot"]}, cases={"sample": 1},
                       roles={"user": "strong", "agent": "weak"})  # fmt: skip
    assert "recipe" not in run_in_process(path)
    assert manifests.read(tmp_path / "out").recipe == identity.RECIPE == 3
    assert recipe_line(None) is None
