"""What a run adapts its dialogues at once to: reports of its workers and loads of its engines."""

import asyncio

from runner.driver.concurrency import Concurrency, first_slots, worker_count
from runner.driver.scheduler import LeaseQueue, drive
from sweeps.schema import Run
from sweeps.storage.records import EPISODE
from tests.runner.driver.test_scheduler import EPOCH, FakeWorker, Listening, Lost, refs
from workers.core.concurrency import Load
from workers.core.usage import CallCounts
from workers.executors.pool import Report


def run(**given):
    return Run.model_validate({"executor": "ray", "episode_workers": 2, **given})


def report(busy=32, calls=100, cached=0, **loads):
    return Report([], CallCounts(calls, cached=cached), {}, 0, busy=busy, loads=loads)


def adapting(engines, clock):
    found = Concurrency(run(concurrency="auto"), 2, lambda: engines)
    found._adaptive._clock = clock
    return found


def test_a_number_stays_what_it_is():
    fixed = Concurrency(run(concurrency=7), 2, dict)
    fixed.record("a", report(x=Load(1, refused=50)))
    fixed.adjust()
    assert (fixed.limit(), fixed.adapts, fixed.entry()) == (7, False, None)
    assert (first_slots(run(concurrency=7), 2), worker_count(run(concurrency=1))) == (4, 1)
    assert (first_slots(run(concurrency="auto"), 2), worker_count(run(concurrency="auto"))) == (
        32,
        2,
    )


def test_calls_that_wait_in_workers_are_added_to_what_the_engine_does():
    now = iter(range(1000))
    engines = {"e": Load(running=50, kv=0.2)}
    adapted = adapting(engines, lambda: next(now))
    for _ in range(3):
        for name in "ab":
            adapted.record(name, report(e=Load(waiting=30)))
        adapted.adjust()
    assert adapted.limit() == 64 - (60 - 5 - 4)
    entry = adapted.entry()
    assert entry is not None
    assert (entry.now, entry.moves[0][1:]) == (13, (13, "queueing"))


def test_refusals_of_a_server_that_two_workers_met_count_together_and_cached_calls_do_not():
    now = iter(range(1000))
    adapted = adapting({}, lambda: next(now))
    for refused in (0, 0, 0):
        for name in "ab":
            adapted.record(name, report(calls=50, cached=50, s=Load(32, refused=refused)))
        adapted.adjust()
    assert adapted.limit() == 64  # nothing was answered by the server, so there was no round
    adapted.record("b", report(s=Load(32, refused=1)))
    adapted.adjust()
    assert adapted.limit() == 48
    adapted.forget("a")
    assert list(adapted._reports) == ["b"]


def test_workers_get_their_share_of_the_limit():
    sizes = []
    limit = 64

    class Sized(FakeWorker):
        async def resize(self, slots, processes):
            nonlocal limit
            self.slots = slots
            sizes.append(slots)
            limit = {32: 9, 5: 1}.get(slots, limit)  # the next limit

    async def main():
        listening = Listening()
        workers = [Sized(name, {}) for name in "ab"]
        await drive(
            workers, LeaseQueue([refs(60)], 2), {EPISODE: listening}, listening, asyncio.Event(),
            lost=Lost, replace=None, epoch=EPOCH, left_behind=dict, limit=lambda: limit,
        )  # fmt: skip
        return workers, listening

    workers, listening = asyncio.run(main())
    assert sizes[0] == 32
    assert set(sizes) == {32, 5, 1}
    assert [worker.slots for worker in workers] == [1, 1]
    assert len(listening.done) == 60
