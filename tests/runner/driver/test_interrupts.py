"""Signals to a driver: the first lets it commit, a second one ends it."""

import asyncio
import io
import os
import signal
from types import SimpleNamespace

import pytest
from rich.console import Console

from runner.driver import execution
from runner.driver.execution import _Interrupts


def interrupted(*signals: int) -> bool:
    """Whether a driver was asked to stop by these signals, one right after the other."""
    console = Console(file=io.StringIO())
    session = SimpleNamespace(
        lease=SimpleNamespace(when_lost=None), console=console, work=SimpleNamespace(noun="episode")
    )

    async def main() -> bool:
        interrupts = _Interrupts(session)  # type: ignore[arg-type]
        try:
            for number in signals:
                os.kill(os.getpid(), number)
                await asyncio.sleep(0.01)
            return interrupts.stopping.is_set()
        finally:
            interrupts.ignore()

    return asyncio.run(main())


def test_sigterm_from_several_senders_at_once_is_one_request():
    assert interrupted(signal.SIGTERM, signal.SIGTERM, signal.SIGTERM)
    assert interrupted(signal.SIGINT, signal.SIGTERM)


def test_a_second_ctrl_c_and_a_later_sigterm_end_it(monkeypatch):
    with pytest.raises(KeyboardInterrupt):
        interrupted(signal.SIGINT, signal.SIGINT)
    monkeypatch.setattr(execution, "_ONE_SIGNAL_SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt):
        interrupted(signal.SIGTERM, signal.SIGTERM)
