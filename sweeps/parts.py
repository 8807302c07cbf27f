"""The Parquet parts of a sweep folder: their names, and which of them count.

- A part is `<table>/<epoch>-<writer>-<number>.parquet`. Writers make it aside
  (`.<name>.tmp`) and rename it, so a name ending in `.parquet` is a whole file.
- A compacted file (`<table>/compact-...parquet`) names in its footer, under `REPLACES`, the
  parts it was made of; readers skip those.
"""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from agents.core.errors import StoreError
from sweeps.records import SCHEMA_VERSION

SUFFIX = ".parquet"
COMPACT = "compact-"
REPLACES = "crsweep.replaces"
_VERSION = b"crsweep.schema_version"


def live(folder: Path, table: str) -> list[Path]:
    """Paths of the parts of `table` that count, sorted by name; empty if there are none."""
    try:
        found = sorted(p for p in (folder / table).iterdir() if p.name.endswith(SUFFIX))
    except FileNotFoundError:
        return []
    found = [p for p in found if not p.name.startswith(".")]
    replaced: set[str] = set()
    for path in found:
        if path.name.startswith(COMPACT):
            footer = footer_of(path)
            replaced.update(json.loads(footer.get(REPLACES.encode(), b"[]")))
    return [p for p in found if p.name not in replaced]


def footer_of(path: Path) -> dict[bytes, bytes]:
    """Key-value metadata of one part; StoreError if it is truncated or of another version."""
    try:
        metadata = pq.read_metadata(path).metadata or {}
    except (pa.ArrowInvalid, OSError) as error:
        raise StoreError(f"{path} is not a whole Parquet file: {error}") from None
    version = metadata.get(_VERSION, b"none").decode()
    if version != str(SCHEMA_VERSION):
        raise StoreError(
            f"{path} has schema version {version}; this crsweep reads and writes {SCHEMA_VERSION}"
        )
    return metadata
