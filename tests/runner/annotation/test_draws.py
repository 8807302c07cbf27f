"""Whether the labelled dialogues are a random sample is recorded, and said where it matters."""

import csv
import json

import pytest

from agents.core.errors import StoreError
from analysis.results import Results
from analysis.statistics.corrected import make_corrected
from analysis.statistics.draws import SamplingRecord, remarks
from runner.annotation.importing import import_files
from tests.runner.annotation.forms import CASES, exported, rows_of

RANDOM = {"pairs": None, "judge": "relevance", "cases": CASES}


def label(sweep, found, tmp_path, answered=lambda number: True):
    """Imports 3 as the answer to every question of the items that are `answered`."""
    rows = rows_of(found.sheet)
    for number, row in enumerate(rows):
        for question in found.key.asked(found.key.items[row["item"]]):
            row[question.name] = "3" if answered(number) else ""
    path = tmp_path / "ann.csv"
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    import_files(str(sweep), [path], "ann")


def test_a_draw_without_a_condition_is_at_random_and_nothing_is_said_of_it(sweep, tmp_path):
    found = exported(sweep, tmp_path / "form", **RANDOM)
    assert found.key.drawn == SamplingRecord(0, CASES, None, True, CASES, CASES)
    label(sweep, found, tmp_path)
    table = make_corrected(Results.open(sweep), ["relevance"])
    assert table.rows[0].found is not None
    assert not [note for note in table.notes if note.startswith("!")]


def test_a_condition_that_chooses_whole_cells_keeps_the_draw_random(sweep, tmp_path):
    found = exported(sweep, tmp_path / "form", **RANDOM, where="agent = 'react' AND seed = 1")
    assert found.key.drawn is not None
    assert found.key.drawn.at_random
    label(sweep, found, tmp_path)
    assert remarks(Results.open(sweep)) == []


def test_a_condition_on_outcomes_is_recorded_and_said(sweep, tmp_path):
    [(least,)] = Results.open(sweep).query("SELECT min(turns) FROM episodes").fetchall()
    where = f"turns = {least} AND agent = 'react'"
    found = exported(sweep, tmp_path / "form", **RANDOM, where=where)
    assert found.key.drawn is not None
    assert not found.key.drawn.at_random
    label(sweep, found, tmp_path)
    first, second = remarks(Results.open(sweep))
    assert f"--where {where} selected some of the dialogues of a cell" in first
    dialogues = len({item.columns["episode_id"] for item in found.key.items.values()})
    assert second.startswith(f"! {dialogues} of {dialogues} labelled dialogues were not drawn")


def test_labels_of_only_a_part_are_a_choice(sweep, tmp_path):
    found = exported(sweep, tmp_path / "form", **RANDOM)
    label(sweep, found, tmp_path, answered=lambda number: number < 2)
    [line] = remarks(Results.open(sweep))
    assert "dialogues that were drawn have no label" in line


def test_a_draw_from_some_of_the_cases_is_reported_and_a_key_without_a_draw_is_not_random(
    sweep, tmp_path
):
    found = exported(sweep, tmp_path / "form", **RANDOM)
    label(sweep, found, tmp_path, answered=lambda number: number % 2)
    path = sweep / "annotations" / f"{found.key.name}.json"
    content = json.loads(path.read_text())
    content["drawn"]["complete"] = 3
    path.write_text(json.dumps(content))
    assert "drawn from the 3 of 4 planned cases" in remarks(Results.open(sweep))[0]
    del content["drawn"]
    path.write_text(json.dumps(content))
    [line] = remarks(Results.open(sweep))
    assert "were not drawn at random" in line
    path.write_text(json.dumps({**content, "drawn": {"seed": 0}}))
    with pytest.raises(StoreError, match="is damaged"):
        remarks(Results.open(sweep))
