"""Retries: how often, after how long, and what is reported of them."""

import asyncio

import pytest
from tenacity import wait_fixed, wait_none

from agents.core.errors import (
    EngineDead,
    EngineOverloaded,
    EngineRefused,
    ModelUnavailable,
    ReplicaLost,
)
from tests import virtual_time
from workers.core import retry
from workers.core.retry import Throttle, retrying

MOST = 600.0
MOST_REQUESTS = 35  # the first, 6 after waits of 0.5 to 16 s, and 28 after waits of 20 s


def timed(main):
    """What `main` gives, and the seconds that it waited."""

    async def run():
        return await main, asyncio.get_running_loop().time()

    return virtual_time.run(run())


def tried(*outcomes, transient=3, most=MOST, throttle=None):
    """What `retrying` gives for a call that comes to `outcomes`, one after the other, and when."""
    rest = list(outcomes)

    async def call():
        outcome = rest.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    try:
        return timed(retrying(call, transient, throttle or Throttle(most)))
    finally:
        assert not rest, "a try was left out"


def busy(seconds: float | None) -> EngineOverloaded:
    return EngineOverloaded("busy", retry_after=seconds)


def test_a_call_that_succeeds_is_made_once():
    assert tried("ok") == (("ok", 0), 0)


def test_a_lost_replica_is_left_at_once(monkeypatch):
    monkeypatch.setattr(retry, "_WAIT", wait_fixed(30))
    lost = [ReplicaLost("gone") for _ in range(3)]
    assert tried(*lost, "ok") == (("ok", 3), 0)


@pytest.mark.parametrize("kind", [EngineDead, EngineOverloaded])
def test_other_errors_wait_each_time(monkeypatch, kind):
    monkeypatch.setattr(retry, "_WAIT", wait_fixed(10))
    result, seconds = tried(kind("x"), ReplicaLost("gone"), kind("x"), "ok")
    assert result == ("ok", 3)
    assert seconds == pytest.approx(20)


def test_the_last_error_is_raised_with_the_number_of_its_retries(monkeypatch):
    monkeypatch.setattr(retry, "_WAIT", wait_none())
    last = ReplicaLost("the last")
    with pytest.raises(ReplicaLost) as caught:
        tried(EngineOverloaded("busy"), ReplicaLost("gone"), last, transient=2)
    assert caught.value is last
    assert last.retries == 2


def test_what_would_repeat_ends_the_tries_and_says_how_many_there_were(monkeypatch):
    monkeypatch.setattr(retry, "_WAIT", wait_none())
    refused = EngineRefused("no")
    with pytest.raises(EngineRefused):
        tried(EngineDead("x"), refused, transient=5)
    assert refused.retries == 1


def test_without_retries_the_first_error_is_the_last():
    dead = EngineDead("x")
    with pytest.raises(EngineDead):
        tried(dead, transient=0)
    assert dead.retries == 0


def test_a_wait_that_the_server_asks_for_is_kept_and_uses_up_no_try(monkeypatch):
    monkeypatch.setattr(retry, "_SPREAD", 0)
    waits = [busy(40) for _ in range(6)]
    assert tried(*waits, "ok", transient=0) == (("ok", 6), pytest.approx(240))


def test_tries_and_waits_are_counted_apart(monkeypatch):
    monkeypatch.setattr(retry, "_WAIT", wait_fixed(1))
    monkeypatch.setattr(retry, "_SPREAD", 0)
    outcomes = [busy(40), EngineDead("x"), busy(30), EngineDead("x"), "ok"]
    assert tried(*outcomes, transient=2) == (("ok", 4), pytest.approx(72))


def test_a_server_that_asks_to_come_back_at_once_is_slowed_down(monkeypatch):
    monkeypatch.setattr(retry, "_SPREAD", 0)
    _, seconds = tried(*[busy(0) for _ in range(7)], "ok", transient=0)
    assert seconds == pytest.approx(0.5 + 1 + 2 + 4 + 8 + 16 + 20)


def test_a_wait_beyond_the_limit_makes_the_model_unavailable():
    with pytest.raises(ModelUnavailable, match="asks to wait 86,400 s; calls wait 600 s at most"):
        tried(busy(86_400))


@pytest.mark.parametrize("asked", [0, 1, 7.5, 40, 600])
@pytest.mark.parametrize("transient", [0, 2])
def test_waiting_ends_where_no_call_is_answered(asked, transient):
    requests = 0

    async def call():
        nonlocal requests
        requests += 1
        raise busy(asked)

    async def ask():
        with pytest.raises(ModelUnavailable, match="no call was answered"):
            await retrying(call, transient, Throttle(MOST))

    _, seconds = timed(ask())
    assert seconds <= MOST * (1 + retry._SPREAD)
    assert requests <= MOST_REQUESTS + transient


def test_a_server_that_answers_others_is_overloaded_and_not_unavailable(monkeypatch):
    monkeypatch.setattr(retry, "_WAIT", wait_none())
    throttle, requests = Throttle(MOST), 0

    async def call():
        nonlocal requests
        requests += 1
        throttle.answered += 1  # another call's
        raise busy(5)

    async def ask():
        with pytest.raises(EngineOverloaded) as caught:
            await retrying(call, 2, throttle)
        assert caught.value.retries == requests - 1

    virtual_time.run(ask())
    assert requests <= MOST_REQUESTS + 2


def test_a_pause_holds_all_calls_until_it_is_over_and_can_be_prolonged():
    async def hold():
        pause, loop, ends = Throttle(MOST), asyncio.get_running_loop(), []

        async def wait():
            await pause.over()
            ends.append(loop.time())

        await pause.over()
        assert pause.hold(40)
        waiting = [asyncio.create_task(wait()) for _ in range(3)]
        await asyncio.sleep(30)
        assert not pause.hold(5)
        assert not pause.hold(20)
        await asyncio.gather(*waiting)
        return ends

    assert timed(hold()) == ([50, 50, 50], 50)
