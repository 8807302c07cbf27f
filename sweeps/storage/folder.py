"""The folder of a sweep: a local path, or a prefix of an S3-compatible object store.

Everything that is stored goes through one small interface. Files are whole or not there, and the
listing decides. Parts never change once they are there; the manifest, the sweep file and the lease
are replaced whole. Names are relative: `episodes/000001-w000-000001.parquet`.
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
"""What a file holds (None: it is missing) -> what it is to hold (None: leave it)."""


class Folder(Protocol):
    """What a sweep is stored in. Methods raise OSError, FileNotFoundError among them."""

    logs: Path
    """Where processes write their logs: always a local folder."""

    @property
    def local(self) -> Path:
        """Where files can be appended to: the folder itself, or a local one in its place."""
        ...

    def absolute(self) -> Folder:
        """The same folder, for processes with another working folder."""
        ...

    def names(self, table: str = "") -> list[str]:
        """Names of what is in `table`, or in the folder itself, sorted; hidden files left out.

        Empty if it is missing. NotADirectoryError if it is a file.
        """
        ...

    def open(self, name: str) -> pa.NativeFile:
        """A file for random access."""
        ...

    def size(self, name: str) -> int: ...

    def writing(self, name: str) -> AbstractContextManager[Any]:
        """A sink for bytes. Once the block ends well, the file is there, whole and durable.

        After an error, or the death of this process, there is no such file.
        """
        ...

    def update(self, name: str, change: Change) -> None:
        """Reads and replaces a small file in one step: no other change can come between."""
        ...

    def guarded(self, name: str, check: Callable[[bytes | None], None]) -> AbstractContextManager:
        """`check` sees the file `name` and may raise; it is not updated during the block.

        Object stores have no locks: there, `check` is done right before the block.
        """
        ...

    def delete(self, name: str) -> None:
        """Deletes a file. One that is gone already is not an error."""
        ...

    def rename(self, name: str, to: str) -> None: ...

    def remove_leftovers(self, tables: Iterable[str]) -> int:
        """Deletes what was still being written when its writer died; how many files."""
        ...

    def room(self) -> str:
        """How much can be stored here, in words. UsageError if nothing can be written."""
        ...


PATTERNS = "*?["
"""Characters that make a path a pattern to DuckDB."""


def folder_at(where: str | Path | Folder) -> Folder:
    """The folder at a path or URI.

    UsageError for a scheme that is not supported, and for a name under which nothing can be
    stored or read.
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
    """The folder at `path`. UsageError if no query can name its files."""
    absolute = str(path.absolute())
    if "\\" in absolute and any(c in absolute for c in PATTERNS):
        raise UsageError(
            f"{path} cannot be read: DuckDB cannot open a path with a backslash and one of "
            f"{' '.join(PATTERNS)}; rename the folder"
        )
    return LocalFolder(path)


class LocalFolder:
    """A folder of a local or shared file system.

    Files are written aside (`.<name>.tmp`), flushed to the disk (`fsync`) and renamed; then the
    folder is flushed too, so that no later file outlives a loss of power that this one does not.
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
        """Makes a folder; its name is as durable as what will be in it."""
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
    """Puts a file, or the names in a folder, on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read(folder: Folder, name: str) -> bytes:
    """All of a small file. FileNotFoundError if it is missing."""
    with folder.open(name) as file:
        return file.read()


def write(folder: Folder, name: str, content: bytes) -> None:
    """Replaces a small file in one step."""
    with folder.writing(name) as file:
        file.write(content)
