"""The only code that retries calls (with tenacity), and only for transient errors.

If a server names the time of the next attempt (`EngineOverloaded.retry_after`), the call waits for
it without using up a retry. The total wait is bounded (`Throttle.most`) and each wait has a minimum
length, so the number of requests per call is bounded too.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    stop_after_attempt,
    wait_random_exponential,
)

from agents.core.errors import CrsweepError, EngineOverloaded, ModelUnavailable, ReplicaLost

log = logging.getLogger(__name__)

T = TypeVar("T")

# Doubling from half a second: an overloaded server gets time to recover; a dead one is given up
# after a minute.
_WAIT = wait_random_exponential(multiplier=0.5, max=20)

_FIRST_FLOOR, _LAST_FLOOR = 0.5, 20.0  # seconds: a server that says "0" again and again is slowed
_SPREAD = 0.1  # so that calls that wait for the same moment do not come back at the same moment


class Throttle:
    """How the calls of one model obey its server.

    It knows until when no call may be sent, how long each may wait in total (`most` seconds), and
    how often the server answered and refused.
    """

    def __init__(self, most: float) -> None:
        self.most = most
        self.answered = 0
        """Calls answered so far."""
        self.refused = 0
        """How often the server said that it has no capacity."""
        self._until = 0.0  # by the clock of the event loop

    def hold(self, seconds: float) -> bool:
        """Pauses all calls for that long. Returns whether there was no pause before."""
        now = asyncio.get_running_loop().time()
        fresh = self._until <= now
        self._until = max(self._until, now + seconds)
        return fresh

    async def over(self) -> None:
        """Waits until the pause is over."""
        loop = asyncio.get_running_loop()
        while (left := self._until - loop.time()) > 0:  # noqa: ASYNC110  (it may be prolonged)
            await asyncio.sleep(left)

    def wait_for(
        self, error: EngineOverloaded, waits: int, waited: float, answered: int
    ) -> float | None:
        """Seconds to wait after `error` because its server asks for that; None if it does not ask,
        or the limit is reached.

        The call has waited `waits` times, `waited` seconds in total; `answered` calls had been
        answered before it was first sent. Raises ModelUnavailable if the server asks for more than
        the limit, or if no call of the model was answered in the meantime.
        """
        asked = error.retry_after
        if asked is None:
            return None
        if asked > self.most:
            raise ModelUnavailable(
                f"{error.message} (the server asks to wait {asked:,.0f} s; calls wait "
                f"{self.most:g} s at most: max_wait)"
            )
        wait = max(asked, min(_FIRST_FLOOR * 2**waits, _LAST_FLOOR))
        if waited + wait <= self.most:
            return wait
        if self.answered > answered:
            return None
        raise ModelUnavailable(
            f"{error.message} (no call was answered in {waited:,.0f} s of waiting as the server "
            "asks)"
        )


def is_transient(error: BaseException) -> bool:
    """Whether a retry may help: an infrastructure error that says so."""
    return isinstance(error, CrsweepError) and error.transient


async def retrying(
    call: Callable[[], Awaitable[T]], transient: int, throttle: Throttle
) -> tuple[T, int]:
    """The result of `call`, retried up to `transient` times, and the number of retries.

    The last error is raised unchanged, with its number of retries.
    """
    waits, waited, answered = 0, 0.0, throttle.answered

    async def tried() -> T:
        """The result of `call`, repeated as long as the server only asks to wait."""
        nonlocal waits, waited
        while True:
            try:
                answer = await call()
            except EngineOverloaded as error:
                throttle.refused += 1
                wait = throttle.wait_for(error, waits, waited, answered)
                if wait is None:
                    raise
                waits, waited = waits + 1, waited + wait
                await asyncio.sleep(wait * (1 + random.uniform(0, _SPREAD)))
            else:
                throttle.answered += 1
                return answer

    try:
        return await tried(), waits  # the usual case: no retry needed
    except CrsweepError as error:
        error.retries = waits
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
                return await tried(), retries + waits
            except CrsweepError as error:
                error.retries = retries + waits
                raise
    raise AssertionError("tenacity ends with a reply or an error")


def _wait(state: RetryCallState) -> float:
    """Seconds before the next attempt: none if another replica may take the call."""
    failed = state.outcome.exception() if state.outcome is not None else None
    return 0.0 if isinstance(failed, ReplicaLost) else _WAIT(state)
