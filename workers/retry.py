"""The one owner of retries of calls: tenacity, for transient errors only."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    stop_after_attempt,
    wait_random_exponential,
)

from agents.core.errors import CrsweepError, ReplicaLost

log = logging.getLogger(__name__)

T = TypeVar("T")

# Doubling from half a second: an overloaded server gets air, a dead one is given up in a minute.
_WAIT = wait_random_exponential(multiplier=0.5, max=20)


def is_transient(error: BaseException) -> bool:
    """Whether trying again may help: an error of infrastructure that says so."""
    return isinstance(error, CrsweepError) and error.transient


async def retrying(call: Callable[[], Awaitable[T]], transient: int) -> tuple[T, int]:
    """What `call` gives, tried again up to `transient` times, and how often it was.

    The last error is raised as it is, with the number of its retries.
    """
    try:
        return await call(), 0  # the usual way: no retry, no machinery
    except CrsweepError as error:
        if not error.transient or transient == 0:
            raise
        failed = error
    log.warning("%s: %s; trying again", type(failed).__name__, failed.message)
    async for attempt in AsyncRetrying(
        retry=retry_if_exception(is_transient),
        stop=stop_after_attempt(1 + transient),
        wait=_wait,
        reraise=True,
    ):
        retries = attempt.retry_state.attempt_number - 1
        with attempt:
            if retries == 0:
                raise failed  # the try above: what follows it waits as its error demands
            try:
                return await call(), retries
            except CrsweepError as error:
                error.retries = retries
                raise
    raise AssertionError("tenacity ends with a reply or an error")


def _wait(state: RetryCallState) -> float:
    """Seconds before the next try: none where another replica may take the call."""
    failed = state.outcome.exception() if state.outcome is not None else None
    return 0.0 if isinstance(failed, ReplicaLost) else _WAIT(state)
