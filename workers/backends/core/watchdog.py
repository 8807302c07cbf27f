"""Decides whether an engine makes progress, based on every step it takes.

A ping says little: a hung engine may still answer one. What counts is that its scheduler takes
steps while there is work. How long a step may take follows from the steps seen so far and from the
waiting tokens, so that a slow engine is not taken for a dead one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

from workers.core.concurrency import Load

_FLOOR = 15.0  # seconds: a busy machine may pause that long (loading, swapping, compiling)
_PATIENCE = 10.0  # times the slowest that was seen
_CEILING = 1800.0  # seconds: one slow step (a first compilation) must not excuse a hang for hours
_PAUSE = 5.0  # seconds between two looks: then this process was held up, and heard of no step
LOOK_EVERY = 0.5
"""Seconds between two checks for a stall."""


class Counts(NamedTuple):
    """What an engine has done so far.

    Tokens are those of answered calls. Prefix counts are tokens looked up and found, steps are
    those of the scheduler; both include warm-ups.
    """

    prompt_tokens: int = 0
    output_tokens: int = 0
    prefix_queries: int = 0
    prefix_hits: int = 0
    steps: int = 0


class Watchdog:
    """Receives each step through `logger`, and each request through `begin` and `end`."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._pending: dict[str, int] = {}
        self._last = self._looked = clock()
        self._slowest_step = 0.0
        self._a_token = 0.0  # seconds to read one token of a prompt, at worst
        self.counts = Counts()
        self.most_tokens = 8192
        self._load = Load()

    def begin(self, name: str, tokens: int) -> None:
        """A request with a prompt of `tokens` is given to the engine."""
        if not self._pending:
            self._last = self._clock()  # the clock ran while there was nothing to do
        self._pending[name] = tokens

    def end(self, name: str) -> None:
        """A request has ended, for whatever reason."""
        self._pending.pop(name, None)
        if not self._pending:
            self._last = self._clock()

    def step(self, queries: int, hits: int) -> None:
        """The engine took a step; of `queries` tokens of new prompts, `hits` were cached."""
        now = self._clock()
        # A late step after the last request says nothing about the duration of steps.
        took = now - self._last if self._pending else 0.0
        self._last = now
        self._slowest_step = max(self._slowest_step * 0.999, took)
        if queries > hits:
            self._a_token = max(self._a_token * 0.999, took / max(queries - hits, 64))
        old = self.counts
        self.counts = old._replace(
            prefix_queries=old.prefix_queries + queries,
            prefix_hits=old.prefix_hits + hits,
            steps=old.steps + 1,
        )

    def note_load(self, running: int, waiting: int, kv: float) -> None:
        """Records what the scheduler holds after a step; `kv` is the share of the KV
        cache in use."""
        self._load = self._load._replace(
            running=running, waiting=waiting, kv=max(self._load.kv, kv)
        )

    def note_preempted(self, count: int) -> None:
        """Records that this many requests lost their place in the KV cache."""
        self._load = self._load._replace(preempted=self._load.preempted + count)

    def take_load(self) -> Load:
        """The engine's current load. Its `kv` is the highest since the previous call."""
        now = self._load if self._pending else self._load._replace(running=0, waiting=0)
        self._load = now._replace(kv=0.0)
        return now

    def served(self, prompt_tokens: int, output_tokens: int) -> None:
        """Records that a call was answered."""
        old = self.counts
        self.counts = old._replace(
            prompt_tokens=old.prompt_tokens + prompt_tokens,
            output_tokens=old.output_tokens + output_tokens,
        )

    def deadline(self) -> float:
        """Seconds within which the next step must end."""
        tokens = min(sum(self._pending.values()), self.most_tokens)
        slowest = max(self._slowest_step, self._a_token * tokens)
        return min(_CEILING, max(_FLOOR, _PATIENCE * slowest))

    def stalled(self) -> str:
        """Why the engine counts as hung; empty if it does not. Call it every `LOOK_EVERY` seconds.

        On an overloaded machine the checks come late, like the engine's steps: that time does not
        count.
        """
        now = self._clock()
        between, self._looked = now - self._looked, now
        if between > _PAUSE:
            self._last = now
        else:
            self._last = min(now, self._last + max(0.0, between - LOOK_EVERY))
        if not self._pending:
            return ""
        waited, deadline = now - self._last, self.deadline()
        if waited <= deadline:
            return ""
        return (
            f"the engine hangs: no step for {waited:.0f} s with {len(self._pending)} requests "
            f"(deadline {deadline:.0f} s; its slowest step took {self._slowest_step:.1f} s)"
        )

    def idle_for(self) -> float:
        """Seconds since the last work; 0 while there is some."""
        return 0.0 if self._pending else self._clock() - self._last

    def logger(self, config: Any, engine_index: int = 0) -> Any:
        """A stat logger of vLLM that feeds this watchdog."""
        from vllm.v1.metrics.loggers import StatLoggerBase

        pulse = self

        class _Logger(StatLoggerBase):
            def __init__(self, vllm_config: Any, engine_index: int = 0) -> None: ...

            def record(
                self,
                scheduler_stats: Any,
                iteration_stats: Any,
                mm_cache_stats: Any = None,
                engine_idx: int = 0,
            ) -> None:
                if scheduler_stats is not None:
                    pulse.note_load(
                        scheduler_stats.num_running_reqs,
                        scheduler_stats.num_waiting_reqs,
                        scheduler_stats.kv_cache_usage,
                    )
                prefix = scheduler_stats.prefix_cache_stats if scheduler_stats else None
                pulse.step(prefix.queries if prefix else 0, prefix.hits if prefix else 0)

            def log_engine_initialized(self) -> None: ...

        return _Logger(config, engine_index)
