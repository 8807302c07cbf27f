"""The Parquet parts of a sweep folder: their names, and which of them count.

- A part is `<table>/<epoch>-<writer>-<number>.parquet`. A name that is there is a whole file.
- A compacted file (`<table>/compact-<epoch>-<number>.parquet`) names in its footer, under
  `REPLACES`, the parts it was made of, and those that they were made of; readers skip those.
- A damaged file is set aside as `<name>.damaged`, which nobody reads.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq

from agents.core.errors import StoreError
from sweeps.folder import Folder
from sweeps.records import READABLE, SCHEMA_VERSION, SCHEMAS

SUFFIX = ".parquet"
COMPACT = "compact-"
DAMAGED = ".damaged"
REPLACES = "crsweep.replaces"
_VERSION = b"crsweep.schema_version"
_EPOCH = re.compile(rf"(?:{COMPACT})?(\d{{6}})-")


class NotWhole(StoreError):
    """A part that is no whole Parquet file: truncated, empty, or something else."""


def live(folder: Folder, table: str, without: Collection[str] = ()) -> list[str]:
    """The parts of `table` that count, as `<table>/<name>`, sorted; empty if there are none.

    Listing a folder is no single step. Where a compacted file came or a part went meanwhile, it is
    done again: else it could miss the new file and the parts that it replaced. Parts in `without`
    are taken for not there.
    """
    found = _listed(folder, table)
    while True:
        again = _listed(folder, table)
        new = set(again) - set(found)
        if set(found) <= set(again) and not any(n.startswith(COMPACT) for n in new):
            try:
                whole = [name for name in again if f"{table}/{name}" not in without]
                replaced = set().union(*_replaced(folder, table, whole).values())
                return [f"{table}/{name}" for name in whole if name not in replaced]
            except FileNotFoundError:
                again = _listed(folder, table)
        found = again


def replaced(folder: Folder, table: str) -> list[str]:
    """The parts of `table` that a compacted file stands for and that are still there."""
    found = _listed(folder, table)
    names = set().union(*_replaced(folder, table, found).values())
    return [f"{table}/{name}" for name in found if name in names]


def footer_of(folder: Folder, name: str) -> Mapping[bytes, bytes]:
    """Key-value metadata of a part. NotWhole if it is damaged, StoreError if it is not ours."""
    try:
        with folder.open(name) as file:
            metadata = pq.read_metadata(file).metadata or {}
    except FileNotFoundError:
        raise
    except (pa.ArrowInvalid, OSError) as error:
        raise NotWhole(
            f"{folder}/{name} is not a whole Parquet file ({error}); the next `crsweep run` sets "
            "it aside and runs its episodes again"
        ) from None
    version = metadata.get(_VERSION, b"none").decode()
    if version not in map(str, READABLE):
        raise StoreError(
            f"{folder}/{name} has schema version {version}; this crsweep reads and writes "
            f"{SCHEMA_VERSION}: move it elsewhere"
        )
    return metadata


def replaced_by(footer: Mapping[bytes, bytes]) -> list[str]:
    """Names of the parts that a file with this footer stands for."""
    return json.loads(footer.get(REPLACES.encode(), b"[]"))


def check(folder: Folder, table: str) -> None:
    """Looks at every part of `table`. StoreError for the first that is damaged or not ours."""
    for name in _listed(folder, table):
        footer_of(folder, f"{table}/{name}")


def damaged(folder: Folder, table: str) -> list[str]:
    """The parts of `table` that are no whole files. StoreError for one that is not ours."""

    def is_damaged(name: str) -> bool:
        try:
            footer_of(folder, name)
        except NotWhole:
            return True
        return False

    names = [f"{table}/{name}" for name in _listed(folder, table)]
    # Footers are small, and on an object store far away.
    with ThreadPoolExecutor(max_workers=8) as pool:
        return [name for name, yes in zip(names, pool.map(is_damaged, names), strict=True) if yes]


def last_epoch(folder: Folder) -> int:
    """The highest epoch in the name of any part, damaged ones too; 0 if there is none."""
    names = [name for table in SCHEMAS for name in folder.names(table)]
    return max((int(m[1]) for m in map(_EPOCH.match, names) if m), default=0)


def is_compacted(name: str) -> bool:
    return name.rpartition("/")[2].startswith(COMPACT)


def epoch_of(name: str) -> int | None:
    """The epoch of the driver whose process wrote the part."""
    found = _EPOCH.match(name.rpartition("/")[2])
    return int(found[1]) if found else None


def _listed(folder: Folder, table: str) -> list[str]:
    return [name for name in folder.names(table) if name.endswith(SUFFIX)]


def _replaced(folder: Folder, table: str, names: list[str]) -> dict[str, set[str]]:
    """Compacted file -> the names that it hides.

    Two that stand for the same rows take two drivers at once on an object store, one of which was
    stopped for longer than its lease lasts. The one that stands for all that the other does hides
    it; where neither does, to refuse is better than to count rows twice.
    """
    stands_for = {
        name: set(replaced_by(footer_of(folder, f"{table}/{name}")))
        for name in names
        if name.startswith(COMPACT)
    }
    hides = {name: set(found) for name, found in stands_for.items()}
    owner: dict[str, str] = {}
    for name in sorted(stands_for, key=lambda n: (-len(stands_for[n]), n)):
        for other in {owner[part] for part in stands_for[name] if part in owner}:
            if not stands_for[name] <= stands_for[other]:
                raise StoreError(
                    f"{folder}/{table}: {other} and {name} hold the same rows; rename one to "
                    f"end in {DAMAGED}, and run the sweep again for what only that one held"
                )
            hides[other].add(name)
        owner.update(dict.fromkeys(stands_for[name], name))
    return hides
