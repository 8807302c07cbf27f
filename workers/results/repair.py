"""Handles damaged parts before the driver runs what is left.

1. A part that is not a complete Parquet file (truncated, empty, something else) is set aside as
   `<name>.damaged`. It is unknown which attempts it held; what it committed is run again. The same
   applies to a part with damaged pages, but reading every page takes too long, so those are found
   when they are read.
2. If an attempt has lost rows that it needs (turns, calls), it must not stay committed: readers
   would find an episode without its dialogue. Its rows in the commit table are removed, and its
   task is run again. Rows are counted only if a part is damaged, or if names and footers show that
   a bundle has no part.
3. The rows are removed first. If the driver is killed in between, the next one finds the damage.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

import pyarrow.compute as pc

from sweeps.storage import parts, records
from sweeps.storage.folder import Folder
from sweeps.storage.parts import PartDamaged
from sweeps.storage.records import COMMITS, Commit, attempt_column
from workers.results.bundles import read_columns
from workers.results.compaction import WriteRight, rewrite


class Repaired(NamedTuple):
    """What was set aside, and how many attempts are no longer committed because of it, by kind."""

    damaged: list[str]
    uncommitted: Mapping[str, int]


def repair_folder(folder: Folder, right: WriteRight, known: Collection[str] = ()) -> Repaired:
    """Sets damaged parts aside, including those already `known`. Raises StoreError for an intact
    part that is not ours."""
    # Commits first: a commit made in the meantime was preceded by the rows it needs.
    found = {table: parts.bundles(folder, table) for table in reversed(records.tables())}
    found["cases"] = parts.bundles(folder, "cases")
    damaged = [name for there in found.values() for name, ids in there.items() if ids is None]
    damaged += [name for name in known if name not in damaged]
    damaged += list(_cases(folder, damaged))
    uncommitted: Counter[str] = Counter()
    while True:  # a part that one kind finds damaged may be needed by another
        try:
            for kind, commit in COMMITS.items():
                if _is_incomplete(folder, commit, found, damaged):
                    for count in _uncommit(folder, commit, right, damaged):
                        uncommitted[kind] += count
            break
        except PartDamaged as error:
            damaged.append(error.name)
    for name in damaged:
        folder.rename(name, name + parts.DAMAGED)
    return Repaired(damaged, uncommitted)


def _is_incomplete(
    folder: Folder,
    commit: Commit,
    found: Mapping[str, Mapping[str, set[str] | None]],
    damaged: Collection[str],
) -> bool:
    """Whether attempts may lack rows that they need.

    That is so if a part with such rows is damaged, or if their bundle has none. `found` is table ->
    part -> bundles.
    """
    needed = [need.table for need in commit.needs]
    if any(name.partition("/")[0] in needed for name in damaged):
        return True
    there = {
        need.table: set[str]().union(*(ids or () for ids in found[need.table].values()))
        for need in commit.needs
    }
    for name, ids in found[commit.table].items():
        lacking = {table: (ids or set()) - bundles for table, bundles in there.items()}
        if name in damaged or not any(lacking.values()):
            continue
        for row in _rows(folder, commit, name, "bundle_id"):
            if any(n.rows(row) and row["bundle_id"] in lacking[n.table] for n in commit.needs):
                return True
    return False


def _rows(folder: Folder, commit: Commit, name: str, *more: str) -> list[dict[str, Any]]:
    """The rows of a part of a commit table: the numbers of rows that they need, and
    `more` columns."""
    columns = dict.fromkeys([*more, *(c for need in commit.needs for c in need.columns)])
    return read_columns(folder, name, list(columns)).to_pylist()


def _cases(folder: Folder, damaged: Collection[str]) -> Iterator[str]:
    """Parts of `cases` with damaged pages. They are few and small, and runs do not read them
    elsewhere."""
    for name in parts.live(folder, "cases", without=damaged):
        try:
            parts.check_whole(folder, name)
        except PartDamaged:
            yield name


def _uncommit(
    folder: Folder, commit: Commit, right: WriteRight, damaged: Collection[str]
) -> Iterator[int]:
    """Takes back the commits of attempts that lack rows. Yields how many, part by part."""
    counts = {need.table: _counts(folder, need.table, damaged) for need in commit.needs}
    for name in parts.live(folder, commit.table, without=damaged):
        lost = dict.fromkeys(
            row[commit.attempt]
            for row in _rows(folder, commit, name, commit.attempt)
            if any(
                counts[need.table].get(row[commit.attempt], 0) < need.rows(row)
                for need in commit.needs
            )
        )
        if lost:
            rewrite(folder, commit.table, [name], right, without=list(lost))
            yield len(lost)


def _counts(folder: Folder, table: str, damaged: Collection[str]) -> dict[str, int]:
    """Attempt -> how many rows of `table` it has."""
    column, found = attempt_column(table), dict[str, int]()
    for name in parts.live(folder, table, without=damaged):
        attempts = read_columns(folder, name, [column])[column]
        for entry in pc.value_counts(attempts).to_pylist():  # type: ignore[attr-defined]
            found[entry["values"]] = found.get(entry["values"], 0) + entry["counts"]
    return found
