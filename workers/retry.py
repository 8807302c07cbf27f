"""The one owner of retries of calls: tenacity, for transient errors only."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from agents.core.calls import Completion
from agents.core.errors import CrsweepError

log = logging.getLogger(__name__)

# Doubling from half a second: an overloaded server gets air, a dead one is given up in a minute.
_WAIT = wait_random_exponential(multiplier=0.5, max=20)


class Tried(NamedTuple):
    completion: Completion
    retries: int


def is_transient(error: BaseException) -> bool:
    """Whether trying again may help: an error of infrastructure that says so."""
    return isinstance(error, CrsweepError) and error.transient


async def retrying(call: Callable[[], Awaitable[Completion]], transient: int) -> Tried:
    """`call`, tried again up to `transient` times. The last error is raised as it is."""
    try:
        return Tried(await call(), 0)  # the usual way: no retry, no machinery
    except CrsweepError as error:
        if not error.transient or transient == 0:
            raise
        log.warning("%s: %s; trying again", type(error).__name__, error.message)
    retries = 0
    async for attempt in AsyncRetrying(
        retry=retry_if_exception(is_transient),
        stop=stop_after_attempt(transient),
        wait=_WAIT,
        reraise=True,
    ):
        with attempt:
            retries += 1
            return Tried(await call(), retries)
    raise AssertionError("tenacity ends with a reply or an error")
