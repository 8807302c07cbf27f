"""The one owner of retries of calls: tenacity, for transient errors only.

A server that names the time after which it may be tried again (`EngineOverloaded.retry_after`) is
waited for: that uses up no try. How long in all is bounded (`Throttle.most`), so that the most
requests of a call are `most_requests`.
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

# Doubling from half a second: an overloaded server gets air, a dead one is given up in a minute.
_WAIT = wait_random_exponential(multiplier=0.5, max=20)

_FIRST_FLOOR, _LAST_FLOOR = 0.5, 20.0  # seconds: a server that says "0" again and again is slowed
_SPREAD = 0.1  # so that calls that wait for the same moment do not come back at the same moment


class Throttle:
    """How the calls of one model obey its server: until when none is sent, how long each waits in
    all (`most` seconds), and how often it was answered and refused.
    """

    def __init__(self, most: float) -> None:
        self.most = most
        self.answered = 0
        """Calls that were answered so far."""
        self.refused = 0
        """How often the server said that it has no room now."""
        self._until = 0.0  # by the clock of the event loop

    def hold(self, seconds: float) -> bool:
        """Sends no call for that long from now; whether no pause was on."""
        now = asyncio.get_running_loop().time()
        fresh = self._until <= now
        self._until = max(self._until, now + seconds)
        return fresh

    async def over(self) -> None:
        """Returns when the pause is over."""
        loop = asyncio.get_running_loop()
        while (left := self._until - loop.time()) > 0:  # noqa: ASYNC110  (it may be prolonged)
            await asyncio.sleep(left)

    def wait_for(
        self, error: EngineOverloaded, waits: int, waited: float, answered: int
    ) -> float | None:
        """Seconds that a call waits after `error`, since its server asks for that; None if it does
        not ask, or was waited for long enough.

        The call has waited `waits` times, `waited` seconds in all; `answered` calls were answered
        before it was first sent. Raises ModelUnavailable where the server asks for more than
        anything waits, and where no call of the model was answered meanwhile.
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


def most_requests(transient: int, max_wait: float) -> int:
    """The most requests of one call: its tries, and those after waits that the server asked for."""
    waits, waited = 0, min(_FIRST_FLOOR, _LAST_FLOOR)
    while waited <= max_wait:
        waits += 1
        waited += min(_FIRST_FLOOR * 2**waits, _LAST_FLOOR)
    return 1 + transient + waits


def is_transient(error: BaseException) -> bool:
    """Whether trying again may help: an error of infrastructure that says so."""
    return isinstance(error, CrsweepError) and error.transient


async def retrying(
    call: Callable[[], Awaitable[T]], transient: int, throttle: Throttle
) -> tuple[T, int]:
    """What `call` gives, tried again up to `transient` times, and how often it was.

    The last error is raised as it is, with the number of its retries.
    """
    waits, waited, answered = 0, 0.0, throttle.answered

    async def tried() -> T:
        """What `call` gives, asked again as long as the server only asks to wait."""
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
        return await tried(), waits  # the usual way: no retry, no machinery
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
    """Seconds before the next try: none where another replica may take the call."""
    failed = state.outcome.exception() if state.outcome is not None else None
    return 0.0 if isinstance(failed, ReplicaLost) else _WAIT(state)
