"""The one owner of retries of calls: tenacity, for transient errors only.

A server that names the time after which it may be tried again (`EngineOverloaded.retry_after`) is
waited for: that uses up no try. How long in all is bounded by `Patience`, so that the most
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


class Pause:
    """Until when no call of a model is sent, since its server asks for that."""

    def __init__(self) -> None:
        self._until = 0.0  # by the clock of the event loop

    def hold(self, seconds: float) -> bool:
        """Waits at least that long from now; whether no pause was on."""
        now = asyncio.get_running_loop().time()
        fresh = self._until <= now
        self._until = max(self._until, now + seconds)
        return fresh

    async def over(self) -> None:
        """Returns when the pause is over."""
        loop = asyncio.get_running_loop()
        while (left := self._until - loop.time()) > 0:  # noqa: ASYNC110  (it may be prolonged)
            await asyncio.sleep(left)


class Patience:
    """How long each call of one model waits in all because its server asks for it."""

    def __init__(self, most: float) -> None:
        self.most = most
        self._answered = 0

    def note_answer(self) -> None:
        self._answered += 1

    @property
    def answered(self) -> int:
        """Calls that were answered so far."""
        return self._answered


class _Waits:
    """What one call has waited so far because its server asked for it."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._answered = patience.answered
        self._waited = 0.0
        self.count = 0

    async def after(self, error: EngineOverloaded) -> bool:
        """Waits as the server asks; False where it does not ask, or was waited for long enough.

        Raises ModelUnavailable where it asks for more than anything waits, and where no call of
        the model was answered meanwhile.
        """
        asked, most = error.retry_after, self._patience.most
        if asked is None:
            return False
        floor = min(_FIRST_FLOOR * 2**self.count, _LAST_FLOOR)
        if asked > most:
            raise ModelUnavailable(
                f"{error.message} (the server asks to wait {asked:,.0f} s; calls wait {most:g} s "
                "at most: max_wait)"
            )
        wait = max(asked, floor)
        if self._waited + wait > most:
            if self._patience.answered > self._answered:
                return False
            raise ModelUnavailable(
                f"{error.message} (no call was answered in {self._waited:,.0f} s of waiting as the "
                "server asks)"
            )
        self.count += 1
        self._waited += wait
        await asyncio.sleep(wait * (1 + random.uniform(0, _SPREAD)))
        return True

    async def around(self, call: Callable[[], Awaitable[T]]) -> T:
        """What `call` gives, asked again as long as the server only asks to wait."""
        while True:
            try:
                answer = await call()
            except EngineOverloaded as error:
                if not await self.after(error):
                    raise
            else:
                self._patience.note_answer()
                return answer


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
    call: Callable[[], Awaitable[T]], transient: int, patience: Patience
) -> tuple[T, int]:
    """What `call` gives, tried again up to `transient` times, and how often it was.

    The last error is raised as it is, with the number of its retries.
    """
    waits = _Waits(patience)
    try:
        return await waits.around(call), waits.count  # the usual way: no retry, no machinery
    except CrsweepError as error:
        error.retries = waits.count
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
                return await waits.around(call), retries + waits.count
            except CrsweepError as error:
                error.retries = retries + waits.count
                raise
    raise AssertionError("tenacity ends with a reply or an error")


def _wait(state: RetryCallState) -> float:
    """Seconds before the next try: none where another replica may take the call."""
    failed = state.outcome.exception() if state.outcome is not None else None
    return 0.0 if isinstance(failed, ReplicaLost) else _WAIT(state)
