"""The journal of a sweep: every completed call, on disk before its reply is used.

It is in the sweep's folder, which outlives the machines of a run. (For a sweep in an object store,
it is in a local folder, which does not, or in `cache.journal`.) Each writer appends only to its own
file, so a stray one does no harm, whatever machine it is on.

After a crash, only the last record of a file can be incomplete. Every record has a checksum, and
begins with bytes that occur in no text, so that reading can resume after damage.
"""

from __future__ import annotations

import logging
import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from agents.core.errors import StoreError
from sweeps.storage.folder import flush
from workers.cache.entries import KEY, SUM, checksum

log = logging.getLogger(__name__)

FOLDER = "journal"
SUFFIX = ".calls"
_MARK = b"\xff\xc5\x9d\xfe"  # begins a record; no UTF-8 holds it
_HEAD = struct.Struct(f"<{len(_MARK)}sI{KEY}s{SUM}s")
_LARGEST = 1 << 30  # bytes of a record: a longer one is damage
_CHUNK = 1 << 20  # bytes that are searched at once for the next record

Entry = tuple[bytes, bytes]
"""A request's key, and its encoded reply."""


class Journal:
    """A file that one process appends to."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._broken: StoreError | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("xb", buffering=0)
            for folder in (path.parent, path.parent.parent):
                flush(folder)
        except OSError as error:
            raise StoreError(f"cannot write {path}: {error.strerror or error}") from error

    def append(self, entries: Sequence[Entry]) -> None:
        """Writes entries; they are durable when it returns. Raises StoreError.

        After one failure, every later call raises too: it is unknown what the failed write or flush
        has left behind.
        """
        if self._broken is not None:
            raise self._broken
        parts = []
        for key, data in entries:
            parts += (_HEAD.pack(_MARK, len(data), key, checksum(key, data)), data)
        record = memoryview(b"".join(parts))
        try:
            while record:
                record = record[os.write(self._file.fileno(), record) :]
            os.fdatasync(self._file.fileno())
        except OSError as error:
            self._broken = StoreError(f"cannot write {self._path}: {error.strerror or error}")
            raise self._broken from error

    def close(self) -> None:
        self._file.close()


def files(folder: Path) -> list[Path]:
    """The journals in a sweep's folder, the oldest first."""
    return sorted((folder / FOLDER).glob(f"*{SUFFIX}"))


def size(folder: Path) -> tuple[int, int]:
    """Number and bytes of the journals in a sweep's folder."""
    found = [path.stat().st_size for path in files(folder)]
    return len(found), sum(found)


def read(path: Path, damaged: set[Path] | None = None) -> Iterator[Entry]:
    """The intact entries of one journal. Everything else is skipped and logged.

    The file is added to `damaged` unless only the last record was cut off by a crash. Raises
    StoreError if the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            here = 0
            while True:
                if (entry := _next(file)) is not None:
                    yield entry
                    here = file.tell()
                    continue
                damage, here = here, _next_whole(file, here + 1)
                if here > damage:
                    log.warning(
                        "%s: the %d bytes at byte %d are not a complete entry",
                        path,
                        here - damage,
                        damage,
                    )
                end = file.seek(0, os.SEEK_END)
                cut_off = here == end and _cut_off(file, damage)
                if damaged is not None and here > damage and not cut_off:
                    damaged.add(path)
                if here == end:
                    return
                file.seek(here)
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror or error}") from error


def _next(file: BinaryIO) -> Entry | None:
    """The entry that begins at the current position; None if no intact one does."""
    head = file.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    mark, length, key, expected = _HEAD.unpack(head)
    if mark != _MARK or length > _LARGEST:
        return None
    data = file.read(length)
    if len(data) < length or checksum(key, data) != expected:
        return None
    return key, data


def _cut_off(file: BinaryIO, start: int) -> bool:
    """Whether a record begins at `start` whose end is not in the file."""
    left = file.seek(0, os.SEEK_END) - start
    file.seek(start)
    head = file.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return _MARK.startswith(head[: len(_MARK)])
    mark, length, _, _ = _HEAD.unpack(head)
    return mark == _MARK and _HEAD.size + length > left


def _next_whole(file: BinaryIO, start: int) -> int:
    """Where the first intact entry at or after `start` begins; the end of the file if there is
    none."""
    while True:
        file.seek(start)
        chunk = file.read(_CHUNK)
        at = chunk.find(_MARK)
        if at >= 0:
            file.seek(start + at)
            if _next(file) is not None:
                return start + at
            start += at + 1
        elif len(chunk) < _CHUNK:
            return file.seek(0, os.SEEK_END)
        else:
            start += _CHUNK - len(_MARK) + 1
