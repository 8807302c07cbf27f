"""A fleet whose replicas are fakes: they load, work, fail and die as a test says."""

import asyncio
from contextlib import suppress
from itertools import count

from agents.core.errors import ReplicaLost
from sweeps.identity import digest
from workers.backends.core.backend import EngineSpec
from workers.backends.core.watchdog import Counts
from workers.backends.vllm.serving.engine import VLLMEngine
from workers.engines.fleet import Fleet
from workers.engines.replica import ReplicaStatus

NAMES = count()


class Actor:
    """One replica's actor: `loads` for so long, and is started again `restarts` after it ended."""

    def __init__(self, loads=10.0, restarts=2.0, fails="", dies_loading=False, never=False):
        self.loads, self.restarts, self.fails = loads, restarts, fails
        self.dies_loading, self.never = dies_loading, never
        self.incarnation, self.state, self.cause, self.replied = "", "", "", 0
        self.counts_now = Counts()
        self.details = {"gpu": "fake"}
        self.silent, self.killed, self.boots = False, [], 0
        self.alive = False
        self._changed = asyncio.Event()
        if not never:
            self._boot()

    def _boot(self):
        if False in self.killed:
            return
        self.boots += 1
        self.incarnation, self.alive, self.silent = f"i{next(NAMES)}", True, False
        self.counts_now, self.replied, self.cause = Counts(), 0, ""
        self._to("loading")
        asyncio.get_running_loop().call_later(self.loads, self._loaded, self.incarnation)

    def _loaded(self, incarnation):
        if self.alive and self.incarnation == incarnation:
            if self.dies_loading:
                self.die()
            elif self.fails:
                self.cause = self.fails
                self._to("failed")
            else:
                self._to("ready")

    def _to(self, state):
        self.state = state
        self._changed.set()
        self._changed = asyncio.Event()

    def work(self, steps=10, replied=1):
        self.replied += replied
        old = self.counts_now
        self.counts_now = Counts(old.prompt_tokens + 5 * steps, old.output_tokens + 3 * steps, 0, 0,
                                 old.steps + steps)  # fmt: skip

    def say_dying(self, cause, ends=True):
        self.cause = cause
        self._to("dying")
        if ends:
            asyncio.get_running_loop().call_later(0.1, self.die)

    def die(self):
        if self.alive:
            self.alive = False
            self._to("gone")
            asyncio.get_running_loop().call_later(self.restarts, self._boot)

    async def hello(self, known, wait):
        await self._way()
        if self.state == known:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), wait)
            await self._way()
        return ReplicaStatus(
            self.incarnation,
            self.state,
            self.cause,
            digest(self.details),
            self.details,
            1,
            self.replied,
        )

    async def counts(self):
        await self._way()
        return self.counts_now

    async def _way(self):
        await asyncio.sleep(0.001)
        while self.silent and self.alive:
            await self._changed.wait()
        if not self.alive:
            raise ReplicaLost("the actor died")

    def kill(self, *, restart):
        self.killed.append(restart)
        self.die()


def spec(key="m", replicas=1, start_timeout=600.0):
    return EngineSpec(
        key,
        f"model {key}",
        "generate",
        {"model": key},
        8,
        start_timeout,
        replicas,
        1,
        engine=VLLMEngine,
    )


class Fakes:
    """A fleet of fakes, and everything that the workers were informed of."""

    def __init__(self, *specs, make=Actor, mixed=True):
        self.actors: list[Actor] = []
        self.views = []

        def launch(spec, index):
            self.actors.append(make())
            return self.actors[-1]

        self.fleet = Fleet(
            specs or [spec()], launch, lambda: self.views.append(self.fleet.view()), mixed=mixed
        )

    @property
    def engine(self):
        return self.fleet.engines["m"]

    def up(self):
        return [ref.incarnation for ref in self.fleet.view()["m"].replicas]
