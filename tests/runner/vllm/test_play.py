"""Sweeps through the command line with real vLLM on the CPU: what they commit."""

import sys
from collections import Counter

import pytest

from analysis.results import Results
from tests.runner.processes import end_of
from tests.runner.reading import raw
from tests.runner.vllm.tiny_sweeps import manifest, small_sweep, tiny

pytestmark = [pytest.mark.vllm, pytest.mark.ray]


def test_the_tiny_sweep_completes_with_valid_replies_and_its_records_are_the_engines_own(
    tmp_path, models, crsweep
):
    out = tmp_path / "out"
    done = crsweep(
        "run", "sweeps/tiny_vllm.yaml", f"out={out}", f"cache.path={tmp_path / 'cache'}",
        "cases.sample=1", "limits.max_turns=2",
        *(f"models.{family}.model={path}" for family, path in models.items()),
    )  # fmt: skip
    assert "8 episodes (0 failed)" in done.stdout
    episodes, calls = raw(out, "episodes"), raw(out, "calls")
    assert list(episodes.status) == ["done"] * 8
    assert calls.valid.all()
    assert set(calls.finish_reason) == {"stop"}
    assert not calls.retries.any()
    assert "when engines died" not in done.stdout
    assert calls.seed.between(0, 2**48 - 1).all()
    assert (calls.output_tokens > 0).all()
    for entry in manifest(out)["engines"]:
        mine = calls[(calls.model == entry["label"]) & ~calls.cached]
        assert len(mine) > 0
        assert mine.input_tokens.sum() == entry["prompt_tokens"]
        assert mine.output_tokens.sum() == entry["output_tokens"]
        assert set(mine.fingerprint) == set(entry["fingerprints"])
        assert entry["prefix_hits"] > 0
        assert len(entry["weights"]["content"]) == 32
        assert entry["deaths"] == 0
    for name, turn in (("llama", "prefix cache"), ("qwen", "prefix cache")):
        assert any(
            line.startswith(f"{name}: ") and turn in line
            for line in crsweep("status", out).stdout.splitlines()
        )
    assert "nothing to do" in crsweep(
        "run", "sweeps/tiny_vllm.yaml", f"out={out}", f"cache.path={tmp_path / 'cache'}",
        "cases.sample=1", "limits.max_turns=2",
        *(f"models.{family}.model={path}" for family, path in models.items()),
    ).stdout  # fmt: skip


def test_a_model_that_cannot_load_fails_its_cells_with_one_message_and_others_continue(
    tmp_path, models, start
):
    path = small_sweep(
        tmp_path / "a",
        models,
        models={
            "good": {"backend": "rules"},
            "bad": tiny(models, "qwen", max_model_len=100_000),  # more than it knows
        },
        roles={"user": "good"},
        grid={"roles.agent": ["good", "bad"], "agent": ["zero_shot"], "seed": [0]},
    )
    out = tmp_path / "a" / "out"
    process = start(path)
    printed = end_of(process)
    assert process.returncode == 3, printed
    [line] = [each for each in printed.splitlines() if each.startswith("bad: the model cannot")]
    assert "max_model_len" in line
    episodes = raw(out, "episodes")
    assert sorted(episodes.status) == ["done"] * 4 + ["failed"] * 4
    failed = episodes[episodes.status == "failed"]
    assert set(failed.error_class) == {"EngineRefused"}
    assert set(failed.blame) == {"infrastructure"}


def test_a_preference_tree_is_built_and_dialogues_are_judged_by_engines_of_the_run(
    tmp_path, models, crsweep
):
    """AF-IRS, whole, with real replies: random words, but every one of them as its schema says.

    A local run, which serves itself, so that the stage of the judges imports no vLLM again.
    """
    path = small_sweep(
        tmp_path / "a",
        models,
        cases=2,
        turns=1,
        models={"tiny": tiny(models, max_model_len=8192,
                             sampling={"temperature": 0.7, "max_tokens": 3000})},
        roles={"user": "tiny", "agent": "tiny", "judge": "tiny"},
        grid={"agent": [{"name": "af_irs", "attributes": ["genre"], "batch_items": 20}],
              "seed": [0]},
        judges=["relevance", {"name": "credibility", "samples": 2}],
        domain={"name": "synthetic", "items": 40, "users": 5000},
        artifacts={"path": str(tmp_path / "artifacts")},
        run={"executor": "local", "concurrency": 4},
    )  # fmt: skip
    out = tmp_path / "a" / "out"
    done = crsweep("run", path)
    assert "2 episodes (0 failed)" in done.stdout
    assert "2 judgements (0 failed)" in done.stdout  # the screen is kept for the second stage
    said = (done.stdout + done.stderr).replace(sys.executable, "python")
    for words in ("INFO", "WARNING", "vllm"):  # vLLM's own lines are in logs/
        assert words not in said
    calls = raw(out, "calls")
    assert calls.valid.all()
    assert set(calls.finish_reason) == {"stop"}
    assert {"extract", "prefer", "respond"} <= set(calls.step)
    judged = raw(out, "judgements")
    assert set(judged.status) == {"valid"}
    scores = judged[judged.judge == "relevance"].value
    assert len(scores) == 2 * 3
    assert scores.between(1, 5).all()
    asked = calls[calls.role.str.startswith("judge")]
    assert Counter(asked.role)["judge.relevance"] == 2
    assert set(asked.fingerprint) == set(calls.fingerprint)
    assert Results.open(out).query("SELECT * FROM judgements").df().judgement_id.is_unique
    again = crsweep("prepare", path).stdout
    assert "nothing to make" in again or "ready" in again
