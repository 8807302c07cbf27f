"""Errors cross processes whole, and say whether they would repeat."""

import asyncio
import json
import pickle

import pytest

from agents.core import errors
from agents.core.errors import (
    REFUSALS,
    AgentError,
    CrsweepError,
    EngineDead,
    EngineOverloaded,
    EngineRefused,
    InternalError,
    ReplicaLost,
    ReplyInvalid,
    UsageError,
    blaming,
)

EVERY = [k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, CrsweepError)]


@pytest.mark.parametrize("kind", EVERY)
def test_an_error_survives_pickling_with_blame_and_retries(kind):
    error = kind("two\nlines", blame="user")
    error.retries = 3
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert (again.message, again.blame, again.retries) == ("two lines", "user", 3)
    assert pickle.loads(pickle.dumps(kind("x"))).blame == kind.blame


def test_the_wait_that_a_server_asks_for_survives_pickling():
    again = pickle.loads(pickle.dumps(EngineOverloaded("busy", retry_after=40.0)))
    assert (again.retry_after, EngineOverloaded("busy").retry_after) == (40.0, None)


def test_every_refusal_is_known_by_name_and_none_is_transient():
    refusals = [kind for kind in EVERY if issubclass(kind, EngineRefused | InternalError)]
    assert {kind.__name__ for kind in refusals} == REFUSALS
    assert not any(kind.transient for kind in refusals)


def test_a_lost_replica_is_a_dead_engine_of_infrastructure():
    assert issubclass(ReplicaLost, EngineDead)
    assert ReplicaLost.transient
    assert ReplicaLost("gone").blame == "infrastructure"


def test_a_message_can_always_be_written():
    assert UsageError("half \ud83d\nof it").message == "half \ufffd of it"


@pytest.mark.parametrize("how", ["grouped", "raised from", "raised while handling"])
def test_an_accident_of_infrastructure_stays_its_fault_however_a_plugin_passes_it_on(how):
    lost = EngineDead("connection reset")

    def plugin():
        try:
            raise ExceptionGroup("tasks", [ValueError("x"), lost]) if how == "grouped" else lost
        except EngineDead as error:
            if how == "raised from":
                raise RuntimeError("planning failed") from error
            raise KeyError("plan")  # noqa: B904

    with pytest.raises(EngineDead) as caught, blaming(AgentError):
        plugin()
    assert caught.value is lost


def test_what_a_plugin_makes_of_its_own_invalid_reply_is_its_own_fault():
    with pytest.raises(AgentError, match="ValueError: no plan"), blaming(AgentError):
        raise ValueError("no plan") from ReplyInvalid("bad", blame="agent")


def test_the_place_in_the_plugins_own_code_is_named():
    def respond():
        return json.loads("{")

    with pytest.raises(AgentError) as caught, blaming(AgentError):
        respond()
    line = respond.__code__.co_firstlineno + 1
    assert caught.value.message.endswith(
        f"(char 1) (tests/agents/core/test_errors.py:{line}, in respond)"
    )


class Mute(Exception):
    def __str__(self):
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    ("raised", "message"),
    [
        (asyncio.CancelledError("mine"), "CancelledError: mine"),
        (SystemExit(3), "SystemExit: 3"),
        (GeneratorExit("odd"), "GeneratorExit: odd"),
        (type("Odd", (BaseException,), {})("x"), "Odd: x"),
        (BaseExceptionGroup("all", [SystemExit(1)]), "BaseExceptionGroup: all (1 sub-exception)"),
        (Mute(), "Mute (its message cannot be read: RuntimeError)"),
    ],
)
def test_whatever_a_plugin_raises_is_its_own_failure(raised, message):
    async def plugin():
        with blaming(AgentError):
            raise raised

    with pytest.raises(AgentError) as caught:
        asyncio.run(plugin())
    what, _, where = caught.value.message.rpartition(" (")
    assert what == message and where.startswith("tests/agents/core/test_errors.py:")


def test_a_cancellation_or_an_interrupt_from_outside_passes_through_a_plugin():
    async def plugin(started):
        with blaming(AgentError):
            started.set()
            await asyncio.Event().wait()

    async def main():
        started = asyncio.Event()
        task = asyncio.create_task(plugin(started))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    with pytest.raises(KeyboardInterrupt), blaming(AgentError):
        raise KeyboardInterrupt


def test_a_generator_that_is_closed_is_no_failure_of_a_plugin():
    def steps():
        with blaming(AgentError):
            yield 1

    open_one = steps()
    next(open_one)
    open_one.close()  # raises if GeneratorExit is not passed on
