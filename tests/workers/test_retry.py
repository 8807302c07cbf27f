"""Retries: how often, after how long, and what is told of them."""

import asyncio

import pytest
from tenacity import wait_fixed, wait_none

from agents.core.errors import EngineDead, EngineOverloaded, EngineRefused, ReplicaLost
from tests import virtual_time
from workers import retry
from workers.retry import retrying


def tried(*outcomes, transient=3):
    """(What `retrying` gives for a call that comes to `outcomes`, seconds that it waited)."""
    rest = list(outcomes)

    async def call():
        outcome = rest.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def timed():
        return await retrying(call, transient), asyncio.get_running_loop().time()

    try:
        return virtual_time.run(timed())
    finally:
        assert not rest, "a try was left out"


def test_a_call_that_succeeds_is_made_once():
    assert tried("ok")[0] == ("ok", 0)


def test_a_lost_replica_is_left_at_once(monkeypatch):
    monkeypatch.setattr(retry, "_WAIT", wait_fixed(30))
    lost = [ReplicaLost("gone") for _ in range(3)]
    result, seconds = tried(*lost, "ok")
    assert result == ("ok", 3)
    assert seconds == 0


@pytest.mark.parametrize("kind", [EngineDead, EngineOverloaded])
def test_other_errors_wait_each_time(monkeypatch, kind):
    monkeypatch.setattr(retry, "_WAIT", wait_fixed(10))
    result, seconds = tried(kind("x"), ReplicaLost("gone"), kind("x"), "ok")
    assert result == ("ok", 3)
    assert seconds == 20


def test_the_last_error_is_raised_with_the_number_of_its_retries(monkeypatch):
    monkeypatch.setattr(retry, "_WAIT", wait_none())
    last = ReplicaLost("the last")
    with pytest.raises(ReplicaLost) as caught:
        tried(EngineOverloaded("busy"), ReplicaLost("gone"), last, transient=2)
    assert caught.value is last
    assert last.retries == 2


def test_what_would_repeat_ends_the_tries_and_tells_how_many_there_were(monkeypatch):
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
