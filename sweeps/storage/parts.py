"""The Parquet parts of a sweep folder: their names, and which of them count.

- A part is `<table>/<epoch>-<writer>-<number>.parquet`. A file with such a name is complete.
- A compacted file (`<table>/compact-<epoch>-<number>.parquet`) lists in its footer, under
  `REPLACES`, the parts that it replaces, directly or indirectly; readers skip those.
- Pages have checksums, which are verified here; files of earlier versions have none.
- A damaged file is set aside as `<name>.damaged`, which is never read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import pyarrow as pa
import pyarrow.parquet as pq

from agents.core.errors import StoreError
from sweeps.storage import folder as folders
from sweeps.storage.folder import Folder
from sweeps.storage.records import READABLE, SCHEMA_VERSION, SCHEMAS

SUFFIX = ".parquet"
COMPACT = "compact-"
DAMAGED = ".damaged"
REPLACES = "crsweep.replaces"
_VERSION = b"crsweep.schema_version"
_EPOCH = re.compile(rf"(?:{COMPACT})?(\d{{6}})-")


# Arrow raises these for unreadable bytes. It is an OSError too if the bytes cannot be fetched.
_READ_ERRORS = (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError)


class PartForeign(StoreError):
    """Intact parts that this crsweep would not have written; they are left alone."""


class PartDamaged(StoreError):
    """A part that is not a complete Parquet file, or whose pages are not what was written."""

    def __init__(self, folder: Folder, name: str, found: str) -> None:
        super().__init__(f"{folder}/{name} {found}")
        self.name = name


def live(
    folder: Folder,
    table: str,
    without: Collection[str] = (),
    known: dict[str, list[str]] | None = None,
) -> list[str]:
    """The parts of `table` that count, as `<table>/<name>`, sorted; empty if there are none.

    Listing a folder takes several steps. It is repeated if a compacted file appeared or a part
    vanished in the meantime; otherwise it could miss both the new file and the parts it replaced.
    Parts in `without` are ignored. `known` caches what compacted files replace, by name, so that
    footers are read only once.
    """
    found = _listed(folder, table)
    while True:
        again = _listed(folder, table)
        new = set(again) - set(found)
        if set(found) <= set(again) and not any(n.startswith(COMPACT) for n in new):
            try:
                whole = [name for name in again if f"{table}/{name}" not in without]
                replaced = set().union(*_replaced(folder, table, whole, known).values())
                return [f"{table}/{name}" for name in whole if name not in replaced]
            except FileNotFoundError:
                again = _listed(folder, table)
        found = again


def replaced(folder: Folder, table: str) -> list[str]:
    """The parts of `table` that a compacted file replaces and that still exist."""
    found = _listed(folder, table)
    names = set().union(*_replaced(folder, table, found).values())
    return [f"{table}/{name}" for name in found if name in names]


def footer_of(folder: Folder, name: str) -> Mapping[bytes, bytes]:
    """Key-value metadata of a part. Raises PartDamaged, PartForeign, StoreError."""
    with reading(folder, name) as file:
        metadata = file.metadata.metadata or {}
    # Footers have no checksums, so they may contain anything.
    version = metadata.get(_VERSION, b"none").decode("utf-8", "replace")
    if version not in map(str, READABLE):
        raise PartForeign(
            f"{folder}/{name} has schema version {version}; this crsweep reads and writes "
            f"{SCHEMA_VERSION}: move it elsewhere"
        )
    return metadata


@contextmanager
def reading(folder: Folder, name: str) -> Iterator[pq.ParquetFile]:
    """An open part. Raises PartDamaged if the block reads bytes other than those written.

    Raises StoreError if a disk or network fails; to distinguish the two, the bytes are fetched once
    more. Raises FileNotFoundError.
    """
    try:
        with folder.open(name) as file:
            yield pq.ParquetFile(file, page_checksum_verification=True)
    except FileNotFoundError:
        raise
    except _READ_ERRORS as error:
        check_whole(folder, name)
        raise _unreadable(folder, name, error) from error


def check_whole(folder: Folder, name: str) -> None:
    """Reads all of a part. Raises PartDamaged, and StoreError if its bytes cannot be fetched."""
    try:
        content = pa.BufferReader(folders.read(folder, name))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _unreadable(folder, name, error) from error
    try:
        file = pq.ParquetFile(content, page_checksum_verification=True)
    except _READ_ERRORS as error:
        raise _not_whole(folder, name, error) from None
    try:
        for index in range(file.num_row_groups):
            file.read_row_group(index).validate(full=True)
    except _READ_ERRORS as error:
        base = name.rpartition("/")[2]
        raise PartDamaged(
            folder,
            name,
            f"is damaged ({error}); rename it to {base}{DAMAGED}, and the next `crsweep run` "
            "runs its episodes again",
        ) from None


def _not_whole(folder: Folder, name: str, error: Exception) -> PartDamaged:
    return PartDamaged(
        folder,
        name,
        f"is not a whole Parquet file ({error}); the next `crsweep run` sets it aside and "
        "runs its episodes again",
    )


def _unreadable(folder: Folder, name: str, error: Exception) -> StoreError:
    reason = getattr(error, "strerror", None) or error
    return StoreError(f"{folder}/{name} cannot be read: {reason}")


def replaced_by(folder: Folder, name: str) -> list[str]:
    """Names of the parts that a part replaces. Raises the same errors as `footer_of`."""
    try:
        return list(map(str, json.loads(footer_of(folder, name).get(REPLACES.encode(), b"[]"))))
    except (ValueError, TypeError) as error:
        raise _not_whole(folder, name, error) from None


def check(folder: Folder, table: str, *, pages: bool) -> None:
    """Checks every part of `table`, including all pages if `pages`.

    Raises StoreError for the first that is damaged or not ours.
    """
    for name in _listed(folder, table):
        with suppress(FileNotFoundError):  # a driver has merged it meanwhile
            replaced_by(folder, f"{table}/{name}")
            if pages:
                check_whole(folder, f"{table}/{name}")


def bundles(folder: Folder, table: str) -> dict[str, set[str] | None]:
    """Part of `table` -> ids of the bundles that its rows may belong to; None if it is damaged.

    Raises PartForeign and StoreError. Reads only names and footers.
    """

    def found(name: str) -> set[str] | None:
        try:
            merged = replaced_by(folder, name)
        except PartDamaged:
            return None
        return {part.removesuffix(SUFFIX) for part in (name.partition("/")[2], *merged)}

    names = [f"{table}/{name}" for name in _listed(folder, table)]
    # Footers are small, but slow to fetch from an object store.
    with ThreadPoolExecutor(max_workers=8) as pool:
        return dict(zip(names, pool.map(found, names), strict=True))


def last_epoch(folder: Folder) -> int:
    """The highest epoch in the name of any part, including damaged ones; 0 if there is none."""
    names = [name for table in SCHEMAS for name in folder.names(table)]
    return max((int(m[1]) for m in map(_EPOCH.match, names) if m), default=0)


def concatenated(tables: Iterable[pa.Table]) -> pa.Table:
    """The rows of all `tables`, of one schema, with one dictionary for each encoded column."""
    return pa.concat_tables(tables).unify_dictionaries()


def is_compacted(name: str) -> bool:
    return name.rpartition("/")[2].startswith(COMPACT)


def epoch_of(name: str) -> int | None:
    """The epoch of the driver whose process wrote the part."""
    found = _EPOCH.match(name.rpartition("/")[2])
    return int(found[1]) if found else None


def _listed(folder: Folder, table: str) -> list[str]:
    return [name for name in folder.names(table) if name.endswith(SUFFIX)]


def _replaced(
    folder: Folder, table: str, names: list[str], known: dict[str, list[str]] | None = None
) -> dict[str, set[str]]:
    """Compacted file -> the names that it hides.

    Two files can replace the same rows only if two drivers ran at once on an object store, one of
    which was suspended for longer than its lease lasts. The file that replaces everything the other
    does hides it. If neither does, refusing is better than counting rows twice.
    """
    known = {} if known is None else known
    compacted = [name for name in names if name.startswith(COMPACT)]
    for name in compacted:
        if name not in known:
            known[name] = replaced_by(folder, f"{table}/{name}")
    merged = {name: set(known[name]) for name in compacted}
    hides = {name: set(found) for name, found in merged.items()}
    owner: dict[str, str] = {}
    for name in sorted(merged, key=lambda n: (-len(merged[n]), n)):
        for other in {owner[part] for part in merged[name] if part in owner}:
            if not merged[name] <= merged[other]:
                raise PartForeign(
                    f"{folder}/{table}: {other} and {name} hold the same rows; rename one to "
                    f"end in {DAMAGED}, and run the sweep again for what only that one held"
                )
            hides[other].add(name)
        owner.update(dict.fromkeys(merged[name], name))
    return hides
