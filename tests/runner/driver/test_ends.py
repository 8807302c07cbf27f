"""The end of a run: what fails after the last commit leaves no traceback and hides nothing."""

import io
import os
from pathlib import Path

import duckdb
import pytest

from agents.core.errors import StoreError
from runner.cli import main as cli
from tests.runner.reading import raw
from tests.sweep_files import write_sweep
from tests.workers.backends.fake_openai import Answer, FakeOpenAI, refusal
from workers.executors.local import LocalWorker

GRID = {"agent": ["zero_shot"], "roles.agent": ["strong"], "seed": [0]}


@pytest.fixture
def ended(tmp_path, monkeypatch, capsys):
    """Runs a sweep of two dialogues with an odd standard output; its exit code and errors."""
    monkeypatch.setattr("runner.driver.opening.log_to", lambda *_: None)
    path = write_sweep(tmp_path, grid=GRID, cases={"sample": 2}, name="swéép.yaml")

    def of(stdout=None, *words):
        if stdout is not None:
            monkeypatch.setattr("sys.stdout", stdout)
        code = cli.main(words or ["run", str(path)])
        assert sorted(raw(tmp_path / "out", "episodes").status) == ["done"] * 2
        return code, capsys.readouterr().err

    return of


def full():
    return io.TextIOWrapper(Path("/dev/full").open("wb"), "utf-8", write_through=True)


def closed_pipe():
    reader, writer = os.pipe()
    os.close(reader)
    return io.TextIOWrapper(os.fdopen(writer, "wb"), "utf-8", write_through=True)


def test_a_full_disk_for_what_is_printed_says_that_all_is_committed(ended, tmp_path):
    code, said = ended(full())
    assert code == 1
    assert "error: cannot print (No space left on device). Finished episodes are in" in said
    assert f"status {tmp_path / 'out'}" in said


def test_a_closed_pipe_does_not_affect_the_run(ended):
    assert ended(closed_pipe()) == (0, "")


def test_a_terminal_that_knows_ascii_only_is_written_escapes(ended, tmp_path, monkeypatch):
    printed = io.BytesIO()
    screen = io.TextIOWrapper(printed, "ascii", write_through=True)
    assert ended(screen)[0] == 0
    assert cli.main(["run", str(tmp_path / "swéép.yaml"), "name=x", "bogus=é"]) == 2
    assert b"results: " in printed.getvalue()


@pytest.mark.parametrize(
    ("where", "error", "said"),
    [
        (
            "runner.commands.results.show_table",
            duckdb.IOException("no room"),
            "cannot be shown (no room)",
        ),
        (
            "runner.commands.results.show_table",
            StoreError("no such part"),
            "cannot be shown (no such part)",
        ),
        (
            "runner.driver.repair.compact",
            OSError(28, "No space left", "x"),
            "merged (x: No space left)",
        ),
    ],
)
def test_what_fails_after_the_last_commit_is_one_line(ended, monkeypatch, where, error, said):
    def broken(*_, **__):
        raise error

    monkeypatch.setattr(where, broken)
    code, printed = ended()
    assert code == 1
    assert said in printed
    assert "Finished episodes are in" in printed
    assert printed.count("\n") == 1


def test_a_cache_that_cannot_be_sealed_keeps_its_journals(ended, monkeypatch):
    tidied = []

    async def broken(self):
        raise StoreError("the call cache is full")

    monkeypatch.setattr(LocalWorker, "seal", broken)
    monkeypatch.setattr("runner.driver.closing.tidy", lambda *_, **__: tidied.append(1))
    code, printed = ended()
    assert (code, tidied) == (1, [])
    assert "the call cache cannot be sealed (the call cache is full)" in printed


def test_a_full_disk_for_a_table_is_one_line_and_exit_code_1(ended, tmp_path, monkeypatch):
    ended()
    words = ["table", str(tmp_path / "out"), "--format", "csv"]
    code, said = ended(full(), *words)
    assert code == 1
    assert said.endswith("\nerror: No space left on device\n")
    assert ended(closed_pipe(), *words)[0] == 0


def test_a_wrong_key_ends_the_run_at_once_with_the_reason_and_the_next_run_resumes(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("runner.driver.opening.log_to", lambda *_: None)
    answers = [Answer(401, refusal("Incorrect API key provided")) for _ in range(200)]
    with FakeOpenAI(*answers) as server:
        remote = {"backend": "openai", "base_url": server.url, "model": "qwen"}
        path = write_sweep(
            tmp_path,
            models={"strong": {"backend": "rules"}, "far": remote},
            roles={"user": "far"},
            grid=GRID,
            cases={"sample": 40},
        )
        assert cli.main(["run", str(path)]) == 3
        said = " ".join(capsys.readouterr().out.split())
        assert len(server.asked) <= 4  # as many as dialogues ran at once
        assert "stopped early: " in said
        assert "Incorrect API key provided" in said
        assert "incomplete: 40 of 40 episodes left" in said
        assert "to resume, once the model can be called" in said
        rows = raw(tmp_path / "out", "episodes")
        assert set(zip(rows.error_class, rows.blame, strict=True)) == {
            ("ModelUnavailable", "infrastructure")
        }
        cli.main(["run", str(path)])
        assert "40 to run" in capsys.readouterr().out  # all are planned again
