"""The second stage: stored dialogues are judged, once, whatever happens in between."""

import io
import shutil
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from agents.core.calls import Completion
from agents.core.errors import EngineDead, UsageError
from analysis.results import Results
from analysis.statistics.pairs import make_pairs
from analysis.tables.table import make_table
from runner.cli.main import main
from runner.commands.status import show_status
from runner.driver import run as runs
from runner.driver.judging import Selection
from runner.driver.run import judge, run
from tests.runner.processes import kill, wait_for
from tests.runner.reading import raw
from tests.sweep_files import write_sweep
from workers.backends.rules.backend import RulesBackend

ANSWER = RulesBackend.complete
CASES = 2
GRID = {"agent": ["zero_shot", "react"], "roles.agent": ["strong"], "seed": [0, 1]}
ROLES = {"user": "strong", "judge": "weak"}
PAIR = {"name": "pairwise", "axis": "agent", "baseline": "zero_shot", "against": ["react"]}
JUDGES = ["relevance", "intention", {"name": "credibility", "samples": 2}, PAIR]


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    """Runs and judges a small sweep; calls go through `sweep.answer`, if there is one."""
    found = SimpleNamespace(answer=None, calls=Counter(), out=tmp_path / "out", printed="")

    async def complete(self, call):
        found.calls[call.role.split(".")[0]] += 1
        return await (found.answer or ANSWER)(self, call)

    monkeypatch.setattr(RulesBackend, "complete", complete)

    def write(**changes):
        given = {"grid": GRID, "roles": ROLES, "judges": JUDGES, "cases": {"sample": CASES}}
        return write_sweep(tmp_path, **{**given, **changes})

    def playing(retry=(), **changes):
        console = Console(file=(printed := io.StringIO()), width=200)
        result = run(write(**changes), [], retry=retry, accept_source_change=False, console=console)
        found.printed = printed.getvalue()
        return result

    def judging(*overrides, what=None, retry=(), **selection):
        console = Console(file=(printed := io.StringIO()), width=200)
        result = judge(
            str(what or found.out),
            overrides,
            selection=Selection(**selection),
            retry=retry,
            accept_source_change=False,
            console=console,
        )
        found.printed = printed.getvalue()
        return result

    found.write, found.run, found.judge = write, playing, judging
    return found


def view(sweep):
    return Results.open(sweep.out).query("SELECT * FROM judgements").df()


def test_a_run_judges_all_dialogues_once_they_are_there_and_nothing_twice(sweep):
    result = sweep.run()
    assert (result.noun, result.left) == ("judgement", 0)
    found = view(sweep)
    assert set(found.status) == {"valid"}
    turns = raw(sweep.out, "turns").query("turn > 0")
    assert len(found[found.judge == "relevance"]) == 3 * len(turns)
    accepted = raw(sweep.out, "episodes").accepted_item.notna().sum()
    assert len(found[found.judge == "intention"]) == 3 * accepted
    assert set(found[found.judge == "credibility"]["sample"]) == {0, 1}
    pairs = found[found.judge == "pairwise"]
    assert len(pairs) == 2 * CASES * 4 * 2  # seeds, cases, dimensions, orders
    assert Counter(pairs.prefix) == {"a": len(pairs) // 2, "b": len(pairs) // 2}
    calls = raw(sweep.out, "calls")
    assert Counter(calls[calls.attempt_id.isin(found.judging_id)].role)["agent"] > 0
    before = sweep.calls.copy()
    assert sweep.run().left == 0
    assert "nothing to judge" in sweep.printed
    assert sweep.judge().left == 0
    assert sweep.calls == before


def test_judges_that_are_added_changed_or_removed_rerun_no_dialogue(sweep):
    sweep.run(judges=["relevance"])
    spoken = sweep.calls["agent"], sweep.calls["user"]
    first = sweep.calls["judge"]
    sweep.run(judges=["relevance", "credibility"])
    assert set(view(sweep).judge) == {"relevance", "credibility"}
    added = sweep.calls["judge"] - first
    sweep.run(judges=["credibility"])
    assert set(view(sweep).judge) == {"credibility"}
    assert sweep.calls["judge"] == first + added
    sweep.run(judges=["relevance"], roles={**ROLES, "judge": "strong"})
    assert sweep.calls["judge"] == 2 * first + added
    assert (sweep.calls["agent"], sweep.calls["user"]) == spoken
    digests = raw(sweep.out, "judgements").groupby("judge", observed=True).judge_digest.nunique()
    assert dict(digests) == {"relevance": 2, "credibility": 1}


def test_a_selection_is_judged_and_the_rest_stays(sweep):
    sweep.run(judges=[])
    assert sweep.calls["judge"] == 0
    judges = "judges=[relevance, credibility]"
    sweep.judge(judges, only=["credibility"], where="agent = 'react'", limit=3)
    found = view(sweep)
    assert set(found.judge) == {"credibility"}
    assert found.episode_id.nunique() <= 3
    assert "3 dialogues" in sweep.printed
    sweep.judge(judges)
    assert set(view(sweep).judge) == {"relevance", "credibility"}
    assert view(sweep).judgement_id.is_unique


def test_a_wrong_selection_is_refused(sweep):
    sweep.run(judges=["relevance"])
    for selection, message in (
        ({"only": ["relevence"]}, "the sweep has no judge 'relevence'; did you mean 'relevance'?"),
        ({"where": "agnt = 'react'"}, "agnt"),
        ({"where": "true; DROP TABLE plan_cells"}, "SQL: expected one query that only reads"),
    ):
        with pytest.raises(UsageError) as caught:
            sweep.judge(**selection)
        assert message in caught.value.message


@pytest.mark.parametrize("command", ["run", "judge", "prepare"])
def test_every_command_that_takes_a_lease_can_wait_for_it_and_two_run_what_failed_again(
    monkeypatch, capsys, command
):
    given = {}

    def called(*_, **options):
        given.update(options)
        raise UsageError("seen")

    monkeypatch.setattr(runs, "judge" if command == "judge" else "run", called)
    retry = [] if command == "prepare" else ["--retry", "agent"]
    assert main([command, "x.yaml", "--wait-for-lease", "7", *retry]) == 2
    assert capsys.readouterr().err == "error: seen\n"
    assert given["wait_for_lease"] == 7
    assert given.get("retry", []) == retry[1:]


def test_a_folder_without_judges_is_refused(sweep):
    sweep.run(judges=[])
    with pytest.raises(UsageError, match="there are no judges to run"):
        sweep.judge()


def test_what_is_wrong_in_a_stored_sweep_is_named_by_the_folders_manifest(sweep, monkeypatch):
    monkeypatch.setenv("USERS", "5")
    sweep.run(judges=[], domain={"name": "synthetic", "items": 120, "users": "${oc.env:USERS}"})
    monkeypatch.delenv("USERS")
    with pytest.raises(UsageError) as refused:
        sweep.judge()
    assert refused.value.message.startswith(f"{sweep.out}/manifest.json: domain.users: the envir")


def test_what_infrastructure_fails_is_judged_by_the_next_run_and_hides_no_verdict(sweep):
    async def answer(self, call):
        if call.role == "judge.credibility":
            raise EngineDead("gone")
        return await ANSWER(self, call)

    sweep.answer = answer
    judges = ["relevance", "credibility"]
    result = sweep.run(judges=judges, retries={"transient": 0, "episode": 1})
    failed = view(sweep).query("status == 'failed'")
    assert result.left == len(failed) > 0
    assert set(failed.error_class) == {"EngineDead"}
    assert failed.dimension.isna().all()
    assert failed.value.isna().all()
    sweep.answer = None
    assert sweep.judge().left == 0
    assert set(view(sweep).status) == {"valid"}


def test_a_judgement_that_would_fail_again_is_made_again_where_retry_names_its_class_or_blame(
    sweep, capsys
):
    """The reply of a pair is the agent's: that it stays invalid is the agent's fault."""
    sweep.run(judges=[])

    async def answer(self, call):
        if call.role == "agent":
            return Completion("no reply of that form", "stop", 1, 1)
        return await ANSWER(self, call)

    sweep.answer = answer
    result = sweep.run(judges=[PAIR, "relevance"])
    failed = view(sweep).query("status == 'failed'")
    assert result.left == 0
    assert set(zip(failed.blame, failed.error_class, strict=True)) == {("agent", "ReplyInvalid")}
    pairs = 2 * CASES
    assert len(failed) == pairs
    show_status(str(sweep.out), Console(width=200))
    printed = capsys.readouterr().out
    assert f"{pairs} x ReplyInvalid (judgements), blame agent; to rerun them" in printed
    assert "crsweep run SWEEP --retry ReplyInvalid" in printed
    sweep.answer = None
    before = sweep.calls.copy()
    assert sweep.judge().left == 0
    assert sweep.judge(retry=["AgentError"]).left == 0
    assert sweep.calls == before
    assert sweep.judge(retry=["ReplyInvalid"], where="seed = 0").planned < result.planned
    assert sum(view(sweep).status == "failed") == pairs // 2
    spoken = sweep.calls["user"]
    assert sweep.run(judges=[PAIR, "relevance"], retry=["agent"]).left == 0
    found = view(sweep)
    assert set(found.status) == {"valid"}
    assert len(raw(sweep.out, "judgements").query("status == 'failed'")) == pairs  # they are kept
    assert sweep.calls["user"] == spoken
    sweep.judge(retry=["agent"])
    assert "nothing to judge" in sweep.printed
    with pytest.raises(UsageError, match="--retry agnet: no such blame or error class"):
        sweep.judge(retry=["agnet"])


def test_a_judge_that_is_never_valid_is_unparsed_and_settled(sweep):
    async def answer(self, call):
        if call.role == "judge.relevance":
            return Completion("five of five", "stop", 1, 1)
        return await ANSWER(self, call)

    sweep.answer = answer
    assert sweep.run(judges=["relevance"]).left == 0
    found = view(sweep)
    assert set(found.status) == {"unparsed"}
    assert found.value.isna().all()
    asked = sweep.calls["judge"]
    assert sweep.judge().left == 0
    assert sweep.calls["judge"] == asked


def test_dialogues_are_judged_only_once_all_have_run(sweep):
    async def answer(self, call):
        if call.role == "user":
            raise EngineDead("gone")
        return await ANSWER(self, call)

    sweep.answer = answer
    result = sweep.run(retries={"transient": 0, "episode": 0})
    assert (result.noun, result.left) == ("episode", 4 * CASES)
    assert sweep.calls["judge"] == 0
    assert "dialogues are judged once all of them have run" in sweep.printed


def test_samples_of_a_greedy_model_are_refused(sweep):
    models = {
        "strong": {"backend": "rules", "skill": 0.9},
        "greedy": {"backend": "openai", "model": "m", "base_url": "http://127.0.0.1:9/v1",
                   "sampling": {"temperature": 0}},
    }  # fmt: skip
    with pytest.raises(UsageError, match=r"is greedy .* and gives the same verdict each time"):
        sweep.run(
            models=models,
            roles={"user": "strong", "agent": "strong", "judge": "greedy"},
            grid={"agent": ["zero_shot"], "seed": [0]},
            judges=[{"name": "relevance", "samples": 2}],
        )


def test_a_driver_killed_while_judging_is_resumed_without_judging_twice(sweep, start):
    judges = ["relevance", {"name": "credibility", "samples": 2}]
    # Enough for many bundles: the first is seen long before the last is written.
    changes = {"cases": {"sample": 60}, "judges": judges}
    path = sweep.write(**changes)
    process = start(path)
    wait_for(lambda: list(sweep.out.glob("judgements/*.parquet")), process, "a judgement")
    kill(process)
    before = raw(sweep.out, "judgements")
    assert sweep.run(**changes).left == 0
    after = raw(sweep.out, "judgements")
    found = view(sweep)
    assert 0 < before.task_id.nunique() < after.task_id.nunique()
    assert after.judgement_id.is_unique  # no task was run again
    assert len(found) == len(after)
    turns = raw(sweep.out, "turns").query("turn > 0")
    assert len(found[found.judge == "relevance"]) == 3 * len(turns)


def test_a_damaged_part_of_judgements_is_set_aside_and_judged_again(sweep):
    sweep.run()
    whole = view(sweep).sort_values("judgement_id").value.tolist()
    (part,) = sweep.out.glob("judgements/*.parquet")
    part.write_bytes(part.read_bytes()[:-20])
    assert sweep.judge().left == 0
    assert "judgements" in sweep.printed
    assert "damaged" in sweep.printed
    assert view(sweep).sort_values("judgement_id").value.tolist() == whole


def test_judgements_without_their_calls_are_made_again(sweep):
    sweep.run(judges=["relevance"])
    (part,) = sweep.out.glob("calls/*.parquet")
    part.unlink()
    sweep.run(judges=["relevance"])
    judging = set(view(sweep).judging_id)
    assert judging <= set(raw(sweep.out, "calls").attempt_id)


def test_a_cap_stops_judging_and_the_next_run_completes_it(sweep):
    sweep.run(judges=[])
    result = sweep.judge("judges=[relevance, credibility]", "caps.tokens=1")
    assert result.left == result.planned
    assert "caps.tokens is reached" in sweep.printed
    assert sweep.judge("caps.tokens=null").left == 0


VERDICTS = [
    "relevance", "relevance_clarity", "relevance_sufficiency", "relevance_alignment",
    "prs_zero_if_rejected", "prs_over_accepted", "prs_filtered", "prs_abs", "ca_over_all@4",
    "ca_over_accepted@4", "cred_per_turn", "win_rate@overall", "order_bias@overall",
]  # fmt: skip


def test_tables_have_the_metrics_that_the_judges_of_the_sweep_give(sweep):
    sweep.run(metrics=["sr@5", *VERDICTS])
    results = Results.open(sweep.out)
    table = make_table(results, results.manifest.metrics)
    assert [metric.name for metric in table.metrics[1:]] == VERDICTS
    for name, value in zip(VERDICTS, table.rows[0].values[1:], strict=True):
        assert name.startswith("prs_") or value.mean is not None, name
    assert all(1 <= row.values[1].mean <= 5 for row in table.rows)  # type: ignore[operator]
    pairs = make_pairs(results).rows
    assert [row.against for row in pairs] == ["react"] * 4
    assert {(row.pairs, row.planned) for row in pairs} == {(2 * CASES, 2 * CASES)}


def test_tokens_of_judges_are_counted_by_role_and_belong_to_the_dialogue_that_is_judged(
    sweep, capsys
):
    metrics = ["tokens", "tokens@judge", "tokens@judge.credibility", "tokens@judge.pairwise"]
    sweep.run(metrics=metrics)
    results = Results.open(sweep.out)
    rows = make_table(results, metrics).rows
    calls = raw(sweep.out, "calls")
    calls["tokens"] = calls.input_tokens + calls.output_tokens
    verdicts = view(sweep).drop_duplicates("judging_id")
    made = verdicts.merge(calls, left_on="judging_id", right_on="attempt_id")
    episodes = results.query("SELECT attempt_id, cell FROM episodes").df()
    made = made.merge(episodes, left_on="attempt_id_x", right_on="attempt_id")
    spoken = calls.merge(episodes, on="attempt_id")
    for cell, row in enumerate(rows):
        of_cell = made[made.cell == cell]
        wanted: list[Any] = [
            spoken["tokens"][spoken.cell == cell].sum(),
            of_cell["tokens"][of_cell.role.str.startswith("judge.")].sum(),
            of_cell["tokens"][of_cell.role == "judge.credibility"].sum(),
            of_cell["tokens"][of_cell.role == "judge.pairwise"].sum(),
        ]
        found = [value.mean for value in row.values]
        # Only the first side of a pair has its tokens.
        assert found == pytest.approx([int(w) / (2 * CASES) or None for w in wanted])
    show_status(str(sweep.out), Console(width=200))
    judging = calls[calls.role.str.startswith("judge")]
    printed = capsys.readouterr().out
    assert f"judges: {len(judging):,} calls; tokens: {judging.tokens.sum():,}\n" in printed
    replies = calls[calls.attempt_id.isin(verdicts.judging_id)].query("role == 'agent'")
    assert (
        f"replies made for pairs: {len(replies):,} calls; tokens: {replies.tokens.sum():,}\n"
        in (printed)
    )


@pytest.mark.parametrize(
    ("metric", "judges", "message"),
    [
        ("relevance", ["intention"], "metrics.1: metric 'relevance' reads the verdicts of the"),
        ("win_rate@al", [PAIR], "metrics.1: metric 'win_rate@al': the judge 'pairwise' has no"),
        (
            "prs_abs",
            ["intention", {"name": "intention", "label": "b", "item": "last_recommended"}],
            "several judges are of the plug-in 'intention' (intention, b); name one of them: "
            "prs_abs@intention",
        ),
    ],
)
def test_a_metric_whose_judge_is_not_listed_is_refused_in_one_line(sweep, metric, judges, message):
    with pytest.raises(UsageError) as caught:
        sweep.run(judges=judges, metrics=["sr@5", metric])
    assert message in caught.value.message
    assert "\n" not in caught.value.message


def test_a_pair_whose_agent_cannot_be_prepared_is_left_and_all_others_are_judged(sweep, tmp_path):
    def changes(fault):
        agent = {"name": "tests.prepared_agent", "uses": "fit", "fault": fault}
        grid = {"agent": ["zero_shot", agent], "roles.agent": ["strong"], "seed": [0, 1]}
        return {"grid": grid, "artifacts": {"path": str(tmp_path / "store")}}

    sweep.run(judges=[], **changes(""))
    shutil.rmtree(tmp_path / "store")
    pair = {**PAIR, "against": ["tests.prepared_agent"]}
    result = sweep.run(judges=[pair], **changes("raises"))  # where the training seed is 1
    assert "seed 1: cannot be prepared" in sweep.printed
    found = view(sweep)
    judged = found.drop_duplicates("task_id")
    assert set(found.status) == {"valid"}
    assert len(judged) + result.left == 2 * CASES
    episodes = raw(sweep.out, "episodes").set_index("episode_id").seed_training
    replied = judged[judged.prefix == "a"].other_episode_id.map(episodes)
    assert set(replied) == {0}
    assert result.left > 0
