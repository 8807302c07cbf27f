"""The anonymous copy: the same tables, and nothing that names a person."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest

from agents.core.errors import UsageError
from analysis.export.anonymous import REMOVED, write_anonymous
from analysis.results import Results
from analysis.statistics.validity import CountedShare, behaviour, groups, notes
from analysis.tables.table import make_table
from tests.analysis.builder import CALL, Built, Cell, messy

WORDS = ("annsmith", "secret-host", "Blade Runner", "org.example")


def named(folder):
    """A sweep with a name, a host, a path or an item's text wherever one can be."""
    path = "/home/annsmith/data"
    model = {"model": "org/m", "base_url": "http://org.example/v1", "price": None}
    settings = {"agent": {"name": "a"}, "domain": {"path": path}, "models": {"agent": model}}
    cells = [Cell(f"c{n}", {"agent": f"{n}(path={path}, k=3)"}, settings=settings) for n in (1, 2)]
    built = Built(cells, seeds=[0, 1])
    turn = {"turn": 1, "agent_text": "Blade Runner", "user_text": "Blade Runner",
            "extra": json.dumps({"titles_matched": ["Blade Runner"], "titles_grounded": 2}),
            "user_extra": json.dumps({"leak": True, "leak_words": "Blade Runner"})}  # fmt: skip
    call = {**CALL, "prompt": "Blade Runner", "reply": "Blade Runner", "fingerprint": "secret-host"}
    judge = built.judge("relevance", "clarity", options={"prompts": path})
    for cell in cells:
        for case_id in built.case_ids:
            for seed in built.seeds:
                row = built.episode(cell, case_id, seed, success_turn=1, turns=[turn], calls=[call])
                built.verdict(judge, row, "clarity", 3.0, reason="Blade Runner")
                built.label("annsmith", "relevance", row, "clarity", 2.0)
    built.failed(cells[0], "u0", 0, "infrastructure", attempt=-1, error=path, ended=0.0)
    return built.write(
        folder,
        name="annsmith",
        metrics=["sr@5", "relevance_clarity", "tokens"],
        config={
            "name": "annsmith",
            "out": path,
            "domain": {"path": path},
            "question": "annsmith",
            "tables": {"main": {"metrics": ["sr@5", "tokens@agent", path]}},
        },
        host={"name": "secret-host", "python": "3.11"},
        runs=[{"driver_epoch": 1, "started": 0.0, "command": path, "typed_in": path}],
        engines=[{"label": "m", "node": "secret-host", "death_causes": [path], "failed": path}],
        revision="abc",
    )


def copy(folder, out) -> Results:
    write_anonymous(Results.open(folder), out, "blind")
    return Results.open(out)


def test_nothing_that_names_a_person_is_left(tmp_path):
    folder = named(tmp_path / "r")
    look = write_anonymous(Results.open(folder), tmp_path / "x", "blind")
    assert look == ["model org/m"]
    parts = (tmp_path / "x").rglob("*.parquet")
    rows = [json.dumps(pq.read_table(path).to_pylist(), default=str) for path in parts]
    texts = [(tmp_path / "x" / "manifest.json").read_text(), *rows]
    for text in texts:
        for word in WORDS:
            assert word not in text
    assert REMOVED in texts[0]
    assert sorted(p.name for p in (tmp_path / "x").iterdir()) == [
        "calls", "cases", "curves", "episodes", "judgements", "manifest.json", "turns",
    ]  # fmt: skip


def test_the_copy_has_the_numbers_of_the_original(tmp_path):
    first = named(tmp_path / "r")
    again = copy(first, tmp_path / "x")
    original = Results.open(first)
    metrics = original.manifest.metrics
    tables = [make_table(results, metrics) for results in (original, again)]
    assert [row.values for row in tables[0].rows] == [row.values for row in tables[1].rows]
    assert again.manifest.name == "blind"
    assert "annotator-1" in {
        r[0] for r in again.query("SELECT annotator FROM judgements").fetchall()
    }


def test_metrics_of_its_tables_are_no_email_addresses(tmp_path):
    config = copy(named(tmp_path / "r"), tmp_path / "x").manifest.config
    assert config["tables"]["main"]["metrics"] == ["sr@5", "tokens@agent", REMOVED]


def test_removed_texts_are_no_empty_words(tmp_path):
    again = copy(named(tmp_path / "r"), tmp_path / "x")
    (found,) = behaviour(again, groups(again, []))
    assert (found.empty, found.repeated) == (CountedShare(0, 0), CountedShare(0, 0))
    assert found.words == []
    assert found.leaks.hits > 0
    assert "the messages have no texts, so words are not counted" in notes(again)


@pytest.mark.parametrize("number", [1, 2])
def test_the_copy_of_any_sweep_has_the_same_table(tmp_path, number):
    folder = messy(number).write(tmp_path / "r")
    again = copy(folder, tmp_path / "x")
    for metric in ("sr@3", "sr_clean@5", "tokens@agent"):
        tables = [make_table(results, [metric]) for results in (Results.open(folder), again)]
        assert [r.values for r in tables[0].rows] == [r.values for r in tables[1].rows], metric


def test_a_folder_that_is_not_empty_is_refused(tmp_path):
    with pytest.raises(UsageError, match="is not an empty folder"):
        copy(named(tmp_path / "r"), tmp_path / "r")
