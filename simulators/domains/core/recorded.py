"""What domains share: fingerprints, careful reading, the k-core, leave-one-out by time."""

from __future__ import annotations

import ast
import codecs
import gzip
import hashlib
import html
import io
import json
import re
import warnings
import zlib
from abc import abstractmethod
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from io import BufferedReader
from pathlib import Path
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import numpy as np
from pydantic import Field

from agents.core.errors import DataError, near
from agents.core.items import LONGEST_TITLE, Catalogue, Interactions, Item, VisibleCase
from agents.core.paths import FilePath
from agents.core.plugins import Options, operational
from simulators.core.cases import Case, Domain, HiddenCase, Split

T = TypeVar("T")

# A user needs a test target, a validation target, and something to have liked before.
SHORTEST_HISTORY = 3

# The target's place, counted from the end. `train` serves rollouts of training loops: its target
# is the last interaction that training may see.
_FROM_END: dict[Split, int] = {"test": 1, "validation": 2, "train": 3}
HELD_OUT = 2

# Bytes. The longest lines, descriptions with escapes, have some ten thousands.
LONGEST_LINE = 2**20

_BOM = codecs.BOM_UTF8
_DIGITS_OF_A_TIME = 9
_SURROGATE = re.compile("[\ud800-\udfff]")
_POINTERS = (b"version https://git-lfs.github.com/spec", b"/annex/objects")


def fingerprint(name: str, version: int, options: Options, files: Sequence[str] = ()) -> str:
    """Hex digest of a domain's name, version, identity-bearing options and file hashes."""
    parts = {"name": name, "version": version, "options": options.identity(), "files": list(files)}
    canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def case_of(catalogue: Catalogue, case_id: str, events: Sequence[int], split: Split) -> Case:
    """The leave-one-out case of a user whose interactions, oldest first, are `events`.

    `events` holds positions in the catalogue, at least SHORTEST_HISTORY of them.
    """
    target = len(events) - _FROM_END[split]
    items = catalogue.items
    history = tuple(items[position] for position in events[:target])
    return Case(VisibleCase(case_id, history), HiddenCase((items[events[target]],)))


def open_data(path: Path) -> BufferedReader:
    """A data file, at its start; DataError where it is missing, unreadable or only a pointer."""
    # A locked file of git-annex is a link into a store that has not got the content.
    if path.is_symlink() and not path.exists() and "annex/objects" in str(path.readlink()):
        raise DataError(_only_pointer(path))
    try:
        file = path.open("rb")
        start = file.read(max(map(len, _POINTERS)))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    if start.startswith(_POINTERS):
        file.close()
        raise DataError(_only_pointer(path))
    file.seek(0)
    return file


def digest_of(path: Path) -> str:
    """SHA-256 of a data file."""
    with open_data(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_data(path: Path, is_row: Callable[[str], bool]) -> bytes:
    """All of a data file of text, less a byte order mark.

    DataError also where it is empty, is UTF-16, or breaks off in a line: the last one has no line
    end and is not a whole row.
    """
    with open_data(path) as file:
        content = file.read()
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise DataError(f"{path}: the file is UTF-16 text; save it as UTF-8, or download it again")
    content = content.removeprefix(_BOM)
    if not content.strip():
        raise DataError(f"{path}: the file is empty; download it again")
    if not content.endswith(b"\n"):
        [(_, row)] = lines_of(content.rpartition(b"\n")[2])
        if not is_row(row):
            last = content.count(b"\n") + 1
            raise DataError(f"{path}:{last}: the file is truncated in this line; download it again")
    return content


def is_whole_time(digits: str) -> bool:
    """Whether a Unix time at the end of a file that has no last line end can be whole.

    All since 1973 have nine digits or more, so fewer were cut off.
    """
    return len(digits) >= _DIGITS_OF_A_TIME


def remarks_on_end(path: Path) -> list[str]:
    """A remark on a file whose last line is a whole row without a line end, for a person to read.

    Editors leave that out; but a row that was cut within its last field may look the same.
    """
    with open_data(path) as file:
        file.seek(-1, io.SEEK_END)
        return [] if file.read(1) == b"\n" else [_without_end(path)]


def _without_end(path: Path) -> str:
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
    """Line numbers, from 1, and lines of text: latin-1, or UTF-8 where all of it is valid UTF-8.

    Letters outside of ASCII make valid UTF-8 by accident only in files made for it, so a file that
    an editor has saved again in UTF-8 reads the same.
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
        end = [] if self._ends else [_without_end(self.path)]
        if not self.bad:
            return end
        return [
            *end,
            f"{self.bad:,} of {self.lines:,} lines of {self.path.name} are malformed and left out, "
            f"the first in line {self._first_bad}",
        ]

    def _read(self) -> Iterator[bytes]:
        """The lines, cut after LONGEST_LINE + 1 bytes, without a byte order mark."""
        with open_data(self.path) as file:
            lines = gzip.GzipFile(fileobj=file) if self.path.suffix == ".gz" else file
            while line := self._next(lines):
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


def literal(line: bytes) -> dict[Any, Any] | None:
    """The dict that a line writes as a Python literal, or None. Nothing in it is ever run."""
    try:
        found = ast.literal_eval(line.decode())
    # What `ast` documents that malformed or deeply nested text may raise.
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def name_in(record: Mapping[Any, Any], key: str) -> str | None:
    """The id under `key`, or None where it is no text, empty, or cannot be written as UTF-8."""
    value = record.get(key)
    return value if isinstance(value, str) and value.strip() and _writable(value) else None


def text_in(record: Mapping[Any, Any], key: str) -> str:
    """The words under `key`, or none, without HTML entities and needless space."""
    return _clean(record.get(key))


def cut(text: str, most: int) -> str:
    """At most `most` characters of `text`, whole words if its first is no longer."""
    if len(text) <= most:
        return text
    return text[: most + 1].rpartition(" ")[0].rstrip() or text[:most]


def texts_in(record: Mapping[Any, Any], key: str) -> tuple[str, ...]:
    """The same of a list, each once and in its order."""
    values = record.get(key)
    return distinct(values) if isinstance(values, list) else ()


def distinct(values: Iterable[Any]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text for value in values if (text := _clean(value))))


def price_in(record: Mapping[Any, Any]) -> float | None:
    """The price, where it is a number."""
    price = record.get("price")
    if isinstance(price, bool) or not isinstance(price, int | float):
        return None
    return float(price) if 0 <= price < 1e9 else None


def _clean(value: Any) -> str:
    if not isinstance(value, str) or not _writable(value):
        return ""
    return " ".join(html.unescape(value).split())


def _writable(text: str) -> bool:
    """Whether `text` is free of halves of a surrogate pair, which no file of results can hold."""
    return text.isascii() or not _SURROGATE.search(text)


def check_folder(folder: Path, what: str) -> None:
    """DataError where `folder` is none; `what` names whose files it should hold."""
    if folder.is_dir():
        return
    found = "is a file, not a folder" if folder.exists() else "there is no such folder"
    beside = [entry.name for entry in folder.parent.iterdir()] if folder.parent.is_dir() else []
    hint = near(folder.name, beside)
    raise DataError(f"{folder}: {found}; `path` must be the folder of the {what} files{hint}")


def need_file(folder: Path, *names: str) -> Path:
    """The one of `names` that lies in `folder`; DataError where none does."""
    present = [entry.name for entry in folder.iterdir()]
    for name in names:
        if name in present:
            return folder / name
    raise DataError(f"{folder}: no {' and no '.join(names)} is there{near(names[0], present)}")


def _check_lengths(path: Path, names: Sequence[str], lengths: np.ndarray) -> None:
    """DataError that names the first user whose history is too short for leave-one-out."""
    too_short = np.flatnonzero(lengths < SHORTEST_HISTORY)
    if len(too_short):
        user, length = names[too_short[0]], lengths[too_short[0]]
        more = f" (and so have {len(too_short) - 1} others)" if len(too_short) > 1 else ""
        raise DataError(
            f"{path}: user {user} has too short a history{more}: found {length} after filtering, "
            f"expected at least {SHORTEST_HISTORY}; set k_core to {SHORTEST_HISTORY} or more"
        )


def k_core(users: np.ndarray, items: np.ndarray, k: int) -> np.ndarray:
    """Mask of the largest set of pairs in which every user and every item stands k times or more.

    `users` and `items` hold small non-negative integers, one pair a position.
    """
    kept = np.ones(len(users), dtype=bool)
    while kept.any():
        user_counts = np.bincount(users[kept], minlength=users.max() + 1)
        item_counts = np.bincount(items[kept], minlength=items.max() + 1)
        enough = kept & (user_counts[users] >= k) & (item_counts[items] >= k)
        if np.array_equal(enough, kept):
            break
        kept = enough
    return kept


@dataclass(frozen=True)
class Histories:
    """Every user's interactions in one array: user i owns `items[starts[i] : starts[i + 1]]`.

    `users` are the data set's own names of them; `items` holds catalogue positions, oldest first
    within a user.
    """

    users: tuple[str, ...]
    starts: np.ndarray
    items: np.ndarray
    times: np.ndarray

    def of(self, user: int) -> list[int]:
        return self.items[self.starts[user] : self.starts[user + 1]].tolist()

    def validation(self) -> np.ndarray:
        """Every user's last but one item."""
        return self.items[self.starts[1:] - _FROM_END["validation"]]

    def training(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Users, items and times of all that is not held out."""
        lengths = np.diff(self.starts)
        users = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
        before_end = self.starts[users + 1] - np.arange(len(users))
        kept = before_end > HELD_OUT
        return users[kept], self.items[kept], self.times[kept]


class Events(NamedTuple):
    """Interactions in the order of the file: positions in `names` and in a list of items."""

    names: Sequence[str] | Sequence[int]
    users: np.ndarray
    items: np.ndarray
    times: np.ndarray


def first_of_title(titles: Sequence[str]) -> np.ndarray:
    """For every title the position where it stands first: a dialogue cannot tell the two apart."""
    first: dict[str, int] = {}
    for position, title in enumerate(titles):
        first.setdefault(title, position)
    return np.array([first[title] for title in titles], dtype=np.int32)


def leave_one_out(
    path: Path, events: Events, k: int, filters: str, found: int
) -> tuple[np.ndarray, Histories]:
    """The items that are left, as positions in the list of `events`, and every user's history.

    Where a user has an item twice, the earliest counts. Ties in time stay in the order of the
    lines. `found` interactions were in `path` before those `filters` that `k_core` follows.
    """
    users, items, times = events.users, events.items, events.times
    # Sorting by user, then time is stable.
    order = np.lexsort((times, users))
    pairs = users[order].astype(np.int64) * (items.max(initial=0) + 1) + items[order]
    order = order[np.sort(np.unique(pairs, return_index=True)[1])]
    if k > 1:
        order = order[k_core(users[order], items[order], k)]
    if not len(order):
        raise DataError(
            f"{path}: no interaction of {found:,} is left after {filters}k_core {k}; "
            f"lower {'one of them' if filters else 'it'}"
        )
    kept_users, starts = np.unique(users[order], return_index=True)
    names = tuple(str(events.names[user]) for user in kept_users.tolist())
    starts = np.append(starts, len(order))
    _check_lengths(path, names, np.diff(starts))
    kept_items, positions = np.unique(items[order], return_inverse=True)
    return kept_items, Histories(names, starts, positions.astype(np.int32), times[order])


class RecordedOptions(Options):
    """Options of every recorded domain."""

    path: FilePath = operational(...)
    """The folder of the files. Their hashes are part of identity; where they lie is not."""
    k_core: int = Field(10, ge=0)
    """Fewest interactions of a user and of an item; 0 and 1 switch the filter off."""


class Loaded(NamedTuple):
    catalogue: Catalogue
    histories: Histories
    remarks: Sequence[str] = ()


class RecordedDomain(Domain):
    """A domain of recorded interactions, read from files when it is first asked.

    Raises DataError, with the file and the line, for data that is missing or malformed.
    """

    name: ClassVar[str]
    """As it enters the fingerprint."""

    def __init__(self, options: RecordedOptions) -> None:
        self.options = options

    @abstractmethod
    def files(self) -> Sequence[Path]:
        """All files that decide the data."""

    @abstractmethod
    def load(self) -> Loaded: ...

    def fingerprint(self) -> str:
        return self._fingerprint

    @property
    def catalogue(self) -> Catalogue:
        return self._loaded.catalogue

    def case_ids(self, split: Split) -> Sequence[str]:
        return self._case_ids

    def case(self, split: Split, case_id: str) -> Case:
        position = self._position.get(case_id)
        if position is None:
            raise DataError(f"{self.options.path}: there is no case {case_id!r}")
        return case_of(self.catalogue, case_id, self._loaded.histories.of(position), split)

    def interactions(self) -> Interactions:
        users, items, times = self._loaded.histories.training()
        return Interactions(self._case_ids, users, items, times)

    def validation_items(self) -> np.ndarray:
        return self._loaded.histories.validation()

    def statistics(self) -> dict[str, int]:
        catalogue, histories, _ = self._loaded
        return {
            "users": len(histories.users),
            "items": len(catalogue),
            "interactions": len(histories.items),
        }

    def remarks(self) -> Sequence[str]:
        return self._loaded.remarks

    @cached_property
    def _fingerprint(self) -> str:
        files = [digest_of(path) for path in self.files()]
        return fingerprint(self.name, self.version, self.options, files)

    @cached_property
    def _loaded(self) -> Loaded:
        return self.load()

    @cached_property
    def _case_ids(self) -> tuple[str, ...]:
        return tuple(f"u{user}" for user in self._loaded.histories.users)

    @cached_property
    def _position(self) -> dict[str, int]:
        return {case_id: position for position, case_id in enumerate(self._case_ids)}


class ReviewOptions(RecordedOptions):
    """Options of domains whose files have a line a review and a line a product."""

    max_bad_lines: float = operational(0.01, ge=0, le=1)
    """Share of malformed lines from which on a file is refused; fewer are left out and reported."""


class Review(NamedTuple):
    user: str
    item: str
    time: int
    liked: bool = True


def each_once(parse: Callable[[bytes], Item | None]) -> Callable[[bytes], Item | None]:
    """`parse`, which then gives None for an id that it has given already."""
    seen: set[str] = set()

    def parse_new(line: bytes) -> Item | None:
        item = parse(line)
        if item is None or item.id in seen:
            return None
        seen.add(item.id)
        return item

    return parse_new


def load_reviews(
    reviews: Records[Review], products: Records[Item], k: int, filters: str, noun: str
) -> Loaded:
    """Reviews that were liked, of products with a title, after merging equal titles and k-core."""
    users: dict[str, int] = {}
    ids: dict[str, int] = {}
    user, item, time = array("i"), array("i"), array("q")
    found = 0
    with warnings.catch_warnings():
        # Python warns of an odd backslash in a literal, here somebody's review.
        warnings.simplefilter("ignore")
        for review in reviews:
            found += 1
            if review.liked:
                user.append(users.setdefault(review.user, len(users)))
                item.append(ids.setdefault(review.item, len(ids)))
                time.append(review.time)
        titled = {ids[one.id]: one for one in products if one.id in ids and one.title}
    long = [code for code, one in titled.items() if len(one.title) > LONGEST_TITLE]
    for code in long:
        titled[code] = replace(titled[code], title=cut(titled[code].title, LONGEST_TITLE))
    # In the order of the reviews, so that the first of equal titles is the one reviewed first.
    codes = sorted(titled)
    place = np.full(len(ids), -1, dtype=np.int32)
    place[codes] = first_of_title([titled[code].title for code in codes])
    items = place[np.array(item, dtype=np.int32)]
    known = items >= 0
    events = Events(
        list(users),
        np.array(user, dtype=np.int32)[known],
        items[known],
        np.array(time, dtype=np.int64)[known],
    )
    kept, histories = leave_one_out(reviews.path, events, k, filters, found)
    remarks = [*reviews.remarks(), *products.remarks()]
    if not known.all():
        remarks.append(
            f"{np.count_nonzero(~known):,} reviews of {len(ids) - len(codes):,} products that "
            f"{products.path.name} does not list with a title are left out"
        )
    if long:
        remarks.append(
            f"{len(long):,} titles of {products.path.name} are longer than {LONGEST_TITLE} "
            "characters and cut there, so that replies can name them"
        )
    catalogue = Catalogue([titled[codes[position]] for position in kept.tolist()], noun=noun)
    return Loaded(catalogue, histories, remarks)
