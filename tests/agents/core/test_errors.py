"""Errors cross processes whole, and say whether they would repeat."""

import pickle

import pytest

from agents.core import errors
from agents.core.errors import (
    REFUSALS,
    CrsweepError,
    EngineDead,
    EngineOverloaded,
    EngineRefused,
    ReplicaLost,
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
    refusals = [kind for kind in EVERY if issubclass(kind, EngineRefused)]
    assert {kind.__name__ for kind in refusals} == REFUSALS
    assert not any(kind.transient for kind in refusals)


def test_a_lost_replica_is_a_dead_engine_of_infrastructure():
    assert issubclass(ReplicaLost, EngineDead)
    assert ReplicaLost.transient
    assert ReplicaLost("gone").blame == "infrastructure"
