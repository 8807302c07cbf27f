"""When a run is stopped: too many failures of one cause, or a cap."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.core.seeds import Seeds
from runner.driver.budget import LEAST_UNCOUNTED, Budget
from runner.driver.early_stop import LEAST_FAILURES, EarlyStop
from runner.driver.scheduler import LeaseQueue
from sweeps.episodes import episode_task
from sweeps.schema import Caps, Price
from sweeps.storage.records import EPISODE
from sweeps.tasks import Outcome
from workers.core.usage import CallCounts, Usage
from workers.executors.pool import Report


class Silent:
    def settled(self, settled, final): ...
    def counted(self, worker, report): ...
    def lost(self, worker, again): ...


class Run:
    """A guard and what it did."""

    def __init__(self, *, max_failed=None, budget=None):
        self.queue, self.stopping, self.said = LeaseQueue([iter(())], 2), asyncio.Event(), []
        self.guard = EarlyStop(
            Silent(), self.queue, self.stopping, budget or Budget(Caps(), {}), max_failed,
            self.said.append,
        )  # fmt: skip
        self.number = 0

    def settle(self, count=1, blame=None, kind=None, final=True):
        for _ in range(count):
            self.number += 1
            task = episode_task(f"e{self.number}", 0, Seeds(0, 0, 0), "u")
            status = "failed" if blame else "done"
            error = f"error {self.number}" if blame else None
            self.guard.settled(Outcome(task, status, blame, kind, error), final)

    def report(self, running=0, paid=None, worker="w"):
        self.guard.counted(worker, Report([], CallCounts(), {EPISODE: running}, 0, paid=paid or {}))


def test_the_first_failures_of_a_small_sample_stop_nothing():
    run = Run(max_failed=0.05)
    run.settle(LEAST_FAILURES - 1, "agent", "AgentError")
    run.report()
    assert not run.queue.closed
    run.settle(1, "agent", "AgentError")
    run.report()
    assert run.queue.closed
    assert not run.stopping.is_set()  # what runs may end
    assert run.guard.reason == (
        "10 of 10 started episodes failed with AgentError, blame agent: more than max_failed 0.05; "
        "for example: error 1"
    )
    assert len(run.said) == 1
    run.settle(5, "agent", "AgentError")
    run.report()
    assert len(run.said) == 1  # and says so once


def test_what_still_runs_counts_as_begun_so_that_quick_failures_do_not_stop_a_run():
    run = Run(max_failed=0.05)
    run.settle(12, "agent", "AgentError")
    run.report(running=300, worker="a")
    run.report(running=100, worker="b")
    run.guard.lost("a", 0)
    run.report(running=100, worker="b")
    assert not run.queue.closed
    run.report(running=0, worker="a")
    assert run.queue.closed


def test_causes_are_counted_apart_and_tries_that_are_tried_again_are_not_counted():
    run = Run(max_failed=0.5)
    run.settle(15, "agent", "AgentError")
    run.settle(15, "agent", "ReplyInvalid")
    run.settle(15, "user", "ReplyInvalid")
    run.settle(99, "infrastructure", "EngineDead", final=False)
    run.report()
    assert not run.queue.closed


def test_without_max_failed_nothing_stops_a_run_and_with_zero_the_first_failure_does():
    run = Run()
    run.settle(100, "agent", "AgentError")
    run.report()
    assert not run.queue.closed
    run = Run(max_failed=0)
    run.settle(100)
    run.report()
    assert not run.queue.closed
    run.settle(1, "user", "UserError")
    run.report()
    assert run.queue.closed


@given(st.lists(st.sampled_from([None, "AgentError", "UserError"]), max_size=300),
       st.floats(0.001, 1))  # fmt: skip
def test_a_run_stops_exactly_when_one_cause_has_more_than_its_share(outcomes, share):
    run = Run(max_failed=share)
    for end, kind in enumerate(outcomes, start=1):
        run.settle(1, kind and "agent", kind)
        run.report()
        counts = [outcomes[:end].count(k) for k in ("AgentError", "UserError")]
        if max(counts) >= LEAST_FAILURES and max(counts) > share * end:
            assert run.queue.closed
            return
        assert not run.queue.closed


PRICE = {"a": Price(input=1, output=10), "b": Price(input=0, output=0)}


@pytest.mark.parametrize(
    ("caps", "words"),
    [
        ({"tokens": 1_500_000}, "caps.tokens is reached: 1,500,000 of 1,500,000"),
        ({"cost": 6.2}, "caps.cost is reached: 6.2 of 6.2"),
        ({"gpu_hours": 0.75}, "caps.gpu_hours is reached: 0.75 of 0.75"),
    ],
)
def test_a_cap_counts_earlier_runs_too_and_stops_at_once(caps, words):
    before = {"a": Usage(500_000, 250_000), "b": Usage(0, 250_000)}
    seconds = [0.0]
    budget = Budget(Caps(**caps), PRICE, before, 1800, gpu_seconds=lambda: seconds[0])
    run = Run(budget=budget)
    run.report()
    assert not run.stopping.is_set()
    seconds[0] = 900
    run.report(paid={"a": Usage(200_000, 280_000)})
    assert run.stopping.is_set() is (caps.get("gpu_hours") is not None)
    run.report(paid={"a": Usage(0, 20_000)})
    assert run.stopping.is_set()
    assert run.guard.reason == words


def test_a_cap_that_is_reached_while_the_last_dialogues_end_stops_those_too_and_both_are_reported():
    run = Run(max_failed=0.1, budget=Budget(Caps(tokens=100), PRICE))
    run.settle(10, "agent", "AgentError")
    run.report(running=5)
    assert not run.stopping.is_set()
    run.report(running=5, paid={"a": Usage(90, 20)})
    assert run.stopping.is_set()
    assert run.guard.reason is not None
    first, then = run.guard.reason.split("; then ")
    assert "max_failed 0.1" in first
    assert then == "caps.tokens is reached: 110 of 100"


def test_a_server_that_counts_no_tokens_cannot_be_held_to_a_cap_of_them():
    for caps, stops in (({"tokens": 9}, True), ({"cost": 9}, True), ({"gpu_hours": 9}, False)):
        run = Run(budget=Budget(Caps(**caps), PRICE))
        run.report(paid={"a": Usage(0, 0, LEAST_UNCOUNTED - 1)})
        assert not run.stopping.is_set()
        run.report(paid={"a": Usage(0, 0, 1)})
        assert run.stopping.is_set() is stops
    run = Run()
    run.report(paid={"a": Usage(0, 0, 100)})
    assert not run.stopping.is_set()


def test_single_replies_without_token_counts_give_up_no_cap():
    run = Run(budget=Budget(Caps(tokens=1000), PRICE))
    run.report(paid={"a": Usage(5, 5, 0, 1), "b": Usage(0, 0, 1)})
    run.report(paid={"a": Usage(0, 0, 50), "b": Usage(300, 100, 0, 4)})
    assert not run.stopping.is_set()
    assert run.guard._budget.line() == "caps: tokens at least 410 of 1,000"
    assert run.guard._budget.needs() == []
    run.report(paid={"b": Usage(590, 0, 0, 1)})
    assert run.guard.reason == "caps.tokens is reached: 1,000 of 1,000"


def test_a_model_that_serves_no_call_stops_the_run_once():
    run = Run()
    for _ in range(2):
        run.guard.counted("w", Report([], CallCounts(), {}, 1, unavailable="HTTP 401: no such key"))
    assert run.stopping.is_set()
    assert run.guard.unavailable
    assert run.guard.reason == "HTTP 401: no such key"
    assert run.said == ["stopping: HTTP 401: no such key; running dialogues are interrupted ..."]
