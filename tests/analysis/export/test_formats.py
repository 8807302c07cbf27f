"""Exports for other tools."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest

from agents.core.errors import UsageError
from analysis.export import every_eval_ever, scout
from analysis.results import Results
from analysis.tables.table import make_table
from runner.commands.export import show_export
from tests.analysis.builder import TURN, Built, Cell
from tests.runner.commands.test_results import printed, screen


def sweep(folder, **changes):
    model = {"backend": "vllm", "model": "org/m-7b", "sampling": {"temperature": 0, "top_p": 0.9}}
    settings = {"agent": {"name": "react", "k": 3}, "models": {"agent": model, "user": model}}
    cells = [Cell(f"c{n}", {"agent": n, "k.x": "1"}, settings=settings) for n in "ab"]
    built = Built(cells, seeds=[0, 1])
    for cell in cells:
        for case_id in built.case_ids:
            for seed in built.seeds:
                won = 2 if seed or cell.cell_id == "ca" else None
                turns = [{**TURN, "shown": ["i0"], "agent_text": "é"}, {**TURN, "turn": 2}]
                built.episode(cell, case_id, seed, success_turn=won, turns=turns)
    built.failed(cells[0], "u0", 9, "agent")  # of no seed of the plan
    return built.write(folder, metrics=["sr@5", "at_fail_plus_1", "hr@50_session"], **changes)


def test_a_transcript_is_a_conversation_with_its_outcome(tmp_path):
    assert scout.write_transcripts(Results.open(sweep(tmp_path / "r")), tmp_path / "x") == 16
    (path,) = (tmp_path / "x").iterdir()
    rows = pq.read_table(path).to_pylist()
    assert len({row["transcript_id"] for row in rows}) == 16
    row = next(r for r in rows if r["source_id"] == "cb" and r["task_repeat"] == 0)
    assert (row["success"], row["score"], row["limit"]) == (False, "0", "turns")
    assert (row["agent"], json.loads(row["agent_args"])) == ("react", {"k": 3})
    assert (row["model"], row["axis_agent"], row["k_x"]) == ("org/m-7b", "b", "1")
    messages = json.loads(row["messages"])
    assert [m["role"] for m in messages] == ["user", "assistant", "user", "assistant", "user"]
    assert messages[1]["content"] == "é"
    assert messages[1]["metadata"] == {"action": "recommend", "shown": ["i0"]}
    assert len({m["id"] for m in messages}) == row["message_count"] == 5


def test_a_record_has_the_numbers_of_the_table(tmp_path):
    results = Results.open(sweep(tmp_path / "r", name="../my sweep"))
    assert every_eval_ever.write_records(results, tmp_path / "x", "Lab") == 2
    paths = sorted((tmp_path / "x").rglob("*.json"))
    assert paths[0].parent == tmp_path / "x" / "data" / "_my_sweep" / "org" / "m-7b"
    records = [json.loads(path.read_text()) for path in paths]
    table = make_table(results, results.manifest.metrics)
    means = {row.axes["agent"]: row.values[0].mean for row in table.rows}
    for record in records:
        assert record["schema_version"] == "0.3.0"
        details = record["model_info"]["additional_details"]
        assert all(isinstance(value, str) for value in details.values())
        assert details["deployment_type"] == "self_deployed"
        assert details["model_availability"] == "open_weights"
        first, second = record["evaluation_results"]  # the third is undefined
        assert first["score_details"]["score"] == means[details["axis_agent"]]
        interval = first["score_details"]["uncertainty"]["confidence_interval"]
        assert interval["lower"] <= first["score_details"]["score"] <= interval["upper"]
        assert (first["metric_config"]["min_score"], first["metric_config"]["max_score"]) == (0, 1)
        assert second["metric_config"]["lower_is_better"] is True
        args = first["generation_config"]["generation_args"]
        assert args == {"temperature": 0, "top_p": 0.9}


def test_numbers_of_no_language_model_are_no_evaluation_of_one(tmp_path):
    results = Results.open(sweep(tmp_path / "r", watermark=["rules"]))
    with pytest.raises(UsageError, match="made with the rules backend"):
        every_eval_ever.write_records(results, tmp_path / "x", "Lab")


@pytest.mark.parametrize("name", ["scout", "every-eval-ever"])
def test_without_a_finished_dialogue_there_is_one_clear_line(tmp_path, name):
    folder = Built([Cell("c", {"agent": "a"})]).write(tmp_path / "r")
    with pytest.raises(UsageError, match=r"to export$"):
        exported(folder, tmp_path / "x", format=name)


def exported(folder, out, *, format=None, anonymous=False) -> str:
    console = screen()
    show_export(
        str(folder), out, format=format, anonymous=anonymous, name="blind", organization="Lab",
        console=console,
    )  # fmt: skip
    return printed(console)


def test_the_command_says_what_it_wrote_and_in_which_version(tmp_path):
    folder = sweep(tmp_path / "r")
    assert "16 transcripts for inspect_scout 0.6" in exported(
        folder, tmp_path / "a", format="scout"
    )
    said = exported(folder, tmp_path / "b", format="every-eval-ever")
    assert "2 records of Every Eval Ever, schema 0.3.0" in said
    assert "model org/m-7b" in exported(folder, tmp_path / "c", anonymous=True)
    for wrong in ({}, {"format": "scout", "anonymous": True}):
        with pytest.raises(UsageError, match=r"either --anonymous"):
            exported(folder, tmp_path / "d", **wrong)
    with pytest.raises(UsageError, match="known: scout, every-eval-ever"):
        exported(folder, tmp_path / "d", format="csv")
