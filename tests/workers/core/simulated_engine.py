"""A simulated engine with seats, a KV budget and pre-emption, and dialogues that call it.

Time is simulated. An engine works in steps: it takes calls from its queue while it has a seat and
room in its KV cache, and each running call reads its prompt or writes tokens. If the cache runs
full, the call that came last loses its place and all that was computed for it, as in vLLM. What is
left of the cache holds the prompts of earlier calls: a dialogue whose prompt is still there reads
only what is new, so too many dialogues at once cost time although none is thrown out.
"""

from __future__ import annotations

import heapq
import random
from collections import OrderedDict, defaultdict, deque
from dataclasses import dataclass

from workers.core.concurrency import AdaptiveLimit, Load

CHUNK = 4  # tokens that a call writes in one simulated step


@dataclass(frozen=True)
class EngineShape:
    """Seconds of a step: `fixed`, plus `each` running call, plus `read` for each prompt token."""

    seats: int = 64
    kv_tokens: int = 8000
    fixed: float = 0.02
    each: float = 0.0004
    read: float = 0.00002
    prompt: int = 100
    grows: int = 60
    """Tokens by which the prompts of a dialogue grow with each call."""
    reply: int = 40
    calls: int = 5
    """Of a dialogue."""
    reuses: bool = True
    """Whether it keeps prompts of earlier calls."""
    thinks: float = 0.1
    """Seconds between two calls of a dialogue."""


@dataclass(eq=False)
class _Dialogue:
    made: int
    prompt: int
    reply: int
    written: int = 0

    @property
    def tokens(self) -> int:
        return self.prompt + self.written


class Simulation:
    """Dialogues without end, as many at once as `limit` says, on one engine."""

    def __init__(self, shape: EngineShape, seed: int = 0) -> None:
        self.shape, self.now = shape, 0.0
        self._random = random.Random(seed)
        self._queue: deque[_Dialogue] = deque()
        self._running: list[_Dialogue] = []
        self._thinking: list[tuple[float, int, _Dialogue]] = []
        self._numbers = 0
        self.in_flight = self.answered = self.preempted = 0
        self._kv_peak = 0.0
        self._kept: OrderedDict[_Dialogue, int] = OrderedDict()  # tokens, the oldest first

    def load(self) -> Load:
        peak, self._kv_peak = self._kv_peak, 0.0
        return Load(len(self._running), len(self._queue), peak, self.preempted)

    def fill(self, limit: int) -> None:
        """Starts dialogues up to the limit."""
        while self.in_flight < limit:
            self.in_flight += 1
            # Those that begin together would go through their turns in step.
            self._think(_Dialogue(0, 0, 0))

    def step(self, limit: int) -> None:
        """One step of the engine, or a wait until there is something to do."""
        self.fill(limit)
        while self._thinking and (
            self._thinking[0][0] <= self.now or not (self._queue or self._running)
        ):
            at, _, dialogue = heapq.heappop(self._thinking)
            self.now = max(self.now, at)
            self._call(dialogue)
        shape = self.shape
        read = self._admit()
        for dialogue in self._running:
            dialogue.written += CHUNK
        used = sum(dialogue.tokens for dialogue in self._running)
        while used > shape.kv_tokens and len(self._running) > 1:
            lost = self._running.pop()
            used -= lost.tokens
            self.preempted += 1
            self._queue.appendleft(lost)
        self._keep(shape.kv_tokens - used)
        self._kv_peak = max(self._kv_peak, min(1.0, used / shape.kv_tokens))
        self.now += CHUNK * (shape.fixed + shape.each * len(self._running)) + shape.read * read
        done = [d for d in self._running if d.written >= d.reply]
        if done:
            self._running = [d for d in self._running if d.written < d.reply]
        for dialogue in done:
            self.answered += 1
            if shape.reuses:
                self._kept[dialogue] = dialogue.tokens
            if dialogue.made < shape.calls:
                self._think(dialogue)
            else:
                self._kept.pop(dialogue, None)
                self.in_flight -= 1
                self.fill(min(limit, self.in_flight + 1))

    def _admit(self) -> int:
        shape, read = self.shape, 0
        used = sum(dialogue.tokens for dialogue in self._running)
        while self._queue and len(self._running) < shape.seats:
            needs = self._queue[0].tokens
            if used + needs + CHUNK > shape.kv_tokens and self._running:
                break
            used += needs
            read += needs - self._kept.pop(self._queue[0], 0)
            self._running.append(self._queue.popleft())
        return read

    def _keep(self, room: int) -> None:
        kept = sum(self._kept.values())
        while kept > room and self._kept:
            kept -= self._kept.popitem(last=False)[1]

    def _think(self, dialogue: _Dialogue) -> None:
        self._numbers += 1
        seconds = self.shape.thinks * self._random.uniform(0.2, 1.8)
        heapq.heappush(self._thinking, (self.now + seconds, self._numbers, dialogue))

    def _call(self, dialogue: _Dialogue) -> None:
        shape = self.shape
        dialogue.prompt = shape.prompt + shape.grows * dialogue.made
        dialogue.made += 1
        dialogue.reply = max(CHUNK, int(shape.reply * self._random.uniform(0.3, 1.7)))
        dialogue.written = 0
        self._queue.append(dialogue)


def fixed(shape: EngineShape, limit: int, calls: int) -> float:
    """Calls a second with a fixed number of dialogues, once they are mixed, over `calls` calls or a
    bit more: over whole dialogues, since those that began together stay together."""
    simulation = Simulation(shape)
    window = shape.calls * limit
    while simulation.answered < max(calls, 2 * window):
        simulation.step(limit)
    began, had = simulation.now, simulation.answered
    while simulation.answered < had + -(-calls // window) * window:
        simulation.step(limit)
    return (simulation.answered - had) / (simulation.now - began)


def best_fixed(shape: EngineShape, calls: int = 1000) -> float:
    """Calls a second with the best fixed number, of numbers a third apart."""
    best, falls, limit = 0.0, 0, 1
    while limit <= 600 and falls < 4:  # beyond its best, an engine only gets fuller
        rate = fixed(shape, limit, calls)
        falls = 0 if rate > best else falls + 1
        best, limit = max(best, rate), max(limit + 1, int(limit * 1.35))
    return best


@dataclass(frozen=True)
class Settled:
    """What a controller came to: calls a second in the end, trials included, and the limit that it
    had most of that time."""

    rate: float
    limit: int
    control: AdaptiveLimit


def adaptive(shape: EngineShape, start: int, calls: int) -> Settled:
    """Runs with a controller for `calls` calls, then as long again to see where it is."""
    simulation = Simulation(shape)
    control = AdaptiveLimit(start, clock=lambda: simulation.now)
    seconds_at: dict[int, float] = defaultdict(float)
    looked = 0.0

    def play(calls: int) -> None:
        nonlocal looked
        until = simulation.answered + calls
        while simulation.answered < until:
            simulation.step(control.limit)
            if simulation.now - looked >= 1.0:
                seconds_at[control.limit] += simulation.now - looked
                looked = simulation.now
                control.observe(simulation.in_flight, simulation.answered, {"e": simulation.load()})

    play(calls)
    while simulation.now < 100:
        play(100)
    began, had = simulation.now, simulation.answered
    seconds_at.clear()
    play(max(3000, 10 * control.limit, int(60 * had / began)))
    rate = (simulation.answered - had) / (simulation.now - began)
    return Settled(rate, max(seconds_at, key=lambda limit: seconds_at[limit]), control)
