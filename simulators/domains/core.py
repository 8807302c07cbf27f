"""What domains share: fingerprints, careful reading, the k-core, leave-one-out by time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agents.core.errors import DataError
from agents.core.items import Catalogue, VisibleCase
from agents.core.plugins import Options
from simulators.core.cases import Case, HiddenCase, Split

# A user needs a test target, a validation target, and something to have liked before.
SHORTEST_HISTORY = 3

# The target's place, counted from the end. `train` serves rollouts of training loops: its target
# is the last interaction that training may see.
_FROM_END: dict[Split, int] = {"test": 1, "validation": 2, "train": 3}
HELD_OUT = 2

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


def read_data(path: Path) -> bytes:
    """All of a data file; DataError where it is missing, empty, unreadable or only a pointer."""
    # A locked file of git-annex is a link into a store that has not got the content.
    if path.is_symlink() and not path.exists() and "annex/objects" in str(path.readlink()):
        raise DataError(_only_pointer(path))
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    if content.startswith(_POINTERS):
        raise DataError(_only_pointer(path))
    if not content.strip():
        raise DataError(f"{path}: the file is empty; download it again")
    if not content.endswith(b"\n"):
        last = content.count(b"\n") + 1
        raise DataError(f"{path}:{last}: the file breaks off in this line; download it again")
    return content


def _only_pointer(path: Path) -> str:
    return (
        f"{path}: only a pointer to a file in a large-file store, not the data; "
        "download the file itself (git lfs pull, git annex get)"
    )


def lines_of(content: bytes) -> Iterator[tuple[int, str]]:
    """Line numbers, from 1, and lines of latin-1 text."""
    # Only a line feed ends a line: str.splitlines would also break at bytes that are letters.
    for number, line in enumerate(content.decode("latin-1").rstrip("\r\n").split("\n"), start=1):
        yield number, line.rstrip("\r")


def short(text: str) -> str:
    """`text` quoted for a message, cut to 60 characters."""
    return repr(text if len(text) <= 60 else text[:57] + "...")


def check_lengths(path: Path, numbers: np.ndarray, lengths: np.ndarray) -> None:
    """DataError that names the first user whose history is too short for leave-one-out."""
    too_short = np.flatnonzero(lengths < SHORTEST_HISTORY)
    if len(too_short):
        user, length = numbers[too_short[0]], lengths[too_short[0]]
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

    `numbers` are the data set's user numbers, ascending; `items` holds catalogue positions,
    oldest first within a user.
    """

    numbers: np.ndarray
    starts: np.ndarray
    items: np.ndarray
    times: np.ndarray

    def of(self, user: int) -> list[int]:
        return self.items[self.starts[user] : self.starts[user + 1]].tolist()

    def training(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Users, items and times of all that is not held out."""
        lengths = np.diff(self.starts)
        users = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
        before_end = self.starts[users + 1] - np.arange(len(users))
        kept = before_end > HELD_OUT
        return users[kept], self.items[kept], self.times[kept]
