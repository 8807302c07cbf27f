"""The pool of slots: no barriers, bounded uncommitted work, errors that end it.

Time is virtual.
"""

import asyncio
import dataclasses
import functools
from types import SimpleNamespace
from typing import Any

import pytest

from agents.core.artifacts import Content
from agents.core.ask import CallLog, CallRecord
from agents.core.calls import Call, Completion
from agents.core.dialogue import UserTurn
from agents.core.errors import ModelUnavailable, StoreError
from agents.core.seeds import Seeds
from simulators.core.dialogue import Transcript
from sweeps.artifacts import ARTIFACT, artifact_task
from sweeps.episodes import episode_task
from sweeps.storage.records import EPISODE
from tests import virtual_time
from tests.fakes import CASE, FakeModel
from tests.workers.backends.calls import TALK
from workers.core.usage import CallCounts, Usage, add
from workers.engines.clients import Losses
from workers.executors import pool as pools
from workers.executors.pool import TaskPool
from workers.kinds.artifacts import ArtifactAttempt, Written
from workers.results.bundles import check_rows
from workers.results.rows import EpisodeAttempt


@pytest.fixture(autouse=True)
def virtual(monkeypatch):
    """Bundles are written in no thread, which a virtual clock would not wait for."""

    async def to_thread(function, *args):
        await asyncio.sleep(function.__self__._writer.seconds)
        return function(*args)

    monkeypatch.setattr(pools.asyncio, "to_thread", to_thread)


def refs(count):
    return [episode_task(f"e{i}", 0, Seeds(0, 0, 0), f"u{i}") for i in range(count)]


class FakeRunner:
    """Plays each episode for `seconds(task)`."""

    def __init__(self, seconds=lambda task: 0.0):
        limits = SimpleNamespace(max_turns=5, shown_items=10)
        config = SimpleNamespace(success=SimpleNamespace(name="user_accepts"), limits=limits)
        self.cell: Any = SimpleNamespace(source=0, cell_id="c", axes={}, config=config)
        engines = SimpleNamespace(losses=Losses, wanted=frozenset)
        self.resources: Any = SimpleNamespace(engines=engines, close=self.close, loads=dict)
        self.seconds, self.running, self.most, self.finished, self.closed = seconds, 0, 0, 0, False

    async def run(self, task, log, on_progress):
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(self.seconds(task))
        self.running -= 1
        self.finished += 1
        return EpisodeAttempt(
            task, None, task.attempt_id(1), self.cell, "s", Transcript(), CallLog(), CASE, 0, 1
        )

    async def close(self):
        self.closed = True


class FakeWriter:
    def __init__(self, runner, seconds=0.0, fails=False):
        self.runner, self.seconds, self.fails = runner, seconds, fails
        self.bundles, self.written, self.most_uncommitted = [], 0, 0

    def write(self, tables):
        if self.fails:
            raise StoreError("cannot write: no space left on device")
        self.bundles.append([row["episode_id"] for row in tables["episodes"]])
        self.most_uncommitted = max(self.most_uncommitted, self.runner.finished - self.written)
        self.written += len(tables["episodes"])
        return "bundle"


def pool_of(runner: Any, writer: Any, slots: int) -> TaskPool:
    return TaskPool(runner, writer, slots)


def played(runner, writer, count, slots, drain=True):
    async def main():
        pool, settled = pool_of(runner, writer, slots), []
        pool.add(refs(count))
        while len(settled) < count:
            settled += (await pool.report(0.05, drain)).outcomes
        settled += (await pool.stop()).outcomes
        return [s.task.id for s in settled]

    return virtual_time.run(main())


def test_every_episode_is_settled_once_and_only_after_it_was_written():
    runner = FakeRunner()
    writer = FakeWriter(runner)
    found = played(runner, writer, 500, 8)
    assert sorted(found) == sorted(f"e{i}" for i in range(500))
    assert sorted(e for bundle in writer.bundles for e in bundle) == sorted(found)
    assert runner.most == 8
    assert runner.closed


@pytest.mark.parametrize("first, then", [(8, 3), (3, 8), (8, 1), (1, 8)])
@pytest.mark.parametrize("busy", [True, False])
def test_a_pool_runs_as_many_at_once_as_it_was_last_allowed(first, then, busy):
    """Also if all its slots are idle at that moment. What runs is not broken off."""

    async def main():
        runner = FakeRunner(lambda task: 10.0)
        pool, settled = pool_of(runner, FakeWriter(runner), first), []
        if busy:
            pool.add(refs(first))
        await asyncio.sleep(1)
        pool.resize(then)
        pool.resize(then)
        still = runner.running
        await asyncio.sleep(20)
        runner.most = 0
        pool.add(refs(100)[first:])
        while len(settled) < 100 - (0 if busy else first):
            report = await pool.report(0.05, drain=True)
            assert report.busy <= then
            settled += report.outcomes
        await pool.stop()
        return still, runner.most

    assert virtual_time.run(main()) == (first if busy else 0, then)


def test_an_artifact_that_takes_longer_than_many_reports_is_reported_once_and_how_far_it_is():
    class Preparing(FakeRunner):
        async def run(self, task, log, on_progress):
            if task.kind == EPISODE:
                return await super().run(task, log, on_progress)
            for done in range(1, 5):
                on_progress(done, 4)
                await asyncio.sleep(0.05)
            return ArtifactAttempt(task, None, Written(Content({"of": task.id}), [], 0.2))

    found, far, settled = [], set(), []

    def take(report):
        for outcome in report.outcomes:
            (found if outcome.task.kind == ARTIFACT else settled).append(outcome.task.id)
        far.update(report.progress.get(ARTIFACT, {}).items())

    async def main():
        runner = Preparing()
        pool = pool_of(runner, FakeWriter(runner), 2)
        pool.add([artifact_task("a", 0, "tree", 0), artifact_task("b", 0, "tree", 0), *refs(3)])
        while len(found) < 2 or len(settled) < 3:
            take(await pool.report(0.01, drain=True))
        take(await pool.stop())

    virtual_time.run(main())
    assert sorted(found) == ["a", "b"]
    assert {("a", (1, 4)), ("b", (4, 4))} <= far
    assert sorted(settled) == ["e0", "e1", "e2"]


def test_a_slow_episode_holds_up_no_other():
    order = []

    class Noting(FakeRunner):
        async def run(self, task, log, on_progress):
            attempt = await super().run(task, log, on_progress)
            order.append(task.id)
            return attempt

    runner = Noting(lambda task: 0.5 if task.id == "e0" else 0.001)
    played(runner, FakeWriter(runner), 200, 4)
    assert order[-1] == "e0"


def test_finished_work_that_is_not_yet_committed_is_bounded_when_the_disk_is_slow():
    runner = FakeRunner()
    writer = FakeWriter(runner, seconds=0.02)
    played(runner, writer, 2000, 16)
    assert max(map(len, writer.bundles)) <= pools.FLUSH_ATTEMPTS
    # Two bundles, and one finished episode in the hand of each slot that waits.
    assert writer.most_uncommitted <= 2 * pools.FLUSH_ATTEMPTS + 16


def test_episodes_that_end_at_once_are_written_in_full_bundles():
    """Each slot that waits for room wrote a bundle of its own: 20 ms for one episode."""
    runner = FakeRunner(lambda task: 1.0)
    writer = FakeWriter(runner, seconds=0.02)
    played(runner, writer, 1024, 512)
    assert len(writer.bundles) <= 1024 / pools.FLUSH_ATTEMPTS + 2


def test_a_bundle_is_due_after_some_seconds_even_if_it_is_not_full(monkeypatch):
    monkeypatch.setattr(pools, "FLUSH_SECONDS", 0.1)
    runner = FakeRunner(lambda task: 0.0 if task.id != "e9" else 0.6)
    writer = FakeWriter(runner)
    played(runner, writer, 10, 4, drain=False)
    assert len(writer.bundles) == 2


def test_a_disk_that_cannot_be_written_ends_the_pool_with_its_message():
    runner = FakeRunner()
    with pytest.raises(StoreError, match="no space left"):
        played(runner, FakeWriter(runner, fails=True), 10, 2)


def test_stopping_commits_what_is_finished_and_drops_the_rest():
    runner = FakeRunner(lambda task: 0.0 if int(task.id[1:]) < 5 else 60)
    writer = FakeWriter(runner)

    async def main():
        pool = pool_of(runner, writer, 4)
        pool.add(refs(50))
        await asyncio.sleep(0.1)
        return await pool.stop()

    report = virtual_time.run(main())
    assert sorted(s.task.id for s in report.outcomes) == ["e0", "e1", "e2", "e3", "e4"]


def test_what_is_withdrawn_never_begins_and_what_has_begun_ends():
    runner = FakeRunner(lambda task: 0.2)

    async def main():
        pool = pool_of(runner, FakeWriter(runner), 4)
        pool.add(refs(50))
        await asyncio.sleep(0.1)
        pool.withdraw()
        assert (await pool.report(0, True)).running == {EPISODE: 4}
        found = []
        while True:
            report = await pool.report(0.05, True)
            found += report.outcomes
            if not any(report.running.values()):
                break
        assert runner.finished == 4
        pool.add(refs(3))  # its slots are well
        while len(found) < 7:
            found += (await pool.report(0.05, True)).outcomes
        await pool.stop()
        return found

    assert len(virtual_time.run(main())) == 7


def test_running_counts_what_has_begun_and_is_not_committed():
    runner = FakeRunner(lambda task: 0.0 if int(task.id[1:]) < 5 else 60)

    async def main():
        pool = pool_of(runner, FakeWriter(runner), 4)
        pool.add(refs(20))
        await asyncio.sleep(0.1)
        begun = (await pool.report(0)).running[EPISODE]
        last = await pool.stop()
        return begun, len(last.outcomes)

    assert virtual_time.run(main()) == (9, 5)


def paid_call(model, **changes):
    done = Completion("", "stop", **{"input_tokens": 10, "output_tokens": 5, **changes})
    return CallRecord(None, SimpleNamespace(name=model), done, True, None, 0, 0)  # type: ignore[arg-type]


def test_calls_are_paid_when_they_end_not_when_their_dialogue_does_and_cached_ones_are_free():
    class Talking(FakeRunner):
        async def run(self, task, log, on_progress):
            log.records.append(paid_call("a"))
            await asyncio.sleep(0.1)
            log.records.append(paid_call("b", input_tokens=None))
            log.records.append(paid_call("a", cached=True))
            log.records.append(CallRecord(None, None, None, False, None, 0, 0))  # type: ignore[arg-type]
            await asyncio.sleep(60)

    runner = Talking()

    async def main():
        pool = pool_of(runner, FakeWriter(runner), 2)
        pool.add(refs(2))
        await asyncio.sleep(0.05)
        first = await pool.report(0)
        await asyncio.sleep(0.2)
        return first, await pool.report(0), await pool.stop()

    first, second, third = virtual_time.run(main())
    assert first.paid == {"a": Usage(20, 10, 0, 2)}
    assert second.paid == {"b": Usage(0, 10, 2, 0)}
    assert first.counts == CallCounts(calls=2, tokens=30)
    assert second.counts == CallCounts(calls=6, cached=2, tokens=2 * (5 + 15), uncounted=2)
    assert (third.paid, third.counts) == ({}, CallCounts())  # no call is counted twice


def test_calls_of_a_dialogue_that_ends_between_reports_are_counted_once():
    class Talking(FakeRunner):
        async def run(self, task, log, on_progress):
            for _ in range(3):
                log.records.append(paid_call("a"))
                await asyncio.sleep(0.03)
            return await super().run(task, log, on_progress)

    runner = Talking()

    async def main():
        pool, counts, paid, settled = pool_of(runner, FakeWriter(runner), 4), [], {}, 0
        pool.add(refs(10))
        while settled < 10:
            report = await pool.report(0.05, True)
            counts.append(report.counts)
            settled += len(report.outcomes)
            add(paid, report.paid)
        counts.append((await pool.stop()).counts)
        return functools.reduce(CallCounts.plus, counts), paid

    assert virtual_time.run(main()) == (CallCounts(30, tokens=450), {"a": Usage(300, 150, 0, 30)})


def test_a_value_that_no_column_takes_costs_its_own_attempt_and_its_speaker_is_to_blame():
    """Of 12 attempts in one bundle two have an odd call, one of each side, and one an odd turn."""

    class Odd(FakeRunner):
        async def run(self, task, log, on_progress):
            attempt = await super().run(task, log, on_progress)
            if task.id in ("e3", "e5"):
                role = "agent" if task.id == "e3" else "user.opening"
                call = Call(TALK, role, "u1", 1, 2**20, 0, 7, (), {})
                done = Completion("hi", "stop", 10, 5)
                record = CallRecord(call, FakeModel(str), done, True, None, 0, 0)
                return dataclasses.replace(attempt, journal=CallLog(records=[record]))
            if task.id == "e7":
                odd = Transcript(UserTurn(3, "answer"))  # type: ignore[arg-type]
                return dataclasses.replace(attempt, transcript=odd)
            return attempt

    class Storing(FakeWriter):
        def write(self, tables):
            for name, rows in tables.items():
                check_rows(name, rows)
            self.tables = tables
            return super().write(tables)

    async def main():
        pool, settled = pool_of(runner, writer, 4), []
        pool.add(refs(12))
        while len(settled) < 12:
            settled += (await pool.report(0.05, True)).outcomes
        await pool.stop()
        return {s.task.id: (s.error_class, s.blame, s.error) for s in settled if s.blame}

    runner = Odd()
    writer = Storing(runner)
    failed = virtual_time.run(main())
    assert {key: value[:2] for key, value in failed.items()} == {
        "e3": ("AgentError", "agent"),
        "e5": ("UserError", "user"),
        "e7": ("UserError", "user"),
    }
    assert "a call cannot be stored: draw: " in failed["e3"][2]
    assert "a turn cannot be stored: user_text: " in failed["e7"][2]
    assert len(writer.tables["episodes"]) == 12
    assert writer.tables["calls"] == []


@pytest.mark.parametrize("later", [False, True])
def test_nothing_is_begun_once_a_model_serves_no_call(later):
    class Refused(FakeRunner):
        async def run(self, task, log, on_progress):
            attempt = await super().run(task, log, on_progress)
            return dataclasses.replace(attempt, error=ModelUnavailable("HTTP 402"))

    async def main():
        runner = Refused()
        pool = pool_of(runner, FakeWriter(runner), 4)
        pool.add(refs(50))
        async with asyncio.timeout(60):
            while (found := await pool.report(0.05)).unavailable is None:
                pass
        if later:
            pool.add(refs(50))
            await asyncio.sleep(0.01)
        last = await pool.stop()
        return runner.finished, found, last

    finished, found, last = virtual_time.run(main())
    assert finished <= 4
    assert (found.unavailable, found.waiting) == ("HTTP 402", 0)
    settled = found.outcomes + last.outcomes
    assert [s.error_class for s in settled] == ["ModelUnavailable"] * finished
