"""What a run shows while it is running."""

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from agents.core.seeds import Seeds
from runner.driver import progress
from runner.driver.progress import ProgressDisplay
from sweeps.episodes import episode_task
from sweeps.storage.records import EPISODE
from sweeps.tasks import Outcome
from workers.core.usage import CallCounts
from workers.executors.pool import Report

NEWS = Report([], CallCounts(3, tokens=40), running={EPISODE: 1}, waiting=0)
DONE = Outcome(episode_task("e0", 0, Seeds(0, 0, 0), "u0"), "done")


def shown(monkeypatch, *, total=2, terminal=False, preparing):
    """The lines shown, where each of `preparing` says whether artifacts are made at a report."""
    monkeypatch.setattr(progress, "_LINE_EVERY", 0.0)
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=100)
    answers = iter(preparing)
    now = [next(answers)]
    with ProgressDisplay({EPISODE: total}, console, lambda: now[0]) as display:
        display.settled(DONE, True)
        display.counted("w000", NEWS)
        for now[0] in answers:
            display.counted("w000", NEWS)
    return text.getvalue()


def test_lines_of_episodes_begin_when_nothing_is_prepared_any_more(monkeypatch):
    assert "episodes" not in shown(monkeypatch, preparing=[True, True])
    lines = shown(monkeypatch, preparing=[True, True, False, False]).splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("episodes 1/2, 0 failed, ")


def test_calls_that_prepared_something_do_not_count_into_the_first_rate(monkeypatch):
    clock = SimpleNamespace(monotonic=iter(range(100)).__next__)
    monkeypatch.setattr(progress, "time", clock)
    [line] = shown(monkeypatch, preparing=[True] * 30 + [False]).splitlines()
    calls_a_second = float(line.split(" failed, ")[1].split()[0])
    assert calls_a_second <= 3


def test_a_bar_of_episodes_is_there_only_when_they_run(monkeypatch):
    assert "episodes" not in shown(monkeypatch, terminal=True, preparing=[True, True])
    assert "episodes" in shown(monkeypatch, terminal=True, preparing=[True, False])


def test_a_run_without_episodes_shows_none(monkeypatch):
    for terminal in (False, True):
        assert "episodes" not in shown(
            monkeypatch, total=0, terminal=terminal, preparing=[False, False]
        )


@pytest.mark.parametrize(
    ("counts", "shown"),
    [
        (CallCounts(), "0 calls/s, 0 tokens"),
        (CallCounts(3, tokens=40), "0.3 calls/s, 40 tokens"),
        (CallCounts(1200, tokens=90_000), "120 calls/s, 90.0k tokens"),
    ],
)
def test_calls_are_shown_while_no_episode_has_ended(monkeypatch, counts, shown):
    monkeypatch.setattr(progress, "_LINE_EVERY", 0.0)
    clock = [0.0]
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    console = Console(file=io.StringIO(), width=100)
    with ProgressDisplay({EPISODE: 2}, console, lambda: False) as display:
        clock[0] = 10.0
        display.counted("w000", Report([], counts, running={EPISODE: 2}, waiting=0))
    assert f"episodes 0/2, 0 failed, {shown}, ? left" in console.file.getvalue()


@pytest.mark.parametrize(
    ("uncounted", "words"),
    [
        (0, "1,200 tokens"),
        (1, "at least 1,200 tokens (1 reply without token counts)"),
        (2000, "at least 1,200 tokens (2,000 replies without token counts)"),
    ],
)
def test_a_sum_of_tokens_is_a_lower_bound_where_replies_have_no_counts(uncounted, words):
    assert progress.token_words(1200, uncounted) == words


def settled(name, status="failed", blame="infrastructure", attempt=0):
    task = episode_task(name, 0, Seeds(0, 0, 0), "case")._replace(attempt=attempt)
    return Outcome(task, status, blame if status == "failed" else None, "EngineDead", "x")


def test_a_failed_try_whose_retry_was_not_run_counts_as_a_failed_episode():
    """What the screen counts is what the folder holds."""
    console = Console(file=io.StringIO())
    with ProgressDisplay({EPISODE: 5}, console, lambda: False) as display:
        display.settled(settled("a"), False)
        display.settled(settled("b"), False)
        display.settled(settled("c"), False)
        display.settled(settled("a", "done", attempt=1), True)
        display.settled(settled("b", attempt=1), True)
        display.settled(settled("d", blame="agent"), True)
        assert display.tally.kinds[EPISODE].tried_again == 3
    tally = display.tally.kinds[EPISODE]
    assert (tally.settled, tally.failed, tally.open, tally.tried_again) == (4, 3, 2, 2)
