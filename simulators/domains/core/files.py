"""Reads files of data sets line by line, with errors that name the file and the line."""

from __future__ import annotations

import codecs
import gzip
import hashlib
import re
import zlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from io import BufferedReader
from pathlib import Path
from typing import Generic, TypeVar

from agents.core.errors import DataError, near

T = TypeVar("T")


# Bytes. The longest lines, descriptions with escapes, have some ten thousands.
LONGEST_LINE = 2**20
_BOM = codecs.BOM_UTF8
SURROGATE = re.compile("[\ud800-\udfff]")
_TELL_EVERY = 20_000  # lines
ReadWatcher = Callable[[Path, int, float], None]
"""Called with the file being read, its lines so far, and the share of its bytes that they are."""
WATCHER: ContextVar[ReadWatcher | None] = ContextVar("watcher", default=None)
"""Set by commands that show progress: files of millions of lines take a while."""
_POINTERS = (b"version https://git-lfs.github.com/spec", b"/annex/objects")


def open_data(path: Path) -> BufferedReader:
    """Opens a data file. Raises DataError if it is missing, unreadable or only a pointer."""
    # A locked file of git-annex is a link into a store that lacks the content.
    if path.is_symlink() and not path.exists() and "annex/objects" in str(path.readlink()):
        raise DataError(_only_pointer(path))
    try:
        file = path.open("rb")
        start = file.read(max(map(len, _POINTERS)))
    except OSError as error:
        raise DataError(f"{path.absolute()}: cannot be read: {error.strerror or error}") from None
    if start.startswith(_POINTERS):
        file.close()
        raise DataError(_only_pointer(path))
    file.seek(0)
    return file


def digest_of(path: Path) -> str:
    """SHA-256 of a data file."""
    with open_data(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_content(path: Path) -> bytes:
    """The content of a text file, without a byte order mark. Raises DataError also if it is empty
    or UTF-16."""
    with open_data(path) as file:
        content = file.read()
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise DataError(f"{path}: the file is UTF-16 text; save it as UTF-8, or download it again")
    content = content.removeprefix(_BOM)
    if not content.strip():
        raise DataError(f"{path}: the file is empty; download it again")
    return content


def read_data(path: Path, is_row: Callable[[str], bool]) -> bytes:
    """The same of a file with one row per line.

    DataError also where it breaks off in a line: the last one has no line end and is not a whole
    row.
    """
    content = read_content(path)
    if not content.endswith(b"\n"):
        [(_, row)] = lines_of(content.rpartition(b"\n")[2])
        if not is_row(row):
            last = content.count(b"\n") + 1
            raise DataError(f"{path}:{last}: the file is truncated in this line; download it again")
    return content


def no_final_newline(path: Path) -> str:
    return (
        f"{path.name} has no line end after its last line, which is read as it is; download the "
        "file again if it may have been cut off there"
    )


def _only_pointer(path: Path) -> str:
    return (
        f"{path}: only a pointer to a file in a large-file store, not the data; "
        "download the file itself (git lfs pull, git annex get)"
    )


def lines_of(content: bytes) -> Iterator[tuple[int, str]]:
    """Line numbers, from 1, and lines of text: latin-1, or UTF-8 if all of it is valid UTF-8.

    Non-ASCII letters are rarely valid UTF-8 by accident, so a file that an editor has saved again
    in UTF-8 reads the same.
    """
    text = _decoded(content)
    # Only a line feed ends a line: str.splitlines would also break at bytes that are letters.
    for number, line in enumerate(text.rstrip("\r\n").split("\n"), start=1):
        yield number, line.rstrip("\r")


def _decoded(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content.decode("latin-1")


def short(text: str) -> str:
    """`text` quoted for a message, cut to 60 characters."""
    return repr(text if len(text) <= 60 else text[:57] + "...")


class Records(Generic[T]):
    """What the lines of a large file hold, one at a time; lines that hold nothing are counted.

    `parse` gives None for a line that is malformed: it is left out. Files of millions of lines
    have a few; more than the share `allowed` raises DataError, as do a file without lines and
    one that breaks off. `expected` says in a message what a line should have held.
    """

    def __init__(
        self, path: Path, parse: Callable[[bytes], T | None], *, expected: str, allowed: float
    ) -> None:
        self.path = path
        self._parse = parse
        self._expected = expected
        self._allowed = allowed
        self.lines = 0
        self.bad = 0
        self._first_bad = ""
        self._ends = True  # with a line end, or a malformed line, which is counted

    def __iter__(self) -> Iterator[T]:
        self.lines = self.bad = 0
        self._first_bad, self._ends = "", True
        for line in self._read():
            self.lines += 1
            record = self._parse(line) if len(line) <= LONGEST_LINE else None
            if record is None:
                self._count(line)
            else:
                self._ends = line.endswith(b"\n") or self.path.suffix == ".gz"  # with a checksum
                yield record
        if not self.lines:
            raise DataError(f"{self.path}: the file is empty; download it again")
        if self.bad > self._allowed * self.lines:
            raise DataError(
                f"{self.path}:{self._first_bad} ({self.bad:,} of {self.lines:,} lines are "
                f"malformed, more than max_bad_lines {self._allowed:g} allows)"
            )

    def remarks(self) -> list[str]:
        """What was left out, if anything, and what may be cut off, for a person to read."""
        end = [] if self._ends else [no_final_newline(self.path)]
        if not self.bad:
            return end
        return [
            *end,
            f"{self.bad:,} of {self.lines:,} lines of {self.path.name} are malformed and left out, "
            f"the first in line {self._first_bad}",
        ]

    def _read(self) -> Iterator[bytes]:
        """The lines, cut after LONGEST_LINE + 1 bytes, without a byte order mark."""
        watcher = WATCHER.get()
        with open_data(self.path) as file:
            size = max(1, self.path.stat().st_size)
            lines = gzip.GzipFile(fileobj=file) if self.path.suffix == ".gz" else file
            while line := self._next(lines):
                if watcher is not None and self.lines % _TELL_EVERY == _TELL_EVERY - 1:
                    watcher(self.path, self.lines + 1, min(1.0, file.tell() / size))
                if not self.lines:
                    line = line.removeprefix(_BOM)
                rest = line
                while len(rest) > LONGEST_LINE and not rest.endswith(b"\n"):
                    rest = self._next(lines)
                yield line

    def _next(self, lines: BufferedReader | gzip.GzipFile) -> bytes:
        try:
            return lines.readline(LONGEST_LINE + 1)
        except EOFError:
            what = "the file is truncated in this line"
        except (OSError, zlib.error) as error:
            what = f"the file cannot be read from here on ({error})"
        raise DataError(f"{self.path}:{self.lines + 1}: {what}; download it again")

    def _count(self, line: bytes) -> None:
        self.bad += 1
        if self.bad == 1:
            found = short(line[:200].decode("utf-8", "replace").rstrip("\r\n"))
            if len(line) > LONGEST_LINE:
                found = f"a line of more than {LONGEST_LINE:,} bytes"
            self._first_bad = f"{self.lines}: found {found}, expected {self._expected}"


def check_folder(folder: Path, what: str) -> None:
    """Raises DataError if `folder` does not exist; `what` names the files it should contain."""
    if folder.is_dir():
        return
    found = "is a file, not a folder" if folder.exists() else "there is no such folder"
    siblings = [entry.name for entry in folder.parent.iterdir()] if folder.parent.is_dir() else []
    hint = near(folder.name, siblings)
    raise DataError(
        f"{folder.absolute()}: {found}; `path` must be the folder of the {what} files{hint}"
    )


def need_file(folder: Path, *names: str) -> Path:
    """The one of `names` that is in `folder`. Raises DataError if none is."""
    present = [entry.name for entry in folder.iterdir()]
    for name in names:
        if name in present:
            return folder / name
    raise DataError(f"{folder}: no {' and no '.join(names)} is there{near(names[0], present)}")
