"""What a driver does about damaged parts before it runs what is left.

1. A part that is no whole Parquet file (truncated, empty, something else) is set aside as
   `<name>.damaged`. Nobody can tell which episodes it held; what it committed is run again. So is
   a part with damaged pages, but to read every page takes too long: it is found where it is read.
2. An attempt that lost turns or calls with such a part, or with one that is gone, is no longer
   committed: readers would find an episode without its dialogue. Its row goes, and its episode is
   run again. Rows are counted only if a part is damaged, or if names and footers show no part
   for a bundle.
3. The rows go first. A driver that is killed in between is followed by one that finds the damage.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

import pyarrow.compute as pc

from sweeps.storage import parts
from sweeps.storage.folder import Folder
from sweeps.storage.parts import PartDamaged
from workers.results.bundles import ORDER, read_columns
from workers.results.compaction import Right, rewrite


class Mended(NamedTuple):
    """What was set aside, and how many attempts are no longer committed for that."""

    damaged: list[str]
    uncommitted: int


def mend(folder: Folder, right: Right, known: Collection[str] = ()) -> Mended:
    """Sets damaged parts aside, those that are `known` for it too.

    StoreError for a part that is whole but not ours.
    """
    # Episodes first: whoever commits one meanwhile has written its turns and calls before.
    found = {table: parts.bundles(folder, table) for table in reversed(ORDER)}
    found["cases"] = parts.bundles(folder, "cases")
    damaged = [name for there in found.values() for name, ids in there.items() if ids is None]
    damaged += [name for name in known if name not in damaged]
    damaged += list(_cases(folder, damaged))
    uncommitted, lost = 0, False
    while True:
        try:
            lost = lost or any(name.startswith(("turns/", "calls/")) for name in damaged)
            lost = lost or _gone(folder, found, damaged)
            if not lost:
                break
            for count in _uncommit(folder, right, damaged):
                uncommitted += count
            break
        except PartDamaged as error:
            damaged.append(error.name)
    for name in damaged:
        folder.rename(name, name + parts.DAMAGED)
    return Mended(damaged, uncommitted)


def _gone(
    folder: Folder, found: Mapping[str, Mapping[str, set[str] | None]], damaged: Collection[str]
) -> bool:
    """Whether there are episodes with turns, or with calls, and no part with those of their bundle.

    `found` is table -> part -> bundles.
    """
    there = {table: set().union(*(ids or () for ids in found[table].values())) for table in ORDER}
    for name, ids in found["episodes"].items():
        without_turns, without_calls = (
            (ids or set()) - there["turns"],
            (ids or set()) - there["calls"],
        )
        if name in damaged or not (without_turns or without_calls):
            continue
        rows = read_columns(folder, name, ["bundle_id", "status", "turns", "calls"]).to_pylist()
        if any(
            (_turns(row) and row["bundle_id"] in without_turns)
            or (row["calls"] and row["bundle_id"] in without_calls)
            for row in rows
        ):
            return True
    return False


def _turns(row: Mapping[str, Any]) -> int:
    """Rows of `turns` that an attempt must have. One that is done has an opening, its turn 0."""
    return row["turns"] + (row["status"] == "done")


def _cases(folder: Folder, damaged: Collection[str]) -> Iterator[str]:
    """Parts of `cases` with damaged pages: few and small, and no run reads them elsewhere."""
    for name in parts.live(folder, "cases", without=damaged):
        try:
            parts.check_whole(folder, name)
        except PartDamaged:
            yield name


def _uncommit(folder: Folder, right: Right, damaged: Collection[str]) -> Iterator[int]:
    """Takes back the commits of attempts whose turns or calls are not all there.

    Yields how many, part by part.
    """
    turns = _counts(folder, "turns", damaged)
    calls = _counts(folder, "calls", damaged)
    for name in parts.live(folder, "episodes", without=damaged):
        rows = read_columns(folder, name, ["attempt_id", "status", "turns", "calls"]).to_pylist()
        lost = [
            row["attempt_id"]
            for row in rows
            if turns.get(row["attempt_id"], 0) < _turns(row)
            or calls.get(row["attempt_id"], 0) < row["calls"]
        ]
        if lost:
            rewrite(folder, "episodes", [name], right, without=lost)
            yield len(lost)


def _counts(folder: Folder, table: str, damaged: Collection[str]) -> dict[str, int]:
    """Attempt -> how many rows of `table` it has."""
    found: dict[str, int] = {}
    for name in parts.live(folder, table, without=damaged):
        column = read_columns(folder, name, ["attempt_id"])["attempt_id"]
        for entry in pc.value_counts(column).to_pylist():  # type: ignore[attr-defined]
            found[entry["values"]] = found.get(entry["values"], 0) + entry["counts"]
    return found
