"""Sweep files with a mistake, and what is said about it."""

from pathlib import Path

import pytest

from agents.core.errors import CrsweepError
from tests.sweep_files import plan_of, write_sweep

OPENAI = {
    "backend": "openai",
    "base_url": "http://127.0.0.1:9/v1",
    "model": "m",
    "extra_body": {"top_k": "here"},
}
"""A model with an option that has no type."""


def refused(path: Path, *overrides: str) -> str:
    """The message that the sweep is refused with."""
    with pytest.raises(CrsweepError) as caught:
        plan_of(path, *overrides)
    message = caught.value.message
    assert "\n" not in message
    return message


def line_of(path: Path, text: str) -> int:
    """The number of the first line that contains `text`."""
    return next(i for i, line in enumerate(path.read_text().splitlines(), 1) if text in line)


def edited(folder: Path, old: str, new: str) -> Path:
    """The small sweep with `old` replaced by `new` in its text."""
    path = write_sweep(folder)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    return path
