"""What failed, in words, and how it is run again."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from analysis.results import Results
from runner.commands.status import show_status
from runner.core.locations import journals_of
from runner.driver.failures import failure_lines, to_run_again, view_line
from sweeps.schema import Cache
from sweeps.storage.folder import LocalFolder
from tests.analysis.builder import Built, grid_of
from tests.conftest import ROOT
from tests.runner.reading import raw
from tests.sweep_files import write_sweep
from tests.workers.results.test_bundles import episode, live
from workers.results.bundles import BundleWriter

MOODY = """

class Moody(ZeroShot):
    async def respond(self, dialogue, ask):
        from pathlib import Path
        for word in Path(__file__).with_name("mood.txt").read_text().split():
            if word == "crash":
                raise RuntimeError("the agent is in a mood")
            if word == "down":
                from agents.core.errors import EngineRefused
                raise EngineRefused("no such model")
        return await super().respond(dialogue, ask)


__all__ = ["Moody"]
"""


def moody_sweep(folder, **changes):
    """A sweep of 4 episodes, its environment, and the file that decides how its agent fails."""
    package = folder / "my_lab" / "moody"
    (package / "prompts").mkdir(parents=True)
    (package.parent / "__init__.py").touch()
    shipped = ROOT / "agents/zero_shot"
    (package / "__init__.py").write_text((shipped / "__init__.py").read_text() + MOODY)
    for prompt in (shipped / "prompts").iterdir():
        (package / "prompts" / prompt.name).write_text(prompt.read_text())
    grid = {"agent": ["my_lab.moody"], "roles.agent": ["strong"], "seed": [0]}
    return (
        write_sweep(folder, grid=grid, **changes),
        {"PYTHONPATH": str(folder)},
        package / "mood.txt",
    )


def forget_commands(out):
    """A manifest as versions wrote it that did not note what was typed."""
    file = out / "manifest.json"
    manifest = json.loads(file.read_text())
    for entry in manifest["runs"]:
        del entry["command"], entry["typed_in"]
    file.write_text(json.dumps(manifest))


def printed_command(text, before="to rerun them"):
    """The command that a line of `text` ends with."""
    (line,) = [line for line in text.splitlines() if before in line]
    return line[line.index(before) :].split(": ", 1)[1]


def test_failures_that_would_repeat_remain_until_retry_names_their_class_or_blame(
    tmp_path, crsweep
):
    path, env, mood = moody_sweep(tmp_path)
    mood.write_text("crash")
    first = crsweep("run", path, **env).stdout
    assert (
        "4 x AgentError, blame agent; to rerun them (with --accept-source-change if you " in first
    )
    assert f"run {path} --retry AgentError\n" in first
    assert "RuntimeError: the agent is in a mood" in first
    mood.write_text("")
    second = crsweep("run", path, **env).stdout
    assert "nothing to do: all 4 episodes are settled" in second
    assert "4 x AgentError" in second
    status = crsweep("status", tmp_path / "out").stdout
    typed = shlex.join([sys.executable, "-m", "runner", "run", str(path)])
    assert f"if you have changed its code): {typed} --retry AgentError\n" in status
    forget_commands(tmp_path / "out")
    status = crsweep("status", tmp_path / "out").stdout
    assert "changed its code): crsweep run SWEEP --retry AgentError\n" in status
    assert "SWEEP is the sweep file with its overrides" in status
    assert "for example " in status
    assert "nothing to do" in crsweep("run", path, "--retry", "ReplyInvalid", **env).stdout
    third = crsweep("run", path, "--retry", "agent", **env).stdout
    assert "4 to run" in third
    assert "AgentError" not in third
    rows = raw(tmp_path / "out", "episodes")
    assert sorted(rows.status) == ["done"] * 4 + ["failed"] * 4  # failed attempts are kept
    assert rows.attempt_id.is_unique
    assert "nothing to do" in crsweep("run", path, "--retry", "AgentError", **env).stdout


def test_an_episode_whose_latest_failure_is_of_infrastructure_is_tried_again(tmp_path, crsweep):
    """Its agent had failed before, and was retried: the reader takes the latest failure."""
    path, env, mood = moody_sweep(tmp_path)
    mood.write_text("crash")
    crsweep("run", path, **env)
    mood.write_text("down")
    down = crsweep("run", path, "--retry", "agent", check=3, **env).stdout
    assert "4 x EngineRefused, blame infrastructure; the next run retries them" in down
    assert "AgentError" not in down
    mood.write_text("")
    assert "4 to run" in crsweep("run", path, **env).stdout


@pytest.mark.parametrize(
    ("word", "near"),
    [("AgentEror", "'AgentError'"), ("agnet", "'agent'"), ("replyinvalid", "'ReplyInvalid'")],
)
def test_an_unknown_class_is_refused_with_a_near_match_and_nothing_is_written(
    tmp_path, crsweep, word, near
):
    refused = crsweep("run", write_sweep(tmp_path), "--retry", word, check=2).stderr
    assert f"--retry {word}: no such blame or error class; did you mean {near}?" in refused
    assert refused.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_what_a_retry_names_is_the_failure_that_counts(ran):
    out = ran.out
    failed = {"status": "failed", "success": False, "success_turn": None, "error": "x"}
    agent = {**failed, "blame": "agent", "error_class": "AgentError"}
    user = {**failed, "blame": "user", "error_class": "UserError"}
    BundleWriter(out, 2, "w000").write({"episodes": [
        episode(1, **agent), episode(2, **agent), episode(3, **agent),
        episode(4, **user), episode(5, **{**failed, "blame": "infrastructure",
                                          "error_class": "OfAPlugin"}),
    ]})  # fmt: skip
    BundleWriter(out, 3, "w000").write({"episodes": [
        episode(2, attempt_id="e2.3.0"),
        episode(3, **user, attempt_id="e3.3.0"),
    ]})  # fmt: skip
    assert to_run_again(out, []) == {"e5"}
    assert to_run_again(out, ["agent"]) == {"e1", "e5"}
    assert to_run_again(out, ["AgentError"]) == {"e1", "e5"}
    assert to_run_again(out, ["UserError"]) == {"e3", "e4", "e5"}
    assert to_run_again(out, ["user", "agent"]) == {"e1", "e3", "e4", "e5"}
    assert to_run_again(out, ["OfAPlugin"]) == {"e5"}


def test_a_printed_retry_runs_unchanged_and_asks_again_what_the_cache_would_replay(
    tmp_path, crsweep
):
    model = {"backend": "latency", "latency_ms": 1, "invalid_rate": 0.6}
    path = write_sweep(
        tmp_path, models={"m": model}, roles={"user": "m", "agent": "m"},
        grid={"agent": ["zero_shot"], "seed": [0]}, cache={"path": str(tmp_path / "shared")},
    )  # fmt: skip
    out = tmp_path / "out"

    def asked():
        return sum(len(file.read_text().splitlines()) for file in (out / "logs").glob("latency-*"))

    said = crsweep("run", path).stdout
    lines = [line for line in said.splitlines() if "x ReplyInvalid" in line]
    assert " --retry ReplyInvalid cache=off" in lines[0]
    assert "the cache would replay the same replies" in lines[0]
    first = asked()
    crsweep("run", path, "--retry", "ReplyInvalid")
    assert asked() == first  # all of it is replayed
    again = printed_command(crsweep("status", out).stdout)
    done = subprocess.run(
        again, shell=True, capture_output=True, text=True, cwd=tmp_path, check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert "to run" in done.stdout
    assert asked() > first
    last = printed_command(crsweep("status", out).stdout)
    assert last.count("cache=off") == 1
    assert last.startswith(f"cd {tmp_path} && ")  # where that was typed


@pytest.mark.parametrize(("elsewhere", "off"), [(False, "cache=off"), (True, "cache.mode=off")])
def test_an_error_class_with_two_blames_has_one_retry_command(tmp_path, crsweep, elsewhere, off):
    out = tmp_path / "out"
    cache = {"journal": str(tmp_path / "journals")} if elsewhere else None
    crsweep("run", write_sweep(tmp_path, cache=cache, cases={"sample": 1}))
    rows = [row for part in live(out, "episodes") for row in pq.read_table(part).to_pylist()]
    (out / "episodes").rename(tmp_path / "done")
    failed = {"status": "failed", "error_class": "ReplyInvalid", "error": "x"}
    blames = ["agent"] * 3 + ["user"] * 2
    rows = [{**row, **failed, "blame": blame} for row, blame in zip(rows, blames, strict=False)]
    BundleWriter(out, 2, "w000").write({"episodes": rows})
    agent, example, user, _ = failure_lines(Results.open(out), "crsweep run x.yaml")
    assert re.fullmatch(r"    for example [^:]*case \S+, seed \d+: x", example)
    read = view_line(Results.open(out))
    assert read.startswith("  to read them: ") and read.endswith(f" view {out}")
    assert agent == (
        "  3 x ReplyInvalid, blame agent; to rerun them (the cache would replay the same "
        f"replies): crsweep run x.yaml --retry ReplyInvalid {off}"
    )
    assert user == "  2 x ReplyInvalid, blame user; --retry ReplyInvalid above reruns them too"
    place = journals_of(LocalFolder(out), Cache.model_validate(cache or {}))
    assert place.is_relative_to(tmp_path / "journals" if elsewhere else out)
    (place / "journal").mkdir(parents=True)
    (place / "journal" / "000001-0-000.calls").touch()
    agent, *_ = failure_lines(Results.open(out), "crsweep run x.yaml")
    assert "(once all other episodes are done; until then the same replies are replayed): " in agent


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        (["crsweep run x.yaml", "crsweep judge out --only relevance"], "crsweep run x.yaml"),
        (["crsweep run x.yaml", "crsweep prepare x.yaml"], "crsweep run x.yaml"),
        (["crsweep submit x.yaml --address http://h:8265", ""], "crsweep submit x.yaml"),
        (["crsweep judge out"], "crsweep run SWEEP"),
    ],
)
def test_episodes_are_run_again_by_the_latest_command_that_runs_episodes(
    tmp_path, capsys, typed, found
):
    built = Built(grid_of("a", backbones=["s"]), seeds=[0])
    built.failed(built.cells[0], "u0", 0, "agent", error_class="AgentError")
    runs = [
        {"driver_epoch": n, "started": n, "command": command, "typed_in": str(Path.cwd())}
        for n, command in enumerate(typed)
    ]
    show_status(str(built.write(tmp_path / "out", runs=runs)), Console(width=200))
    assert f"changed its code): {found} " in capsys.readouterr().out
