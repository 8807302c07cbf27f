"""The lease queue: whatever fails or dies, every episode is settled once."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.core.errors import StoreError
from agents.core.seeds import Seeds
from runner.driver.scheduler import LeaseQueue, drive
from sweeps.artifacts import artifact_task
from sweeps.episodes import episode_task
from sweeps.storage.records import EPISODE
from sweeps.tasks import Outcome, Task
from workers.core.usage import CallCounts
from workers.executors.pool import Report

EPOCH = 7


def refs(count):
    return iter([episode_task(f"e{i}", 0, Seeds(0, 0, 0), f"u{i}") for i in range(count)])


def settled(task, status="done", blame=None):
    return Outcome(task, status, blame)


def attempt_id(task):
    return task.attempt_id(EPOCH)


def test_episodes_are_leased_in_order_and_each_to_one_worker():
    queue = LeaseQueue([refs(5)], retries=2)
    first, second = queue.lease("a", 3), queue.lease("b", 3)
    assert [r.id for r in first + second] == ["e0", "e1", "e2", "e3", "e4"]
    assert not queue.finished


def test_infrastructure_failures_are_tried_again_so_often_and_as_new_attempts():
    queue = LeaseQueue([refs(1)], retries=2)
    for attempt in range(3):
        [ref] = queue.lease("a", 5)
        assert ref.attempt == attempt
        assert queue.settle("a", settled(ref, "failed", "infrastructure")) is (attempt == 2)
    assert queue.lease("a", 5) == []
    assert queue.finished


@pytest.mark.parametrize("blame", ["agent", "user", "critic", None])
def test_failures_that_would_repeat_are_not_tried_again(blame):
    queue = LeaseQueue([refs(1)], retries=2)
    [ref] = queue.lease("a", 5)
    assert queue.settle("a", settled(ref, "failed", blame)) is True
    assert queue.lease("a", 5) == []


@given(
    st.integers(1, 30),
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["lease", "settle", "die", "fail"])),
             max_size=200),
)  # fmt: skip
def test_whatever_happens_every_episode_is_settled_exactly_once(count, events):
    queue = LeaseQueue([refs(count)], retries=1000)
    held: dict[str, list[Task]] = {"a": [], "b": [], "c": []}
    done: list[str] = []
    attempts: list[str] = []

    def play(worker, event):
        mine = held[worker]
        if event == "lease":
            new = queue.lease(worker, 4)
            attempts.extend(map(attempt_id, new))
            mine.extend(new)
        elif event == "settle" and mine:
            ref = mine.pop(0)
            assert queue.settle(worker, settled(ref))
            done.append(ref.id)
        elif event == "fail" and mine:
            assert not queue.settle(worker, settled(mine.pop(0), "failed", "infrastructure"))
        elif event == "die":
            committed = {attempt_id(ref): "done" for ref in mine[:1]}
            done.extend(ref.id for ref in queue.lose(worker, committed, EPOCH))
            mine.clear()

    for worker, event in events:
        play(worker, event)
    while not queue.finished:
        for worker in held:
            play(worker, "lease")
            while held[worker]:
                play(worker, "settle")
    assert sorted(done) == sorted(f"e{i}" for i in range(count))
    assert len(set(attempts)) == len(attempts)


def staged(*counts):
    """One stage for each count; the cell of an episode is its stage."""
    return [
        iter([episode_task(f"s{stage}e{i}", stage, Seeds(0, 0, 0), f"u{i}") for i in range(count)])
        for stage, count in enumerate(counts)
    ]


def test_a_stage_gives_nothing_before_it_is_opened_and_earlier_ones_go_first():
    queue = LeaseQueue(staged(2, 2), retries=2, opened=0)
    assert (queue.lease("a", 9), queue.nothing_to_lease, queue.finished) == ([], True, False)
    queue.open()
    assert not queue.nothing_to_lease
    assert [ref.cell for ref in queue.lease("a", 9)] == [0, 0]
    assert (queue.exhausted, queue.nothing_to_lease, queue.outstanding()) == (1, True, {0})
    queue.open()
    assert [ref.cell for ref in queue.lease("b", 9)] == [1, 1]
    assert (queue.exhausted, queue.outstanding()) == (2, {0, 1})


def test_cells_are_outstanding_until_their_last_episode_is_settled_for_good():
    queue = LeaseQueue(staged(1, 1), retries=1, opened=1)
    [ref] = queue.lease("a", 9)
    assert not queue.settle("a", settled(ref, "failed", "infrastructure"))
    assert queue.outstanding() == {0}  # it waits to be tried again
    [ref] = queue.lease("a", 9)
    assert queue.lose("a", {}, EPOCH) == []
    assert queue.outstanding() == {0}
    [ref] = queue.lease("b", 9)
    assert queue.settle("b", settled(ref))
    assert queue.outstanding() == set()
    assert not queue.finished  # a stage is still to come


@pytest.mark.parametrize("kind", ["EngineRefused", "CallQuarantined"])
def test_what_an_engine_refuses_is_not_tried_again(kind):
    queue = LeaseQueue(staged(1), retries=5)
    [ref] = queue.lease("a", 5)
    assert queue.settle("a", Outcome(ref, "failed", "infrastructure", kind, "no such model"))
    assert queue.lease("a", 5) == []
    assert queue.finished


def test_empty_stages_are_passed_over():
    queue = LeaseQueue(staged(0, 0, 1, 0), retries=0)
    [ref] = queue.lease("a", 5)
    assert ref.cell == 2
    assert queue.lease("a", 5) == []
    assert queue.settle("a", settled(ref))
    assert queue.finished


@given(
    st.lists(st.integers(0, 8), min_size=1, max_size=5),
    st.lists(st.tuples(st.sampled_from("ab"),
                       st.sampled_from(["lease", "settle", "die", "fail", "open"])), max_size=150),
)  # fmt: skip
def test_whatever_dies_no_stage_begins_early_and_every_episode_is_settled_once(counts, events):
    queue = LeaseQueue(staged(*counts), retries=1000, opened=0)
    held: dict[str, list[Task]] = {"a": [], "b": []}
    done: list[str] = []
    fresh: list[int] = []

    def play(worker, event):
        mine = held[worker]
        if event == "open" and queue.opened < len(counts):
            queue.open()
        elif event == "lease":
            new = queue.lease(worker, 3)
            assert all(ref.cell < queue.opened for ref in new)
            fresh.extend(ref.cell for ref in new if ref.attempt == 0)
            mine.extend(new)
        elif event == "settle" and mine:
            ref = mine.pop(0)
            assert queue.settle(worker, settled(ref))
            done.append(ref.id)
        elif event == "fail" and mine:
            assert not queue.settle(worker, settled(mine.pop(0), "failed", "infrastructure"))
        elif event == "die":
            committed = {attempt_id(ref): "done" for ref in mine[:1]}
            done.extend(ref.id for ref in queue.lose(worker, committed, EPOCH))
            mine.clear()
        assert queue.exhausted <= queue.opened
        assert {ref.cell for refs in held.values() for ref in refs} <= queue.outstanding()
        if queue.nothing_to_lease and queue.opened == len(counts) and not any(held.values()):
            assert queue.finished

    for worker, event in events:
        play(worker, event)
    for _ in range(200):
        for worker in held:
            for event in ("open", "lease", "settle", "settle"):
                play(worker, event)
    assert queue.finished
    assert queue.outstanding() == set()
    assert sorted(done) == sorted(f"s{s}e{i}" for s, n in enumerate(counts) for i in range(n))
    assert fresh == sorted(fresh)


class Lost(Exception):
    pass


class FakeWorker:
    """Settles what it is given; dies at its `dies_at`th report, its first ref committed."""

    slots = 2

    def __init__(self, name, log, dies_at=None, commits=1):
        self.name, self.log, self.dies_at, self.commits = name, log, dies_at, commits
        self.mine, self.reports = [], 0

    async def add(self, refs):
        self.mine += refs

    async def withdraw(self):
        self.withdrawn = len(self.mine)
        self.mine = []

    async def report(self, wait, drain):
        self.reports += 1
        await asyncio.sleep(0)
        if self.reports == self.dies_at:
            self.log[self.name] = {attempt_id(r): "done" for r in self.mine[: self.commits]}
            raise Lost("killed")
        now, self.mine = self.mine[:3], self.mine[3:]
        return Report([settled(r) for r in now], CallCounts(), {}, len(self.mine))

    async def stop(self):
        return Report([], CallCounts(), {}, 0)

    def abandon(self):
        pass


class Listening:
    def __init__(self):
        self.done, self.statuses, self.lost_workers = [], [], []

    async def received(self, one, final):
        if final:
            self.done.append(one.task.id)
            self.statuses.append(one.status)

    def counted(self, worker, report):
        pass

    def lost(self, worker, again):
        self.lost_workers.append(worker)


def driven(workers, log, queue, fresh, elastic_workers=None):
    listening = Listening()

    async def replace(lost):
        return fresh.pop(0)

    async def main():
        await drive(
            workers, queue, {EPISODE: listening}, listening, asyncio.Event(),
            lost=Lost, replace=replace, epoch=EPOCH, left_behind=lambda name: log.get(name, {}),
            elastic_workers=elastic_workers,
        )  # fmt: skip

    asyncio.run(main())
    return listening


def test_a_lost_worker_is_replaced_and_what_it_had_committed_does_not_run_again():
    log: dict = {}
    workers = [FakeWorker("a", log, dies_at=2), FakeWorker("b", log)]
    found = driven(workers, log, LeaseQueue([refs(900)], 2), [FakeWorker("c", log)])
    assert sorted(found.done) == sorted(f"e{i}" for i in range(900))
    assert found.lost_workers == ["a"]


def test_what_a_lost_worker_had_committed_as_failed_is_not_reported_as_done():
    log: dict = {}

    class Failing(FakeWorker):
        async def report(self, wait, drain):
            try:
                return await super().report(wait, drain)
            except Lost:
                log[self.name] = dict.fromkeys(log[self.name], "failed")
                raise

    worker = Failing("a", log, dies_at=1, commits=2)
    found = driven([worker], log, LeaseQueue([refs(9)], 2), [FakeWorker("b", log)])
    assert found.statuses.count("failed") == 2
    assert found.statuses.count("done") == 7


def test_workers_that_die_in_a_row_without_a_commit_end_the_run_with_the_cause():
    log: dict = {}
    fresh = [FakeWorker(f"f{i}", log, dies_at=1, commits=0) for i in range(9)]
    with pytest.raises(StoreError, match=r"3 episode workers died in a row.*killed"):
        driven([fresh.pop()], log, LeaseQueue([refs(90)], 2), fresh)


def test_workers_that_die_often_but_commit_in_between_do_not_end_the_run():
    log: dict = {}
    fresh = [FakeWorker(f"f{i}", log, dies_at=3, commits=0) for i in range(9)]
    last = FakeWorker("last", log)
    found = driven([fresh.pop()], log, LeaseQueue([refs(90)], 2), [*fresh, last])
    assert len(found.done) == 90
    assert len(found.lost_workers) == 9


def test_a_closed_queue_leases_nothing_and_workers_let_what_runs_end():
    queue = LeaseQueue([refs(900)], 2)

    class Closing(FakeWorker):
        """Its report names two that run, of which one ends at the next."""

        async def report(self, wait, drain):
            self.reports += 1
            await asyncio.sleep(0)
            if self.reports == 1:
                self.begun, self.mine = self.mine[:2], self.mine[2:]
                queue.close()
                return Report([], CallCounts(), {EPISODE: 2}, len(self.mine))
            assert drain
            now = [self.begun.pop()]
            return Report([settled(r) for r in now], CallCounts(), {EPISODE: len(self.begun)}, 0)

    worker = Closing("a", {})
    found = driven([worker], {}, queue, [])
    assert worker.withdrawn == worker.slots + 192 - 2
    assert sorted(found.done) == ["e0", "e1"]
    assert queue.lease("a", 5) == []
    assert queue.nothing_to_lease
    assert not queue.finished


def artifact(key, cell=0):
    return artifact_task(key, cell, "tree", 0)


def made(task, blame=None):
    if blame is None:
        return Outcome(task, "done")
    return Outcome(task, "failed", blame, "Timeout", "made up")


def test_episodes_of_a_stage_wait_for_its_artifacts_and_those_of_the_next_for_theirs():
    stages = [refs(2), iter([episode_task("later", 0, Seeds(0, 0, 0), "u")])]
    queue = LeaseQueue(stages, 2, gates=[[artifact("a"), artifact("b")], [artifact("c")]])
    assert queue.lease("w", 9) == [artifact("a"), artifact("b")]
    assert queue.nothing_to_lease
    assert not queue.finished
    for key in "ab":
        assert queue.lease("w", 9) == []
        assert queue.settle("w", made(artifact(key)))
        assert queue.lease("w", 9) == []  # made, but not yet where workers find it
        queue.passed(key)
    assert not queue.nothing_to_lease
    leased = queue.lease("w", 9)
    assert [ref.id for ref in leased] == ["e0", "e1", "c"]
    assert queue.nothing_to_lease
    assert queue.settle("w", made(artifact("c")))
    queue.passed("c")
    assert [ref.id for ref in queue.lease("w", 9)] == ["later"]


def test_only_artifacts_are_displayed_while_no_episode_can_run():
    stages = [refs(1), iter([episode_task("later", 0, Seeds(0, 0, 0), "u")])]
    queue = LeaseQueue(stages, 2, opened=0, gates=[[artifact("a")], [artifact("b")]])
    assert queue.only_gates
    queue.open()
    [first] = queue.lease("w", 1)
    assert queue.only_gates
    queue.settle("w", made(first))
    queue.passed("a")
    assert not queue.only_gates
    [episode] = queue.lease("w", 1)
    queue.open()
    [second] = queue.lease("w", 1)
    assert second == artifact("b")
    assert not queue.only_gates  # the episode of the first stage still runs
    queue.settle("w", settled(episode, "failed", "infrastructure"))
    assert not queue.only_gates  # and is tried again
    [again] = queue.lease("w", 1)
    queue.settle("w", settled(again))
    assert queue.only_gates
    queue.settle("w", made(second))
    queue.passed("b")
    assert not queue.only_gates
    [last] = queue.lease("w", 1)
    queue.settle("w", settled(last))
    assert queue.lease("w", 1) == []
    assert queue.finished
    assert not queue.only_gates


def test_an_artifact_is_tried_again_after_infrastructure_and_after_a_lost_worker_alone():
    queue = LeaseQueue([refs(1)], 1, gates=[[artifact("a")]])
    [ref] = queue.lease("w", 1)
    assert not queue.settle("w", made(ref, "infrastructure"))
    [again] = queue.lease("w", 1)
    assert again == ref._replace(attempt=1)
    assert queue.lose("w", {}, EPOCH) == []
    [third] = queue.lease("v", 1)
    assert third == ref._replace(attempt=2)
    assert queue.settle("v", made(third, "agent"))
    queue.passed("a")
    assert [ref.id for ref in queue.lease("v", 9)] == ["e0"]


def test_episodes_that_cannot_run_are_left_out():
    queue = LeaseQueue([refs(4)], 1, skips=lambda ref: ref.id in ("e1", "e3"))
    leased = queue.lease("w", 9)
    assert [ref.id for ref in leased] == ["e0", "e2"]
    for ref in leased:
        queue.settle("w", settled(ref))
    assert queue.finished
