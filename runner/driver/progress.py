"""Progress of a run: a live bar on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
)

from agents.core.plural import many
from runner.core.formatting import duration, short_count
from sweeps.tasks import Outcome
from workers.cache.entries import Damage
from workers.core.usage import CallCounts
from workers.engines.clients import Losses
from workers.executors.pool import Report
from workers.results.bundles import WOULD_REPEAT

_LINE_EVERY = 5.0  # seconds between plain lines
_WINDOW = 10.0  # seconds that rates are taken over


@dataclass
class KindTally:
    """Counts of the tasks of one kind. `total` is the number to do when the run began."""

    total: int = 0
    settled: int = 0
    failed: int = 0
    open: int = 0
    """Failed by infrastructure until the last retry; the next run retries them."""
    tried_again: int = 0

    @property
    def left(self) -> int:
        """How many are still to do, in this run or the next."""
        return self.total + self.open - self.settled


@dataclass
class Tally:
    """The numbers of one run, by kind of task and over all calls."""

    kinds: dict[str, KindTally]
    """Kinds that are counted; artifacts are listed one by one instead."""
    counts: CallCounts = field(default_factory=CallCounts)
    """Calls that ended, including those of running or interrupted tasks."""
    losses: dict[str, Losses] = field(default_factory=dict)
    """By worker: calls that were in engines when those died."""
    damage: Damage = field(default_factory=Damage)
    """Damage of the call cache."""
    started: float = field(default_factory=time.monotonic)
    ended: float | None = None

    @property
    def settled(self) -> int:
        """Tasks of all kinds that are finished in this run."""
        return sum(one.settled for one in self.kinds.values())

    @property
    def failed(self) -> int:
        return sum(one.failed for one in self.kinds.values())

    @property
    def left(self) -> int:
        return sum(one.left for one in self.kinds.values())

    @property
    def seconds(self) -> float:
        """Time from when all workers were ready until the last one stopped, or until now."""
        return (self.ended or time.monotonic()) - self.started


def bars(console: Console) -> Progress:
    """A live bar for each running thing; tasks have a description and a `status`."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=12),
        MofNCompleteColumn(),
        TextColumn("{task.fields[status]}"),  # still fits 80 columns with everything that follows
        console=console,
        refresh_per_second=4,
    )


class PreparingDisplay:
    """Shows the progress of artifacts: bars on a terminal, a line every few seconds elsewhere.

    A context manager; `shared` are bars that are already displayed.
    """

    def __init__(self, console: Console, shared: Progress | None = None) -> None:
        self._console = console
        self._own = bars(console) if console.is_terminal and shared is None else None
        self._bars = shared or self._own
        self._tasks: dict[str, TaskID] = {}
        self._said: dict[str, float] = {}

    def __enter__(self) -> PreparingDisplay:
        if self._own is not None:
            self._own.start()
        return self

    def __exit__(self, *_: Any) -> None:
        if self._own is not None:
            self._own.stop()

    def note(self, title: str, done: int, most: int, words: str) -> None:
        """Shows the progress of one artifact: `done` of `most`, and a text."""
        now = time.monotonic()
        if self._bars is not None:
            if title not in self._tasks:
                self._tasks[title] = self._bars.add_task(f"preparing {escape(title)}", status="")
            task = self._tasks[title]
            self._bars.update(task, completed=done, total=most, status=escape(words))
        elif now - self._said.get(title, -_LINE_EVERY) >= _LINE_EVERY:
            self._said[title] = now
            far = f", {done:,} of {most:,}" if most > 1 else ""
            self._console.print(f"preparing {title}{far}: {words}", markup=False, soft_wrap=True)

    def end(self, title: str, words: str, style: str | None = None) -> None:
        """Shows that one artifact is finished."""
        if self._bars is not None and title in self._tasks:
            self._bars.remove_task(self._tasks.pop(title))
        self._console.print(f"{title}: {words}", style=style, markup=False, soft_wrap=True)


class ProgressDisplay:
    """Counts and displays what happens to tasks. A context manager.

    `totals` has the number of tasks to do, by kind. While `only_gates` returns true, and if there
    is nothing to do, only `PreparingDisplay` is shown. `at_once` returns the current number of
    tasks at once, if that changes.
    """

    def __init__(
        self,
        totals: Mapping[str, int],
        console: Console,
        only_gates: Callable[[], bool],
        at_once: Callable[[], int] | None = None,
    ) -> None:
        self.tally = Tally({kind: KindTally(total) for kind, total in totals.items()})
        self._console, self._at_once = console, at_once
        self._silent = lambda: not any(self._shown()) or only_gates()
        self._live = console.is_terminal
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._last_line = time.monotonic()
        self._tried: dict[str, str] = {}  # id of a task that failed and will be tried again: kind
        self._marks: list[tuple[float, int, int]] = [(time.monotonic(), 0, 0)]

    def __enter__(self) -> ProgressDisplay:
        if self._live:
            self._bars = bars(self._console)
            self._show_bars(visible=not self._silent(), status="starting")
            self._bars.start()
        return self

    def preparing(self) -> PreparingDisplay:
        """A display of artifacts next to this one."""
        return PreparingDisplay(self._console, self._bars)

    def __exit__(self, *_: Any) -> None:
        self.tally.ended = time.monotonic()
        self._count_abandoned_retries()
        if self._bars is not None:
            self._show()
            self._bars.stop()

    def settled(self, outcome: Outcome, final: bool) -> None:
        kind = outcome.task.kind
        tally = self.tally.kinds.setdefault(kind, KindTally())
        if not final:
            tally.tried_again += 1
            self._tried[outcome.task.id] = kind
            return
        self._tried.pop(outcome.task.id, None)
        tally.settled += 1
        tally.failed += outcome.status == "failed"
        tally.open += outcome.status == "failed" and outcome.blame not in WOULD_REPEAT

    def _count_abandoned_retries(self) -> None:
        """Counts tasks whose retry did not happen because the run stopped early as failed, as
        readers do."""
        for kind, count in Counter(self._tried.values()).items():
            tally = self.tally.kinds[kind]
            tally.tried_again -= count
            tally.settled += count
            tally.failed += count
            tally.open += count
        self._tried.clear()

    def counted(self, worker: str, report: Report) -> None:
        self.tally.counts = self.tally.counts.plus(report.counts)
        if report.losses is not None and report.losses.calls:
            self.tally.losses[worker] = report.losses
        self._show()

    def lost(self, worker: str, again: int) -> None:
        kinds = " and ".join(f"{kind}s" for kind in self._shown()) or "tasks"
        self._console.print(
            f"worker {worker} was lost; its unfinished {kinds} run again", style="yellow"
        )

    def _shown(self) -> dict[str, KindTally]:
        """The kinds with something to do."""
        return {kind: one for kind, one in self.tally.kinds.items() if one.total}

    def _show(self) -> None:
        now, silent, settled = time.monotonic(), self._silent(), self.tally.settled
        if silent:  # rates and lines start with the first count
            self._show_bars(visible=False, status="")
            self._marks, self._last_line = [(now, settled, self.tally.counts.calls)], now
            return
        self._marks.append((now, settled, self.tally.counts.calls))
        while len(self._marks) > 2 and now - self._marks[0][0] > _WINDOW:
            self._marks.pop(0)
        if self._bars is not None:
            self._show_bars(visible=True, status=self._status())
        elif now - self._last_line >= _LINE_EVERY:
            self._last_line = now
            done = ", ".join(
                f"{kind}s {one.settled}/{one.total}, {one.failed} failed"
                for kind, one in self._shown().items()
            )
            self._console.print(f"{done}, {self._status()}", soft_wrap=True)

    def _show_bars(self, *, visible: bool, status: str) -> None:
        """Shows one bar per kind, and the overall rates next to the last one."""
        if self._bars is None:
            return
        shown = self._shown()
        for kind, one in shown.items():
            if kind not in self._tasks:
                self._tasks[kind] = self._bars.add_task(f"{kind}s", status="", visible=False)
            more = f", {status}" if kind == list(shown)[-1] else ""
            self._bars.update(
                self._tasks[kind],
                completed=one.settled,
                total=one.total,
                status=f"{one.failed} failed{more}",
                visible=visible,
            )

    def _status(self) -> str:
        (then, settled, calls), (now, *_) = self._marks[0], self._marks[-1]
        tally = self.tally
        passed = max(now - then, 1e-6)
        calls_a_second = (tally.counts.calls - calls) / passed
        settled_a_second = (tally.settled - settled) / passed
        left = "?"
        if settled_a_second > 0:
            total = sum(one.total for one in tally.kinds.values())
            left = duration(max(0, total - tally.settled) / settled_a_second)
        many = "" if self._at_once is None else f", {self._at_once():,} at once"
        return (
            f"{_rate(calls_a_second)}{many}, {short_count(tally.counts.tokens)} tokens, {left} left"
        )


def _rate(calls_a_second: float) -> str:
    """The rate of calls; slow models show `0.2 calls/s`, not 0."""
    digits = 1 if 0 < calls_a_second < 10 else 0
    return f"{calls_a_second:,.{digits}f} calls/s"


def token_words(tokens: int, uncounted: int) -> str:
    """Words such as `40 tokens`; a lower bound if `uncounted` replies had no counts."""
    if not uncounted:
        return many(tokens, "token")
    return f"at least {many(tokens, 'token')} ({many(uncounted, 'reply')} without token counts)"
