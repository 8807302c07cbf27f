"""The folder of a sweep: a local path, or a prefix of an S3-compatible object store.

All storage goes through one small interface. A file is complete or does not exist, and the listing
is authoritative. Parts never change once they exist; the manifest, the sweep file and the lease are
replaced as a whole. Names are relative: `episodes/000001-w000-000001.parquet`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import pyarrow as pa

from agents.core.errors import UsageError
from agents.core.paths import expand_user

Change = Callable[[bytes | None], bytes | None]
"""Maps the content of a file (None if missing) to its new content (None to leave it)."""


class Folder(Protocol):
    """Where a sweep is stored. Methods raise OSError, including FileNotFoundError."""

    logs: Path
    """Where processes write their logs; always a local folder."""

    @property
    def local(self) -> Path:
        """A folder in which files can be appended to: this one, or a local one in its place."""
        ...

    def absolute(self) -> Folder:
        """The same folder, for processes with another working folder."""
        ...

    def names(self, table: str = "") -> list[str]:
        """The sorted names in `table`, or in the folder itself, without hidden files.

        Empty if it is missing. Raises NotADirectoryError if it is a file.
        """
        ...

    def open(self, name: str) -> pa.NativeFile:
        """Opens a file for random access."""
        ...

    def size(self, name: str) -> int: ...

    def writing(self, name: str) -> AbstractContextManager[Any]:
        """A sink for bytes. If the block ends without an error, the file exists, complete and
        durable.

        After an error, or the death of this process, there is no such file.
        """
        ...

    def update(self, name: str, change: Change) -> None:
        """Reads and replaces a small file atomically: no other change can come in between."""
        ...

    def guarded(self, name: str, check: Callable[[bytes | None], None]) -> AbstractContextManager:
        """Passes the file `name` to `check`, which may raise; the file is not updated during the
        block.

        Object stores have no locks: there, `check` runs right before the block.
        """
        ...

    def delete(self, name: str) -> None:
        """Deletes a file. It is not an error if the file is already gone."""
        ...

    def rename(self, name: str, to: str) -> None: ...

    def remove_leftovers(self, tables: Iterable[str]) -> int:
        """Deletes unfinished files of dead writers. Returns how many."""
        ...

    def room(self) -> str:
        """How much can be stored here, in words. Raises UsageError if nothing can be written."""
        ...


PATTERNS = "*?["
"""Characters that make a path a pattern in DuckDB."""


def folder_at(where: str | Path | Folder) -> Folder:
    """The folder at a path or URI.

    Raises UsageError for an unsupported scheme, and for a name under which nothing can be stored or
    read.
    """
    if isinstance(where, Path):
        return _local(expand_user(where))
    if not isinstance(where, str):
        return where
    scheme, separator, rest = where.partition("://")
    if not separator:
        return _local(Path(expand_user(where)))
    if scheme == "file":
        if not rest.startswith("/") or set(rest) & set("%?#"):
            raise UsageError(
                f"expected file:///a/path without %, ? and #, found {where}; a path needs no file://"
            )
        return _local(Path(rest))
    if scheme == "s3":
        from sweeps.storage.s3 import S3Folder  # needs libraries that local folders do without

        return S3Folder.at(rest)
    raise UsageError(f"expected a local path, file:// or s3://, found {scheme}://")


def _local(path: Path) -> LocalFolder:
    """The folder at `path`. Raises UsageError if no query can name its files."""
    absolute = str(path.absolute())
    if "\\" in absolute and any(c in absolute for c in PATTERNS):
        raise UsageError(
            f"{path} cannot be read: DuckDB cannot open a path with a backslash and one of "
            f"{' '.join(PATTERNS)}; rename the folder"
        )
    return LocalFolder(path)


class LocalFolder:
    """A folder of a local or shared file system.

    Files are written under a temporary name (`.<name>.tmp`), flushed to disk (`fsync`) and renamed;
    then the folder is flushed as well, so that after a power loss no later file exists without an
    earlier one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.logs = path / "logs"

    def __str__(self) -> str:
        return str(self.path)

    @property
    def local(self) -> Path:
        return self.path

    def absolute(self) -> LocalFolder:
        return LocalFolder(self.path.absolute())

    def names(self, table: str = "") -> list[str]:
        try:
            found = sorted(p.name for p in (self.path / table).iterdir())
        except FileNotFoundError:
            return []
        return [name for name in found if not name.startswith(".")]

    def open(self, name: str) -> pa.NativeFile:
        return pa.OSFile(str(self.path / name))

    def size(self, name: str) -> int:
        return (self.path / name).stat().st_size

    @contextmanager
    def writing(self, name: str) -> Iterator[BinaryIO]:
        path = self.path / name
        aside = path.with_name(f".{path.name}.tmp")
        self._make(path.parent)
        try:
            with aside.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            aside.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):  # the first error is the one to tell
                aside.unlink(missing_ok=True)
            raise
        flush(path.parent)

    def update(self, name: str, change: Change) -> None:
        self._make(self.path)
        with self._locked(name):
            new = change(self._content(name))
            if new is not None:
                with self.writing(name) as file:
                    file.write(new)

    @contextmanager
    def guarded(self, name: str, check: Callable[[bytes | None], None]) -> Iterator[None]:
        with self._locked(name):
            check(self._content(name))
            yield

    def delete(self, name: str) -> None:
        (self.path / name).unlink(missing_ok=True)

    def rename(self, name: str, to: str) -> None:
        (self.path / name).replace(self.path / to)
        flush((self.path / to).parent)

    def remove_leftovers(self, tables: Iterable[str]) -> int:
        found = [p for table in tables for p in (self.path / table).glob(".*.tmp")]
        for path in found:
            path.unlink(missing_ok=True)
        return len(found)

    def room(self) -> str:
        there = self.path.absolute()
        while not there.exists():
            there = there.parent
        if not os.access(there, os.W_OK):
            raise UsageError(f"{there} cannot be written")
        return f"{shutil.disk_usage(there).free / 2**30:,.0f} GiB free"

    def _make(self, path: Path) -> None:
        """Creates a folder, with a name as durable as its contents."""
        if not path.is_dir():
            path.mkdir(parents=True, exist_ok=True)
            flush(path.parent)

    def _content(self, name: str) -> bytes | None:
        try:
            return (self.path / name).read_bytes()
        except FileNotFoundError:
            return None

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        lock = self.path / f".{Path(name).stem}.lock"
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)  # closing gives the lock back


def flush(path: Path) -> None:
    """Flushes a file, or the names in a folder, to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read(folder: Folder, name: str) -> bytes:
    """The content of a small file. Raises FileNotFoundError if it is missing."""
    with folder.open(name) as file:
        return file.read()


def write(folder: Folder, name: str, content: bytes) -> None:
    """Replaces a small file atomically."""
    with folder.writing(name) as file:
        file.write(content)
