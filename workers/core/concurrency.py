"""How much may be in flight at once: it grows while engines have room, and shrinks when they have
none.

A pure state machine with the clock that it is given: it holds no task and asks for nothing. Its
owner calls `observe` about once a second and obeys `limit`. What is in flight are dialogues (the
driver, over all engines of a run) or requests (one server's client, for `max_connections: auto`).

- It decides once a *round*: when so many calls were answered that the last change has had its
  effect, and that calls/s can be compared.
- *Room*: nothing waits, and the KV cache is not full. The limit grows, at most to the double, as
  long as it has never been cut; then by as much as the KV cache still holds, or by a twentieth.
- *Queueing*: calls wait that the engine has no place for. More of them would not be answered
  sooner, so the limit stays; what waits beyond a tenth of what runs is taken away.
- *Pre-emption*: an engine that throws out most of what it runs has its limit cut to what it could
  hold. Below that, pre-emption costs a second reading of a prompt, and an emptier engine may cost
  more: a smaller limit is tried, and kept unless fewer calls are answered a second.
- *Refusals* (HTTP 429 and the like) cut the limit by a quarter.
- A change after which fewer calls are answered a second than before is taken back, and tried again
  later, each time after twice as long.

Dialogues that run are not broken off, so nothing is decided until what is in flight has come down
to the limit.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Literal, NamedTuple

Reason = Literal["room", "queueing", "pre-emption", "refusals", "fewer calls/s", "trial"]

START = 64
"""In flight before anything is known: the default of `run.concurrency`."""
MOST = 4096
"""What no controller exceeds: beyond it, a driver's own memory and processor count."""

_ROUND_SECONDS = 1.0  # a shorter round would see a burst, not a state
_RISING_CALLS = 32  # of a round, or one for each that is in flight: while it rises
_STEADY_CALLS = 128  # or two for each: calls/s are compared
_RISE = 2.0
_MORE = 1.15
_LESS = (0.85, 0.85, 0.5)  # in turn: what is far away may be better than what is near
_FULL = 0.95  # share of a KV cache that may be in use before growth slows down
_KEPT = 0.95  # of what an engine could hold, after it has thrown out most
_DEEPEST = 0.5  # the least that one cut leaves
_REFUSED = 0.75
_TOLERATED = 0.05  # pre-emptions for each answered call: nothing smaller is tried
_STOCK = (0.1, 4)  # of what runs, and calls: this many may wait, so that no place stays empty
_CROWD = (0.25, 16)  # what waits beyond that is taken away, down to the stock
_USED = 0.9  # of the limit: with less in flight, more would change nothing
# Of the usual calls/s, what a trial must reach to be kept. Less in flight without need must pay.
_AS_GOOD: dict[Reason, float] = {"room": 0.99, "queueing": 0.99, "pre-emption": 0.99, "trial": 1.03}
_LATER = 0.93  # of what they were before a growth: its harm came late, as caches ran full
_FELL = 0.88  # of the calls/s before: while it rises, rounds are short
_HOLD, _LONGEST_HOLD = 2, 32  # rounds
_MOVES_KEPT = 200
_LOOK_SECONDS = 0.5


class Load(NamedTuple):
    """What one engine or server does. `preempted` and `refused` count from its start."""

    running: float = 0.0
    waiting: float = 0.0
    """Calls that it has no place for, there or held back by its clients."""
    kv: float = 0.0
    """The largest share of its KV cache that was in use since the last look; 0 if unknown."""
    preempted: int = 0
    refused: int = 0


def total_load(loads: Iterable[Load]) -> Load:
    """Sums of what runs, waits and was counted, and the fullest KV cache."""
    found = Load()
    for load in loads:
        found = Load(
            found.running + load.running,
            found.waiting + load.waiting,
            max(found.kv, load.kv),
            found.preempted + load.preempted,
            found.refused + load.refused,
        )
    return found


class LimitChange(NamedTuple):
    """A change of the limit, `at` seconds after the start."""

    at: float
    limit: int
    reason: Reason


class _Round:
    """What was seen since the last decision."""

    def __init__(self, now: float, answered: int, loads: Mapping[str, Load]) -> None:
        self.began, self.answered = now, answered
        self._before = loads
        self._seen = 0
        self._sums: dict[str, Load] = {}

    def add(self, loads: Mapping[str, Load]) -> None:
        self._seen += 1
        for name, now in loads.items():
            # An engine that was restarted, or is new, counts from none.
            before = self._before.get(name, Load())
            had = self._sums.get(name, Load())
            self._sums[name] = Load(
                had.running + now.running,
                had.waiting + now.waiting,
                max(had.kv, now.kv),
                max(0, now.preempted - before.preempted),
                max(0, now.refused - before.refused),
            )

    @property
    def loads(self) -> list[Load]:
        """Means of what runs and waits, the fullest KV cache, and what was counted."""
        return [
            sums._replace(running=sums.running / self._seen, waiting=sums.waiting / self._seen)
            for sums in self._sums.values()
        ]


class AdaptiveLimit:
    """The state machine. `limit` is between `least` and `most`."""

    def __init__(
        self,
        start: int = START,
        most: int = MOST,
        least: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.least, self.most = least, max(least, most)
        self.limit = min(max(start, least), self.most)
        self.moves: list[LimitChange] = []
        """The first changes, and the latest."""
        self._clock, self._started = clock, clock()
        self._round: _Round | None = None
        self._draining = False
        self._rising = True
        self._trial: tuple[int, float] | None = None  # the limit before, and its calls/s
        self._grown_from: tuple[int, float] | None = (
            None  # the same, of the last growth that was kept
        )
        self._usual: float | None = None  # calls/s with this limit
        self._hold, self._next_hold = 0, _HOLD  # rounds without a trial
        self._down_next = False
        self._steps_down = 0

    def observe(self, in_flight: int, answered: int, loads: Mapping[str, Load]) -> int:
        """Takes in what is seen now; the limit from now on.

        `answered` are calls since the start, `loads` all engines that serve at this moment.
        """
        now = self._clock()
        if self._draining and in_flight <= self.limit:
            self._draining, self._round = False, None
        if self._round is None:
            self._round = _Round(now, answered, dict(loads))
        self._round.add(loads)
        if not self._draining:
            self._decide(now, in_flight, answered)
        return self.limit

    def _decide(self, now: float, in_flight: int, answered: int) -> None:
        assert self._round is not None
        calls, seen = answered - self._round.answered, self._round.loads
        seconds = now - self._round.began
        enough = (
            max(in_flight, _RISING_CALLS) if self._rising else max(2 * in_flight, _STEADY_CALLS)
        )
        thrown_out = sum(load.preempted for load in seen)
        if any(load.refused for load in seen):
            self._cut(now, in_flight, _REFUSED, "refusals")
        elif thrown_out > max(calls, in_flight, _RISING_CALLS):
            fits = min(
                load.running / max(load.running + load.waiting, 1.0)
                for load in seen
                if load.preempted
            )
            self._cut(now, in_flight, fits * _KEPT, "pre-emption")
        elif seconds >= _ROUND_SECONDS and calls >= enough:
            self._round = None
            self._end_round(now, in_flight, calls / seconds, thrown_out / calls, seen)

    def _end_round(
        self, now: float, in_flight: int, rate: float, thrown_out: float, seen: list[Load]
    ) -> None:
        """`thrown_out` are pre-emptions for each answered call."""
        trial, self._trial = self._trial, None
        if trial is not None:
            limit, usual = trial
            more = self.limit > limit
            if rate < (_FELL if self._rising else _AS_GOOD[self.moves[-1].reason]) * usual:
                self._take_back(now, limit, usual)
                self._down_next = more
                return
            self._next_hold = _HOLD
            self._grown_from = trial if more and not self._rising else None
        self._usual = rate if self._usual is None else (self._usual + rate) / 2
        if self._grown_from is not None and self._usual < _LATER * self._grown_from[1]:
            self._take_back(now, *self._grown_from)
            self._down_next = True
            return
        crowded = [load for load in seen if _excess(load, _CROWD) > 0]
        queued = any(_excess(load, _STOCK) > 0 for load in seen)
        down, self._down_next = self._down_next, False
        if crowded:
            self._rising = False
            beyond = round(max(_excess(load, _STOCK) for load in crowded))
            self._move(now, min(self.limit, in_flight) - beyond, "queueing")
        elif self._hold > 0:
            self._hold -= 1
            self._down_next = down
        elif queued or down or thrown_out > _TOLERATED:
            self._rising = False
            why: Reason = "queueing" if queued else "pre-emption" if not down else "trial"
            less = _LESS[self._steps_down % len(_LESS)]
            self._steps_down += 1
            self._try(now, min(self.limit - 1, int(self.limit * less)), why)
        elif in_flight >= _USED * self.limit:
            self._try(now, max(self.limit + 1, int(self.limit * self._growth(seen))), "room")

    def _growth(self, seen: list[Load]) -> float:
        fullest = max((load.kv for load in seen), default=0.0)
        if not fullest or not self._rising:
            return _RISE if self._rising else _MORE
        return min(_RISE, max(_MORE, _FULL / fullest))

    def _try(self, now: float, new: int, reason: Reason) -> None:
        before, usual = self.limit, self._usual
        if self._move(now, new, reason) and usual is not None:
            self._trial = (before, usual)

    def _take_back(self, now: float, to: int, usual: float) -> None:
        self._rising, self._grown_from = False, None
        self._hold, self._next_hold = self._next_hold, min(2 * self._next_hold, _LONGEST_HOLD)
        self._move(now, to, "fewer calls/s")
        self._usual = usual

    def _cut(self, now: float, in_flight: int, factor: float, reason: Reason) -> None:
        self._rising, self._trial = False, None
        self._move(now, int(max(_DEEPEST, factor) * min(in_flight, self.limit)), reason)

    def _move(self, now: float, new: int, reason: Reason) -> bool:
        """Whether that is a change."""
        new = min(max(new, self.least), self.most)
        self._round = None
        if new == self.limit:
            return False
        self._draining, self._usual = new < self.limit, None
        self.limit = new
        self.moves.append(LimitChange(round(now - self._started, 1), new, reason))
        if len(self.moves) > _MOVES_KEPT:
            del self.moves[_MOVES_KEPT // 2]
        return True


class Gate:
    """Lets so many in at once, in the order in which they come; `auto` adapts how many.

    An async context manager. `refused` is counted up when a server refuses a call.
    """

    def __init__(
        self,
        places: int | Literal["auto"],
        most: int = MOST,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._adaptive = AdaptiveLimit(START, most, clock=clock) if places == "auto" else None
        self.places = START if places == "auto" else places
        self.inside = self.refused = 0
        self._answered = 0
        self._clock, self._looked = clock, clock()
        self._queue: deque[asyncio.Future[None]] = deque()

    @property
    def waiting(self) -> int:
        """How many wait to be let in."""
        return sum(not place.done() for place in self._queue)

    async def __aenter__(self) -> None:
        if self.inside < self.places and not self._queue:
            self.inside += 1
            return
        place = asyncio.get_running_loop().create_future()
        self._queue.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():  # it was let in, and does not come
                self.inside -= 1
                self._let_in()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._answered += 1
        if self._adaptive is not None and self._clock() - self._looked >= _LOOK_SECONDS:
            self._looked = self._clock()
            load = Load(running=self.inside, refused=self.refused)
            self.places = self._adaptive.observe(self.inside, self._answered, {"": load})
        self.inside -= 1
        self._let_in()

    def _let_in(self) -> None:
        while self._queue and self.inside < self.places:
            place = self._queue.popleft()
            if not place.done():
                self.inside += 1
                place.set_result(None)


def _excess(load: Load, allowed: tuple[float, float]) -> float:
    """How many more calls wait than this share of what runs, and so many more."""
    share, calls = allowed
    return load.waiting - share * load.running - calls
