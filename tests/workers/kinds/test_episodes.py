"""Whole attempts in one process: what one odd value or one broken model costs, and whom."""

import asyncio
import io
import threading
from types import SimpleNamespace

import pytest
from rich.console import Console

from agents.core.dialogue import AgentTurn
from agents.core.errors import EngineDead, EngineRefused, ModelUnavailable, UsageError
from agents.zero_shot import ZeroShot
from runner.commands.doctor import examine
from runner.driver.budget import Budget
from runner.driver.early_stop import EarlyStop
from runner.driver.loading import load_plan
from runner.driver.run import run
from runner.driver.scheduler import LeaseQueue, drive
from sweeps.schema import Caps
from sweeps.storage.records import EPISODE
from tests.runner.reading import raw
from tests.sweep_files import write_sweep
from tests.workers.backends.fake_openai import FakeOpenAI
from workers import resources
from workers.backends.rules.backend import RulesBackend
from workers.executors.local import LocalWorker
from workers.job import job_of

GRID = {"agent": ["zero_shot"], "roles.agent": ["strong"], "seed": [0]}
COMPLETE = RulesBackend.complete


class Quiet:
    def settled(self, settled, final): ...
    def counted(self, worker, report): ...
    def lost(self, worker, again): ...


@pytest.fixture
def play(tmp_path):
    """Runs a sweep of `count` dialogues as a driver does; the raw rows of its episodes."""

    def of(count=12, slots=4, **changes):
        changes = {"grid": GRID, "cases": {"sample": count}, **changes}
        plan = load_plan(write_sweep(tmp_path, **changes), [])
        job = job_of(plan, probe=plan.probe, executor="local", epoch=1, run_id="r")
        said = []

        async def main():
            queue, stopping = LeaseQueue([plan.episode_tasks()], 0), asyncio.Event()
            guard = EarlyStop(Quiet(), queue, stopping, Budget(Caps(), {}), None, said.append)
            worker = LocalWorker(job, "w000", slots)
            await drive(
                [worker], queue, {EPISODE: guard}, guard, stopping, lost=EOFError,
                left_behind=lambda _: {}, replace=None, epoch=1,  # type: ignore[arg-type]
            )  # fmt: skip
            return guard

        guard = asyncio.run(main())
        return SimpleNamespace(rows=raw(tmp_path / "out", "episodes"), guard=guard, said=said)

    return of


def test_a_data_set_is_read_once_in_a_process_however_many_dialogues_and_cells_it_plays(
    play, monkeypatch
):
    """With one worker on each node (`episode_workers: auto`): once per node."""
    read = []
    original = resources.make_domain
    monkeypatch.setattr(
        resources, "make_domain", lambda *given: read.append(given[0]) or original(*given)
    )
    grid = {"agent": ["zero_shot", "react"], "roles.agent": ["strong", "weak"], "seed": [0, 1]}
    played = play(8, grid=grid)
    assert len(played.rows) == 64
    assert len(read) == 1


def failures(rows):
    """(class, blame) of each failed row."""
    failed = rows[rows.status == "failed"]
    return sorted(zip(failed.error_class, failed.blame, strict=True))


def at_one_case(monkeypatch, what, role="user"):
    """The model of the first case that asks fails with `what`, once."""
    first = []

    async def complete(self, call):
        if not first and call.role == role:
            first.append(call.scope)
            if isinstance(what, Exception):
                raise what
            return (await COMPLETE(self, call))._replace(**what)
        return await COMPLETE(self, call)

    monkeypatch.setattr(RulesBackend, "complete", complete)


class Mute(Exception):
    def __str__(self):
        raise RuntimeError


@pytest.mark.parametrize(
    "odd", [asyncio.CancelledError, SystemExit, GeneratorExit, BaseException, Mute]
)
def test_what_an_agent_raises_costs_its_own_dialogue_whatever_it_is(play, monkeypatch, odd):
    first, respond = [], ZeroShot.respond

    async def raising(self, dialogue, ask):
        if not first:
            first.append(ask)
            raise odd
        return await respond(self, dialogue, ask)

    monkeypatch.setattr(ZeroShot, "respond", raising)
    rows = play(4).rows
    assert failures(rows) == [("AgentError", "agent")]
    assert list(rows.status).count("done") == 3
    assert any(odd.__name__ in str(error) for error in rows.error)


def test_an_error_whose_message_holds_half_a_character_costs_its_own_dialogue(play, monkeypatch):
    at_one_case(monkeypatch, EngineRefused("HTTP 400: cannot read \ud83d"))
    rows = play().rows
    assert failures(rows) == [("EngineRefused", "infrastructure")]
    assert list(rows.status).count("done") == 11
    assert "HTTP 400: cannot read \ufffd" in set(rows.error)


def test_a_fault_of_a_backends_own_code_is_infrastructure(play, monkeypatch):
    at_one_case(monkeypatch, OSError(24, "Too many open files \udcff"))
    rows = play().rows
    assert failures(rows) == [("EngineRefused", "infrastructure")]
    assert list(rows.status).count("done") == 11


@pytest.mark.parametrize(
    "odd",
    [
        {"thinking": "half \ud83d", "fingerprint": "\udfff"},
        {"input_tokens": 4294967295, "output_tokens": -1, "thinking_tokens": "20"},
        {"input_tokens": True, "output_tokens": 10.5},
    ],
)
def test_an_odd_reply_is_used_and_an_impossible_count_is_unknown(play, monkeypatch, tmp_path, odd):
    at_one_case(monkeypatch, odd)
    assert list(play(4).rows.status) == ["done"] * 4
    calls = raw(tmp_path / "out", "calls")
    if "thinking" in odd:
        assert set(calls.thinking.dropna()) == {"half \ufffd"}
        assert set(calls.fingerprint.dropna()) == {"\ufffd"}
    else:
        assert calls.input_tokens.isna().sum() == calls.output_tokens.isna().sum() == 1


def test_a_reply_of_no_known_kind_is_the_backends_fault(play, monkeypatch):
    at_one_case(monkeypatch, {"finish_reason": "eos"})
    assert failures(play(4).rows) == [("EngineRefused", "infrastructure")]


@pytest.mark.parametrize(
    ("part", "kind"),
    [({"candidates": "ab"}, "AgentError"), ({"extra": {"x": object()}}, "AgentError")],
)
def test_what_cannot_be_stored_fails_its_own_dialogue(play, monkeypatch, part, kind):
    respond, odd = ZeroShot.respond, []

    async def once(self, dialogue, ask):
        turn = await respond(self, dialogue, ask)
        if odd:
            return turn
        odd.append(1)
        return AgentTurn("hm", "chat", **part)

    monkeypatch.setattr(ZeroShot, "respond", once)
    rows = play().rows
    assert failures(rows) == [(kind, "agent")]
    assert list(rows.status).count("done") == 11


def test_what_only_the_table_refuses_fails_its_own_dialogue_too(play, monkeypatch):
    """A draw beyond the numbers of its column."""
    respond, odd = ZeroShot.respond, []

    async def once(self, dialogue, ask):
        if not odd:
            odd.append(1)
            await ask(self.steps[0], draw=2**20, **self.fields(dialogue))
        return await respond(self, dialogue, ask)

    monkeypatch.setattr(ZeroShot, "respond", once)
    rows = play().rows
    assert len(rows) == 12
    assert [blame for _, blame in failures(rows)] == ["agent"]


@pytest.mark.parametrize("wrapped", [False, True])
def test_an_accident_that_an_agent_swallows_or_wraps_is_no_result(play, monkeypatch, wrapped):
    at_one_case(monkeypatch, EngineDead("connection reset"), "agent")

    respond = ZeroShot.respond

    async def careless(self, dialogue, ask):
        try:
            return await respond(self, dialogue, ask)
        except Exception as error:
            if wrapped:
                raise RuntimeError("planning failed") from error
            return AgentTurn("hm", "chat")

    monkeypatch.setattr(ZeroShot, "respond", careless)
    rows = play(4, retries={"transient": 0}).rows
    assert ("EngineDead", "infrastructure") in failures(rows)
    assert {blame for _, blame in failures(rows)} == {"infrastructure"}


def test_an_agent_that_cannot_be_made_is_to_blame_itself(play, monkeypatch):
    def broken(self, options, context):
        raise KeyError("items")

    monkeypatch.setattr(ZeroShot, "__init__", broken)
    assert failures(play(3).rows) == [("AgentError", "agent")] * 3


@pytest.mark.parametrize(
    "fault", [ImportError("no module named socksio"), OSError(24, "Too many open files")]
)
def test_a_backend_that_cannot_be_built_is_infrastructure_and_stops_the_run(
    play, monkeypatch, fault
):
    def broken(self, options, context):
        raise fault

    monkeypatch.setattr(RulesBackend, "__init__", broken)
    done = play(40)
    assert set(failures(done.rows)) == {("ModelUnavailable", "infrastructure")}
    assert len(done.rows) <= 4  # those that had begun
    assert type(fault).__name__ in done.guard.reason
    assert "cannot be built on" in done.said[0]


def test_a_variable_of_a_node_that_keeps_requests_from_leaving_is_named(play, monkeypatch):
    """The driver's was sound; this worker's is not."""
    with FakeOpenAI() as server:
        remote = {"backend": "openai", "base_url": server.url, "model": "qwen"}
        rules = {"backend": "rules"}
        monkeypatch.setenv("ALL_PROXY", "socks://127.0.0.1:7890")
        done = play(models={"strong": rules, "weak": remote}, roles={"user": "weak"})
        assert server.asked == []
    assert set(failures(done.rows)) == {("ModelUnavailable", "infrastructure")}
    assert "the environment variable ALL_PROXY" in done.guard.reason


def test_such_a_variable_is_named_before_a_run_starts_and_by_doctor(tmp_path, monkeypatch):
    with FakeOpenAI() as server:
        remote = {"backend": "openai", "base_url": server.url, "model": "qwen"}
        models = {"strong": {"backend": "rules"}, "weak": remote}
        path = write_sweep(tmp_path, models=models, roles={"user": "weak"}, grid=GRID)
        monkeypatch.setenv("SSL_CERT_FILE", "/missing/x.pem")
        console = Console(file=io.StringIO(), width=300)
        with pytest.raises(UsageError, match="the environment variable SSL_CERT_FILE"):
            run(path, [], accept_source_change=False, console=console)
        assert not (tmp_path / "out").exists()
        assert not examine(path, [], console)
        assert server.asked == []
    assert "FAIL  model weak: the environment variable SSL_CERT_FILE" in console.file.getvalue()  # type: ignore[attr-defined]


def test_a_model_that_serves_no_call_is_asked_as_often_as_dialogues_run(play, monkeypatch):
    asked = []

    async def complete(self, call):
        asked.append(threading.get_ident())
        await asyncio.sleep(0)
        raise ModelUnavailable("HTTP 401: no such key")

    monkeypatch.setattr(RulesBackend, "complete", complete)
    done = play(60, slots=4)
    assert len(asked) <= 4
    assert set(failures(done.rows)) == {("ModelUnavailable", "infrastructure")}
    assert len(done.rows) <= 4
    assert done.guard.reason == "HTTP 401: no such key"
    assert done.guard.unavailable
