"""The replicas of a run, as the driver sees them: loads them, watches them, and reports what is up.

- Ray restarts a replica that died; the fleet notices, counts the death, and informs the workers.
- A replica that keeps restarting without a single reply in between uses up its budget.
- If all replicas of an engine have failed, the engine has failed, with the cause of the last one.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from agents.core.errors import CrsweepError
from workers.backends.core.backend import EngineSpec
from workers.backends.core.watchdog import Counts
from workers.core.concurrency import Load, total_load
from workers.engines.clients import EngineView, EngineViews, ReplicaRef
from workers.engines.replica import ReplicaStatus

log = logging.getLogger(__name__)

UNPRODUCTIVE_RESTARTS = 3  # without a reply in between: the fault is not chance
_HELLO_SECONDS = 1.0
_SILENCE_SECONDS = 30.0  # of an actor that should answer within one: its loop is stuck
_LOADING_SILENCE_SECONDS = 120.0  # importing and loading hold the interpreter for long
_AGAIN_SECONDS = 0.5
_DYING_SECONDS = 10.0  # that a replica has to end itself after its last words


class ReplicaHandle(Protocol):
    """The actor of one replica. Methods raise ReplicaLost."""

    async def hello(self, known: str | None, wait: float) -> ReplicaStatus: ...
    async def counts(self) -> Counts: ...
    def kill(self, *, restart: bool) -> None: ...


@dataclass
class ReplicaState:
    """What the driver knows about one replica. Times are monotonic seconds."""

    index: int
    handle: ReplicaHandle
    launched: float
    hello: ReplicaStatus | None = None
    up: bool = False
    failed: str = ""
    counted_death: str = ""
    """The incarnation whose death was counted last."""
    unproductive: int = 0
    awaited_since: float = field(init=False)
    """When it was launched, or when its last incarnation died."""
    down_since: float | None = None
    down_seconds: float = 0.0
    done: Counts = field(default_factory=Counts)
    """Totals of earlier incarnations, as far as they were observed."""
    counts: Counts = field(default_factory=Counts)
    load: Load = field(default_factory=Load)
    """Of the current incarnation."""

    def __post_init__(self) -> None:
        self.awaited_since = self.launched

    def is_up_as(self, hello: ReplicaStatus) -> bool:
        """Whether it is still this incarnation, and healthy."""
        known = self.hello.incarnation if self.up and self.hello is not None else None
        return known == hello.incarnation and hello.state == "ready"

    def note(self, counts: Counts) -> None:
        """Records what the current incarnation has done."""
        # otherwise another one has replaced it, which starts from zero
        if counts.steps >= self.counts.steps:
            self.counts = counts

    def away(self) -> float:
        """Seconds without it, between its deaths and its returns."""
        now = time.monotonic()
        return self.down_seconds + (0.0 if self.down_since is None else now - self.down_since)


@dataclass
class EngineState:
    """One engine of the run."""

    spec: EngineSpec
    replicas: list[ReplicaState] = field(default_factory=list)
    failed: str = ""
    loaded: bool = False
    load_seconds: float | None = None
    deaths: list[str] = field(default_factory=list)
    """Causes, in order."""
    earlier: Counts = field(default_factory=Counts)
    """Totals of unloaded replicas."""
    down_seconds: float = 0.0
    gpu_seconds: float = 0.0
    """Of unloaded replicas."""
    fingerprints: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def ready(self) -> bool:
        """Whether every replica is up or has failed, and at least one is up."""
        return any(r.up for r in self.replicas) and all(r.up or r.failed for r in self.replicas)


class Fleet:
    """All engines of a run.

    `launch` starts the actor of a replica: (spec, index) -> handle. `changed` is called whenever
    the view of the workers changes. Unless `mixed`, all replicas of an engine have the same type of
    GPU and version of vLLM as the first.
    """

    def __init__(
        self,
        specs: Sequence[EngineSpec],
        launch: Callable[[EngineSpec, int], ReplicaHandle],
        changed: Callable[[], None],
        *,
        silence: float = _SILENCE_SECONDS,
        mixed: bool = True,
    ) -> None:
        self.engines = {spec.key: EngineState(spec) for spec in specs}
        self._launch, self._changed, self._silence = launch, changed, silence
        self._mixed = mixed
        self._tasks: dict[str, dict[int, asyncio.Task[None]]] = {}
        self.news = asyncio.Event()
        """Set whenever an engine changes; the waiting side clears it."""

    def view(self) -> EngineViews:
        """The view that workers need."""
        return {
            key: EngineView(
                tuple(
                    ReplicaRef(r.index, r.hello.incarnation, r.hello.address, r.hello.fingerprint)
                    for r in engine.replicas
                    if r.up and r.hello is not None
                ),
                engine.failed,
            )
            for key, engine in self.engines.items()
        }

    def load(self, key: str) -> None:
        """Starts loading an engine. One that has failed is not tried again in this run."""
        engine = self.engines[key]
        if engine.loaded or engine.failed:
            return
        engine.loaded, engine.load_seconds = True, None
        for index in range(engine.spec.replicas):
            self.add(key, index)

    def add(self, key: str, index: int) -> None:
        """Starts loading one more replica of a loaded engine."""
        engine = self.engines[key]
        replica = ReplicaState(index, self._launch(engine.spec, index), time.monotonic())
        engine.replicas.append(replica)
        task = asyncio.create_task(self._supervise(engine, replica))
        self._tasks.setdefault(key, {})[index] = task

    def drop(self, key: str, index: int) -> None:
        """Ends one replica. Its calls are retried on others."""
        engine = self.engines[key]
        self._end(engine, next(r for r in engine.replicas if r.index == index))
        self._tell()

    def unload(self, key: str) -> None:
        """Ends the replicas of an engine, which may be loaded again."""
        engine = self.engines[key]
        for replica in list(engine.replicas):
            self._end(engine, replica)
        engine.loaded = False
        self._tell()

    def _end(self, engine: EngineState, replica: ReplicaState) -> None:
        self._tasks[engine.spec.key].pop(replica.index).cancel()
        replica.handle.kill(restart=False)
        engine.replicas.remove(replica)
        engine.earlier = _plus(engine.earlier, _plus(replica.done, replica.counts))
        engine.down_seconds += replica.away()
        engine.gpu_seconds += engine.spec.gpus * (time.monotonic() - replica.launched)

    def close(self) -> None:
        """Ends everything."""
        for key in list(self.engines):
            if self.engines[key].loaded:
                self.unload(key)

    def settled(self, key: str) -> bool:
        """Whether an engine is ready, or never will be."""
        engine = self.engines[key]
        return bool(engine.failed) or engine.ready

    async def refresh(self) -> None:
        """Asks every live replica for its counts, for the last time."""

        async def ask(label: str, replica: ReplicaState) -> None:
            try:
                async with asyncio.timeout(_AGAIN_SECONDS):
                    replica.note(await replica.handle.counts())
            except Exception as error:  # noqa: BLE001  (as in `_supervise`)
                log.warning("%s: last counts are missing: %r", label, error)

        await asyncio.gather(
            *(ask(e.spec.label, r) for e in self.engines.values() for r in e.replicas if r.up)
        )

    def counts(self, key: str) -> Counts:
        """What all replicas of an engine have done, as far as it was observed."""
        engine = self.engines[key]
        found = engine.earlier
        for replica in engine.replicas:
            found = _plus(found, _plus(replica.done, replica.counts))
        return found

    def loads(self) -> dict[str, Load]:
        """The load of each serving engine, by key, with the fullest KV cache of its replicas."""
        found: dict[str, Load] = {}
        for key, engine in self.engines.items():
            up = [replica.load for replica in engine.replicas if replica.up]
            if up:
                found[key] = total_load(up)
        return found

    def gpu_seconds(self) -> float:
        """GPU seconds held by replicas, from launch until unloading."""
        now = time.monotonic()
        return sum(
            e.gpu_seconds + e.spec.gpus * sum(now - r.launched for r in e.replicas)
            for e in self.engines.values()
        )

    def summary(self, key: str) -> dict[str, Any]:
        """For the manifest: tokens, prefix-cache hit rate, deaths and their cost."""
        engine, counts = self.engines[key], self.counts(key)
        away = engine.down_seconds + sum(r.away() for r in engine.replicas)
        return {
            "model": engine.spec.arguments["model"],
            "label": engine.spec.label,
            "weights": dict(engine.spec.weights),
            "prompt_tokens": counts.prompt_tokens,
            "output_tokens": counts.output_tokens,
            "prefix_queries": counts.prefix_queries,
            "prefix_hits": counts.prefix_hits,
            "load_seconds": engine.load_seconds,
            "deaths": len(engine.deaths),
            "death_causes": engine.deaths[:20],
            "seconds_down": round(away, 1),
            "failed": engine.failed or None,
            "fingerprints": engine.fingerprints,
        }

    async def _supervise(self, engine: EngineState, replica: ReplicaState) -> None:
        known: str | None = None
        silent = False
        while not replica.failed:
            limit = self._silence if replica.up else max(self._silence, _LOADING_SILENCE_SECONDS)
            try:
                # Two halves, so that a driver that was delayed still receives the answer.
                async with asyncio.timeout(limit / 2):
                    hello = await replica.handle.hello(known, _HELLO_SECONDS)
                    if replica.is_up_as(hello):
                        replica.note(await replica.handle.counts())
            except TimeoutError:
                if silent:
                    self._note_death(engine, replica, f"its actor did not answer for {limit:g} s")
                    replica.handle.kill(restart=True)
                known, silent = None, not silent
                continue
            except Exception as error:  # noqa: BLE001  (whatever Ray raises, it did not answer)
                self._note_death(engine, replica, _words(error))
                known, silent = None, False
                await asyncio.sleep(_AGAIN_SECONDS)
                continue
            self._take(engine, replica, hello)
            known, silent = hello.state, False
            if hello.incarnation == replica.counted_death:
                await asyncio.sleep(_AGAIN_SECONDS)
        replica.handle.kill(restart=False)

    def _take(self, engine: EngineState, replica: ReplicaState, hello: ReplicaStatus) -> None:
        if hello.incarnation == replica.counted_death:  # a duplicate exit message
            if time.monotonic() - replica.awaited_since > _DYING_SECONDS:
                replica.handle.kill(restart=True)
            return
        before = replica.hello
        if before is not None and before.incarnation != hello.incarnation:
            # It restarted so quickly that its death went unnoticed.
            self._note_death(engine, replica, "its process was replaced")
            if replica.failed:
                return
        replica.hello = hello
        replica.load = hello.load
        if hello.replied:
            replica.unproductive = 0
        if hello.state == "ready" and not replica.up:
            self._note_up(engine, replica, hello)
        elif hello.state == "dying":
            self._note_death(engine, replica, hello.cause)
        elif hello.state == "failed":
            self._note_failure(engine, replica, hello.cause)

    def _note_up(self, engine: EngineState, replica: ReplicaState, hello: ReplicaStatus) -> None:
        now = time.monotonic()
        other = None if self._mixed else _other_kind(engine, hello)
        if other is not None:
            self._note_failure(engine, replica, other)
            return
        replica.up = True
        engine.fingerprints[hello.fingerprint] = hello.details
        if replica.down_since is not None:
            replica.down_seconds += now - replica.down_since
            replica.down_since = None
        if engine.load_seconds is None:
            engine.load_seconds = round(now - replica.launched, 1)
        log.info("%s, replica %d is ready, pid %d", engine.spec.label, replica.index, hello.pid)
        self._tell()

    def _note_death(self, engine: EngineState, replica: ReplicaState, cause: str) -> None:
        """Counts a death once, however many signs of it are seen."""
        if replica.hello is None:  # it is not back yet, or never came
            if time.monotonic() - replica.awaited_since > engine.spec.start_timeout:
                limit = f"{engine.spec.start_timeout:g} s (start_timeout)"
                self._note_failure(engine, replica, f"not ready within {limit}: {cause}")
            return
        log.error("%s, replica %d was lost: %s", engine.spec.label, replica.index, cause)
        engine.deaths.append(cause)
        replica.counted_death = replica.hello.incarnation
        replica.done, replica.counts = _plus(replica.done, replica.counts), Counts()
        replica.up, replica.hello = False, None
        replica.awaited_since = time.monotonic()
        if replica.down_since is None:
            replica.down_since = replica.awaited_since
        replica.unproductive += 1
        if replica.unproductive > UNPRODUCTIVE_RESTARTS:
            times = f"restarted {UNPRODUCTIVE_RESTARTS} times without one reply"
            self._note_failure(engine, replica, f"{times}; the last time: {cause}")
        self._tell()

    def _note_failure(self, engine: EngineState, replica: ReplicaState, cause: str) -> None:
        log.error("%s, replica %d has failed for good: %s", engine.spec.label, replica.index, cause)
        replica.failed, replica.up = cause, False
        replica.down_seconds, replica.down_since = replica.away(), None
        if all(r.failed for r in engine.replicas):
            engine.failed = f"the model cannot be served: {cause}"
        self._tell()

    def _tell(self) -> None:
        self.news.set()
        self._changed()


def _other_kind(engine: EngineState, hello: ReplicaStatus) -> str | None:
    """Why a replica may not serve next to the known ones: another type of GPU or
    version of its library."""
    for known in engine.fingerprints.values():
        for name in ("device", "vllm", "sentence_transformers"):
            has, expected = hello.details.get(name), known.get(name)
            if has != expected:
                return (
                    f"its node has {name} {has}, where the others have {expected} "
                    "(run.mixed_gpus: true allows that)"
                )
    return None


def _words(error: Exception) -> str:
    return error.message if isinstance(error, CrsweepError) else repr(error)


def _plus(a: Counts, b: Counts) -> Counts:
    return Counts(*(x + y for x, y in zip(a, b, strict=True)))
