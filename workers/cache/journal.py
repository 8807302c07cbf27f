"""The journal of a sweep: every completed call, on disk before its reply is used.

It lies in the sweep's folder, which outlives the machines of a run. Each writer appends to a file
of its own and touches no other, so a stray one does no harm, whichever machine it is on. A record
is whole or, after a crash, the last of its file and cut off; every one has a checksum.
"""

from __future__ import annotations

import logging
import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

from agents.core.errors import StoreError
from workers.cache.entries import KEY, SUM, checksum

log = logging.getLogger(__name__)

FOLDER = "journal"
SUFFIX = ".calls"
_HEAD = struct.Struct(f"<I{KEY}s{SUM}s")
_LARGEST = 1 << 30  # bytes of a record: a longer one is damage

Entry = tuple[bytes, bytes]
"""A request's key, and its encoded reply."""


class Journal:
    """One file that one process appends to."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise StoreError(f"cannot write {path}: {error.strerror or error}") from error

    def append(self, entries: Sequence[Entry]) -> None:
        """Writes entries; they are durable when it returns. Raises StoreError."""
        parts = []
        for key, data in entries:
            parts += (_HEAD.pack(len(data), key, checksum(key, data)), data)
        record = memoryview(b"".join(parts))
        try:
            while record:
                record = record[os.write(self._file, record) :]
            os.fdatasync(self._file)
        except OSError as error:
            raise StoreError(f"cannot write {self._path}: {error.strerror or error}") from error

    def close(self) -> None:
        os.close(self._file)


def files(folder: Path) -> list[Path]:
    """The journals of a sweep's folder, in the order of their names."""
    return sorted((folder / FOLDER).glob(f"*{SUFFIX}"))


def read(path: Path) -> Iterator[Entry]:
    """The whole entries of one journal. Damage is skipped, and told in the log."""
    with path.open("rb") as file:
        while head := file.read(_HEAD.size):
            if len(head) < _HEAD.size:
                return  # cut off by a crash: its reply was never used
            length, key, expected = _HEAD.unpack(head)
            data = file.read(length) if length <= _LARGEST else b""
            if len(data) < length or length > _LARGEST:
                rest = path.stat().st_size - file.tell()
                if rest:
                    log.warning("%s: the last %d bytes are no entries", path, rest)
                return
            if checksum(key, data) != expected:
                log.warning("%s: an entry that ends at byte %d is damaged", path, file.tell())
                continue
            yield key, data
