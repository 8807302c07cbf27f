"""Means, deviations, complete blocks, coverage and notes."""

from __future__ import annotations

import statistics

import pytest

from analysis.results import Results
from analysis.tables import render
from analysis.tables.pivot import pivoted
from analysis.tables.sheets import UNDEFINED
from analysis.tables.table import Table, make_table
from tests.analysis.builder import Built, Cell, grid_of


def filled(**changes) -> Built:
    """Every episode done; cell a/strong succeeds for seed 0 in turn 1, all else never."""
    built = Built(grid_of("a", "b"), **changes)
    for cell in built.cells:
        for case_id in built.case_ids:
            for seed in built.seeds:
                won = cell.cell_id == "a/strong" and seed == 0
                built.episode(cell, case_id, seed, success_turn=1 if won else None)
    return built


def table_of(built: Built, folder, *metrics: str, complete_only: bool = True, **manifest) -> Table:
    results = Results.open(built.write(folder, **manifest))
    return make_table(results, metrics or ["sr@5"], complete_only=complete_only)


def test_mean_and_std_are_of_the_per_seed_means(tmp_path):
    found = table_of(filled(), tmp_path).rows[0]
    assert found.values[0].mean == pytest.approx(1 / 3)
    assert found.values[0].std == pytest.approx(statistics.stdev([1, 0, 0]))
    assert (found.values[0].seeds, found.values[0].episodes) == (3, 12)
    assert (found.counted, found.planned) == (12, 12)


def test_one_seed_has_no_deviation(tmp_path):
    table = table_of(filled(seeds=[0]), tmp_path)
    assert [row.values[0].std for row in table.rows] == [None] * 4
    assert table.notes == ["one seed: no standard deviation"]


def test_a_cell_is_deterministic_where_every_case_has_one_transcript(tmp_path):
    built = Built(grid_of("a", "b", backbones=["s"]))
    for cell in built.cells:
        for case_id in built.case_ids:
            for seed in built.seeds:
                same = cell.cell_id == "a/s" or (case_id, seed) != ("u1", 2)
                words = case_id if same else "other words"
                built.episode(cell, case_id, seed, success_turn=1, transcript_hash=words)
    a, b = (row.values[0] for row in table_of(built, tmp_path).rows)
    assert (a.std, a.deterministic) == (None, True)
    assert (b.std, b.deterministic) == (0, False)


@pytest.mark.parametrize("odd", [0, 7, 8, 19])
def test_one_case_that_differs_is_found_wherever_it_is(tmp_path, odd):
    built = Built(grid_of("a", backbones=["s"]), case_ids=[f"u{n}" for n in range(20)])
    for number, case_id in enumerate(built.case_ids):
        for seed in built.seeds:
            words = f"{case_id}, {seed}" if number == odd else case_id
            built.episode(built.cells[0], case_id, seed, transcript_hash=words)
    (row,) = table_of(built, tmp_path).rows
    assert not row.values[0].deterministic


def test_what_infrastructure_broke_off_makes_nothing_look_random(tmp_path):
    built = Built(grid_of("a", backbones=["s"]))
    for case_id in built.case_ids:
        for seed in built.seeds:
            if (case_id, seed) == ("u0", 1):
                built.failed(built.cells[0], case_id, seed, "infrastructure")
            else:
                built.episode(built.cells[0], case_id, seed, transcript_hash=case_id)
    (row,) = table_of(built, tmp_path).rows
    assert row.values[0].deterministic
    assert row.counted == 11


def test_a_case_that_one_cell_misses_is_left_out_of_all(tmp_path):
    built = filled()
    rows = built.rows["episodes"]
    rows[:] = [r for r in rows if r["episode_id"] != "b/weak-u3-2"]
    table = table_of(built, tmp_path / "complete")
    assert [row.counted for row in table.rows] == [9, 9, 9, 9]
    assert any(note.startswith("incomplete") for note in table.notes)
    every = table_of(built, tmp_path / "all", complete_only=False)
    assert [row.counted for row in every.rows] == [12, 12, 12, 11]
    # Means over different cases have no best, and it is said why.
    assert render.places(table, 0)
    assert not render.places(every, 0)
    assert any(note.startswith("cells count different cases") for note in every.notes)
    assert not any(note.startswith("cells count different") for note in table.notes)


def without(built: Built, *missing: tuple[str, int]) -> Built:
    """Without the episodes of these cells under these seeds."""
    rows = built.rows["episodes"]
    rows[:] = [row for row in rows if (row["cell_id"], row["seed"]) not in missing]
    return built


def test_a_cell_that_cannot_be_prepared_is_named_and_the_others_are_counted(tmp_path):
    artifact = {"title": "memory, seed 1", "key": "k", "kind": "rollouts", "cells": [3]}
    run = {"driver_epoch": 1, "started": 0.0, "unprepared": {"memory, seed 1": "too few sales"}}
    table = table_of(
        without(filled(), ("b/weak", 1)), tmp_path, artifacts=[artifact], runs=[run]
    )  # fmt: skip
    assert [row.counted for row in table.rows] == [12, 12, 12, 0]
    assert [row.values[0].mean for row in table.rows] == [pytest.approx(1 / 3), 0, 0, None]
    assert table.notes[1:] == [
        "left out, because nothing is finished under some seed: b, weak",
        "memory, seed 1 cannot be prepared: too few sales",
        "incomplete: only cases that every other cell and seed has finished are counted "
        "(36 of 44 finished and 48 planned episodes)",
    ]
    assert render.places(table, 0)


def test_a_sweep_that_has_only_begun_names_no_cells(tmp_path):
    begun = without(filled(), *((cell.cell_id, 2) for cell in filled().cells))
    table = table_of(begun, tmp_path)
    assert [row.counted for row in table.rows] == [0, 0, 0, 0]
    [note] = table.notes[1:]
    assert note.startswith("incomplete: only cases that every cell and seed has finished")


def test_a_failure_completes_its_block_but_only_the_agents_own_counts(tmp_path):
    built = filled()
    for row, blame in zip(built.rows["episodes"][:3], ["agent", "user", "infrastructure"],
                          strict=True):  # fmt: skip
        row.update(status="failed", blame=blame, success=False, success_turn=None)
    table = table_of(built, tmp_path, "sr@5", "sr_completed@5")
    assert table.rows[0].counted == 10
    assert [v.episodes for v in table.rows[0].values] == [10, 9]
    assert "left out: 2 episodes that failed by no fault of the agent" in table.notes


def test_blocks_are_of_one_source(tmp_path):
    cells = [Cell("x", {"domain": "x"}, "sx"), Cell("y", {"domain": "y"}, "sy")]
    built = Built(cells)
    for case_id in built.case_ids:
        for seed in built.seeds:
            built.episode(cells[0], case_id, seed)
            if case_id != "u0":
                built.episode(cells[1], case_id, seed)
    assert [row.counted for row in table_of(built, tmp_path).rows] == [12, 9]


def test_an_undefined_metric_is_none_and_says_so(tmp_path):
    table = table_of(filled(), tmp_path, "at_success_only", "dsr_pooled@5")
    assert [row.values[0].mean for row in table.rows] == [1.0, None, None, None]
    left_out = "left out: dialogues without success"
    assert f"at_success_only is defined for 4 of 48 episodes; {left_out}" in table.notes
    assert "dsr_pooled@5 is defined for 0 of 48 episodes" in table.notes


@pytest.mark.parametrize("backend", ["rules", "latency"])
def test_backends_that_are_no_language_models_leave_a_watermark(tmp_path, backend):
    built = filled()
    built.cells[3].backends["user"] = backend
    assert any(n.startswith("WATERMARK") for n in table_of(built, tmp_path / "a").notes)
    assert not any(n.startswith("WATERMARK") for n in table_of(filled(), tmp_path / "b").notes)


def test_a_recorded_watermark_is_shown_whatever_backend_it_names(tmp_path):
    notes = table_of(filled(), tmp_path, watermark=["my_lab.echo"]).notes
    words = "WATERMARK: these numbers are made with the my_lab.echo backend: no language model"
    assert words in notes


def test_the_note_on_the_deviation_says_what_varied(tmp_path):
    notes = table_of(filled(), tmp_path, seed_varies="training and sampling").notes
    assert "over 3 seeds" in notes[0]
    assert "training and sampling" in notes[0]


def test_success_by_a_turn_that_no_dialogue_has_is_noted(tmp_path):
    built = Built(grid_of("a", backbones=["s"]), seeds=[0], case_ids=["u0"])
    built.episode(built.cells[0], "u0", 0, success_turn=1)
    table = make_table(Results.open(built.write(tmp_path)), ["sr@5", "sr@7"])
    notes = [note for note in table.notes if note.startswith("sr@")]
    assert notes == ["sr@7: dialogues end after 5 turns, so this is the value at 5"]


def test_cells_that_end_before_others_have_no_numbers_of_later_turns(tmp_path):
    """Not three turns counted as five: the success by turn 5 of a dialogue cut at 3 is unknown."""
    built = Built(grid_of("a", "b", backbones=["s"]), seeds=[0], case_ids=["u0", "u1"])
    short, long = built.cells
    built.episode(short, "u0", 0, success_turn=2, max_turns=3)
    built.episode(short, "u1", 0, max_turns=3)
    built.episode(long, "u0", 0, success_turn=5)
    built.episode(long, "u1", 0)
    metrics = [
        "sr@3", "sr@4", "sr@5", "sr@7", "sr_completed@5", "sr_clean@5",
        "at_fail_t", "at_fail_plus_1", "at_success_only",
    ]  # fmt: skip
    table = make_table(Results.open(built.write(tmp_path)), metrics)
    of_short, of_long = ([value.mean for value in row.values] for row in table.rows)
    assert of_short == [0.5, *[None] * 8]
    assert of_long == [0, 0, 0.5, 0.5, 0.5, None, 5, 5.5, 5]
    assert (
        "dialogues of some cells end after 3 turns, those of others after 5: these cells have no "
        "success rate by a later turn and no average turns"
    ) in table.notes
    best = pivoted(table, ["agent"], []).rows[0]
    assert [cell.text for cell in best][1:5] == ["0.500 ± n/a", *[UNDEFINED] * 3]
