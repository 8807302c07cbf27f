"""What the screen counts is what the folder holds."""

import io

from rich.console import Console

from agents.core.seeds import Seeds
from runner.progress import ProgressDisplay
from sweeps.plan import Ref
from workers.pool import Settled


def settled(name, status="failed", blame="infrastructure", attempt=0):
    ref = Ref(name, 0, Seeds(0, 0, 0), "case", attempt)
    return Settled(ref, status, blame if status == "failed" else None, "EngineDead", "x")


def test_a_failed_try_whose_retry_was_not_run_counts_as_a_failed_episode():
    with ProgressDisplay(5, Console(file=io.StringIO())) as display:
        display.settled(settled("a"), False)
        display.settled(settled("b"), False)
        display.settled(settled("c"), False)
        display.settled(settled("a", "done", attempt=1), True)
        display.settled(settled("b", attempt=1), True)
        display.settled(settled("d", blame="agent"), True)
        assert display.tally.tried_again == 3
    tally = display.tally
    assert (tally.settled, tally.failed, tally.open, tally.tried_again) == (4, 3, 2, 2)
