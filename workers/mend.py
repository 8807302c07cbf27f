"""What a driver does about damaged parts before it runs what is left.

1. A part that is no whole Parquet file (truncated, empty, something else) is set aside as
   `<name>.damaged`. Nobody can tell which episodes it held; what it committed is run again.
2. An attempt that lost turns or calls with such a part is no longer committed: readers would find
   an episode without its dialogue. Its row goes, and its episode is run again.
3. The rows go first. A driver that is killed in between is followed by one that finds the damage.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import pyarrow.compute as pc

from sweeps import parts
from sweeps.folder import Folder
from sweeps.records import SCHEMAS
from workers.compaction import Right, rewrite
from workers.store import read_columns


class Mended(NamedTuple):
    """What was set aside, and how many attempts are no longer committed for that."""

    damaged: list[str]
    uncommitted: int


def mend(folder: Folder, right: Right) -> Mended:
    """Sets damaged parts aside. StoreError for a part that is whole but not ours."""
    damaged = [name for table in SCHEMAS for name in parts.damaged(folder, table)]
    uncommitted = 0
    if any(name.startswith(("turns/", "calls/")) for name in damaged):
        uncommitted = _uncommit(folder, right, damaged)
    for name in damaged:
        folder.rename(name, name + parts.DAMAGED)
    return Mended(damaged, uncommitted)


def _uncommit(folder: Folder, right: Right, damaged: Collection[str]) -> int:
    """Takes back the commits of attempts whose turns or calls are not all there; how many."""
    turns = _counts(folder, "turns", damaged)
    calls = _counts(folder, "calls", damaged)
    count = 0
    for name in parts.live(folder, "episodes", without=damaged):
        rows = read_columns(folder, name, ["attempt_id", "status", "turns", "calls"]).to_pylist()
        lost = [
            row["attempt_id"]
            for row in rows
            # A dialogue that is done has an opening, which is turn 0.
            if turns.get(row["attempt_id"], 0) < row["turns"] + (row["status"] == "done")
            or calls.get(row["attempt_id"], 0) < row["calls"]
        ]
        if lost:
            rewrite(folder, "episodes", [name], right, without=lost)
            count += len(lost)
    return count


def _counts(folder: Folder, table: str, damaged: Collection[str]) -> dict[str, int]:
    """Attempt -> how many rows of `table` it has."""
    found: dict[str, int] = {}
    for name in parts.live(folder, table, without=damaged):
        column = read_columns(folder, name, ["attempt_id"])["attempt_id"]
        for entry in pc.value_counts(column).to_pylist():  # type: ignore[attr-defined]
            found[entry["values"]] = found.get(entry["values"], 0) + entry["counts"]
    return found
