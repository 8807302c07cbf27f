"""Progress of a run: a live bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
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

from runner.formatting import duration, short
from workers.backends.vllm.client.clients import Losses
from workers.cache.entries import Damage
from workers.pool import Report, Settled
from workers.results.bundles import WOULD_REPEAT
from workers.usage import CallCounts

_LINE_EVERY = 5.0  # seconds between plain lines
_WINDOW = 10.0  # seconds that rates are taken over


@dataclass
class Tally:
    """CallCounts of one run. `total` is what was to do when it began."""

    total: int
    settled: int = 0
    failed: int = 0
    open: int = 0
    """Failed by infrastructure to the last try: the next run retries them."""
    tried_again: int = 0
    counts: CallCounts = field(default_factory=CallCounts)
    """Of calls that ended, also in dialogues that still run or were broken off."""
    workers_lost: int = 0
    losses: dict[str, Losses] = field(default_factory=dict)
    """By worker: calls that were in engines when those died."""
    damage: Damage = field(default_factory=Damage)
    """Of the call cache."""
    started: float = field(default_factory=time.monotonic)
    ended: float | None = None

    @property
    def seconds(self) -> float:
        """From when all workers were ready until the last of them had stopped, or until now."""
        return (self.ended or time.monotonic()) - self.started


def bars(console: Console) -> Progress:
    """A live bar for each thing that goes on; tasks have a description and a `status`."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=12),
        MofNCompleteColumn(),
        TextColumn("{task.fields[status]}"),  # fits 80 columns with all that is left of it
        console=console,
        refresh_per_second=4,
    )


class PreparingDisplay:
    """Shows how far artifacts are: bars on a terminal, else a line each now and then.

    A context manager; `beside` are bars that are shown already.
    """

    def __init__(self, console: Console, beside: Progress | None = None) -> None:
        self._console = console
        self._own = bars(console) if console.is_terminal and beside is None else None
        self._bars = beside or self._own
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
        """How far one is: `done` of `most`, and in words."""
        now = time.monotonic()
        if self._bars is not None:
            if title not in self._tasks:
                self._tasks[title] = self._bars.add_task(f"preparing {escape(title)}", status="")
            task = self._tasks[title]
            self._bars.update(task, completed=done, total=most, status=escape(words))
        elif now - self._said.get(title, -_LINE_EVERY) >= _LINE_EVERY:
            self._said[title] = now
            self._console.print(f"preparing {title}: {words}", markup=False, soft_wrap=True)

    def end(self, title: str, words: str, style: str | None = None) -> None:
        """One is over."""
        if self._bars is not None and title in self._tasks:
            self._bars.remove_task(self._tasks.pop(title))
        self._console.print(f"{title}: {words}", style=style, markup=False, soft_wrap=True)


class ProgressDisplay:
    """Listens to the scheduler and shows the tally. A context manager.

    While `preparing` says that no episode can run yet, and where there are none at all, only
    `PreparingDisplay` has something to show.
    """

    def __init__(self, total: int, console: Console, preparing: Callable[[], bool]) -> None:
        self.tally = Tally(total)
        self._console = console
        self._silent = lambda: total == 0 or preparing()
        self._live = console.is_terminal
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._last_line = time.monotonic()
        self._tried: set[str] = set()  # episodes that failed and are to be tried again
        self._marks: list[tuple[float, int, int]] = [(time.monotonic(), 0, 0)]

    def __enter__(self) -> ProgressDisplay:
        if self._live:
            self._bar = bars(self._console)
            self._task = self._bar.add_task(
                "episodes", total=self.tally.total, status="starting", visible=not self._silent()
            )
            self._bar.start()
        return self

    def preparing(self) -> PreparingDisplay:
        """A display of artifacts beside this one."""
        return PreparingDisplay(self._console, self._bar)

    def __exit__(self, *_: Any) -> None:
        self.tally.ended = time.monotonic()
        self._count_what_was_not_tried_again()
        if self._bar is not None:
            self._show()
            self._bar.stop()

    def settled(self, settled: Settled, final: bool) -> None:
        tally = self.tally
        if not final:
            tally.tried_again += 1
            self._tried.add(settled.ref.id)
            return
        self._tried.discard(settled.ref.id)
        tally.settled += 1
        tally.failed += settled.status == "failed"
        tally.open += settled.status == "failed" and settled.blame not in WOULD_REPEAT

    def _count_what_was_not_tried_again(self) -> None:
        """A run that stops early leaves episodes on a failed try, and readers count them so."""
        count, tally = len(self._tried), self.tally
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
        self.tally.workers_lost += 1
        self._console.print(
            f"worker {worker} was lost; its open episodes run again", style="yellow"
        )

    def _show(self) -> None:
        now, silent = time.monotonic(), self._silent()
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, visible=not silent)
        if silent:  # rates and lines begin with the episodes
            self._marks, self._last_line = [(now, self.tally.settled, self.tally.counts.calls)], now
            return
        self._marks.append((now, self.tally.settled, self.tally.counts.calls))
        while len(self._marks) > 2 and now - self._marks[0][0] > _WINDOW:
            self._marks.pop(0)
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self.tally.settled, status=self._status())
        elif now - self._last_line >= _LINE_EVERY:
            self._last_line = now
            self._console.print(
                f"episodes {self.tally.settled}/{self.tally.total}, {self._status()}",
                soft_wrap=True,
            )

    def _status(self) -> str:
        (then, episodes, calls), (now, *_) = self._marks[0], self._marks[-1]
        tally = self.tally
        passed = max(now - then, 1e-6)
        calls_a_second = (tally.counts.calls - calls) / passed
        episodes_a_second = (tally.settled - episodes) / passed
        left = "?"
        if episodes_a_second > 0:
            left = duration((tally.total - tally.settled) / episodes_a_second)
        return (
            f"{tally.failed} failed, {_rate(calls_a_second)}, "
            f"{short(tally.counts.tokens)} tokens, {left} left"
        )


def _rate(calls_a_second: float) -> str:
    """`0.2 calls/s` of a slow model: not 0."""
    digits = 1 if 0 < calls_a_second < 10 else 0
    return f"{calls_a_second:,.{digits}f} calls/s"


def token_words(tokens: int, uncounted: int) -> str:
    """`40 tokens`, a lower bound where `uncounted` replies came without counts."""
    if not uncounted:
        return f"{tokens:,} tokens"
    replies = "1 reply" if uncounted == 1 else f"{uncounted:,} replies"
    return f"at least {tokens:,} tokens ({replies} have no token counts)"
