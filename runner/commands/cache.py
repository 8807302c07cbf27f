"""`crsweep cache`: maintains the call cache that sweeps share."""

from __future__ import annotations

import re
import time
from pathlib import Path

from rich.console import Console

from agents.core.errors import UsageError
from agents.core.plural import many
from runner.core.locations import cache_line, call_cache_folder, mib
from workers.cache import segments

_UNITS = {"h": 3600, "d": 24 * 3600, "w": 7 * 24 * 3600}


def seconds_of(text: str) -> int:
    """Converts a duration such as `30d` into seconds. Raises UsageError."""
    found = re.fullmatch(r"(\d{1,9})([hdw])", text.strip())  # longer than there are calls
    if found is None:
        raise UsageError(f"--keep {text}: expected a number of hours, days or weeks: 12h, 30d, 2w")
    return int(found[1]) * _UNITS[found[2]]


def prune(keep: str, path: str | None, console: Console) -> None:
    """Deletes calls older than `keep`, and prints how much was deleted."""
    before = time.time() - seconds_of(keep)
    folder = _existing(path)
    bytes_before = segments.size(folder)[1]
    dropped = segments.prune(folder, before)
    freed = bytes_before - segments.size(folder)[1]
    console.print(
        f"{folder}: {many(dropped, 'call')} dropped, {mib(freed)} freed; now {cache_line(folder)}",
        markup=False,
        soft_wrap=True,
    )


def verify(path: str | None, console: Console) -> bool:
    """Reads all files and prints a line for each damaged one. Returns whether all are intact."""
    folder = _existing(path)
    entries = files = damaged = 0
    for health in segments.verify(folder):
        files += 1
        entries += health.entries
        faults = [health.fault] if health.fault else []
        if health.damaged:
            faults.insert(0, f"{health.damaged:,} of {health.entries:,} calls are damaged")
        if faults:
            damaged += 1
            console.print(f"{health.path}: {'; '.join(faults)}", markup=False, soft_wrap=True)
    found = f"{many(damaged, 'file')} damaged" if damaged else "all intact"
    console.print(
        f"{folder}: {many(entries, 'call')} read in {many(files, 'file')}, {found}",
        markup=False,
        soft_wrap=True,
    )
    return not damaged


def _existing(path: str | None) -> Path:
    folder = call_cache_folder(path)
    if not folder.is_dir():
        found = "found a file" if folder.exists() else "found nothing"
        raise UsageError(f"{folder}: expected the folder of a call cache, {found}")
    return folder
