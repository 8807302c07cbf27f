"""Domains in the layout of SCPR (Lei et al., KDD 2020), which UNICORN (Deng et al., SIGIR 2021)
and later work use: LastFM and Yelp.

- `UI_Interaction_data/review_dict_{train,valid,test}.json` map users to lists of items. The split
  is the published one: nothing is filtered.
- A history holds the user's items of `train`, in the order of the file. There are no times, and the
  order means nothing.
- The targets of the split `test` are in `test`, those of `validation` in `valid`. Both papers train
  their policies on `valid`, so these are also the targets of the split `train`.
- One dialogue is one held-out interaction, as in both papers' evaluations (`targets: each`).
- An interaction that is listed again, in the same file or a later one, counts once, in the first.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

import numpy as np

from agents.core.errors import DataError
from agents.core.items import Catalogue, Interactions, Pairs, VisibleCase
from simulators.core.cases import Case, HiddenCase, Split
from simulators.domains.core.described_items import ListedItems
from simulators.domains.core.files import check_folder, need_file
from simulators.domains.core.json_files import UserItems, read_user_items
from simulators.domains.core.recorded import FileDomain, FileOptions

GRAPH, NAMES, INTERACTIONS = "Graph_generate_data", "ID_map_info", "UI_Interaction_data"
_FILES = tuple(f"review_dict_{part}.json" for part in ("train", "valid", "test"))
_TRAIN, _VALID, _TEST = range(3)
_TARGETS_OF: dict[Split, int] = {"train": _VALID, "validation": _VALID, "test": _TEST}
_CASE = re.compile(r"u(0|[1-9][0-9]{0,8})(?:-i([0-9]+))?")


class SplitOptions(FileOptions):
    """Options of every domain in this layout."""

    targets: Literal["each", "all"] = "each"
    """`each`: one case for each held-out interaction. `all`: one case for each user, with all of
    the user's held-out items as targets."""


@dataclass(frozen=True)
class _Part:
    """One file: the user at position i has `items[starts[i] : starts[i + 1]]`, positions in the
    catalogue in the order of the file."""

    starts: np.ndarray
    items: np.ndarray

    def of(self, user: int) -> np.ndarray:
        return self.items[self.starts[user] : self.starts[user + 1]]

    @property
    def users(self) -> np.ndarray:
        """The position of each interaction's user."""
        lengths = np.diff(self.starts)
        return np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)


class _Loaded(NamedTuple):
    listed: ListedItems
    users: np.ndarray
    """The numbers of all users, ascending."""
    parts: tuple[_Part, ...]
    remarks: Sequence[str]


class SplitDomain(FileDomain):
    """Items, users, and the published split of their interactions."""

    options: SplitOptions
    item_files: ClassVar[tuple[tuple[str, str], ...]]
    """Folder and name of each file that describes the items; the first lists them."""

    @abstractmethod
    def read_items(self, paths: Sequence[Path]) -> ListedItems:
        """What the `item_files`, found at `paths`, say."""

    def files(self) -> Sequence[Path]:
        check_folder(self.options.path, self.dataset)
        wanted = [*self.item_files, *((INTERACTIONS, name) for name in _FILES)]
        folders = {name: need_file(self.options.path, name) for name, _ in wanted}
        for folder in folders.values():
            check_folder(folder, self.dataset)
        return [need_file(folders[folder], name) for folder, name in wanted]

    @property
    def catalogue(self) -> Catalogue:
        return self._loaded.listed.catalogue

    def case_ids(self, split: Split) -> Sequence[str]:
        return self._test_ids if _TARGETS_OF[split] == _TEST else self._validation_ids

    def case(self, split: Split, case_id: str) -> Case:
        found = self._find(case_id, self._loaded.parts[_TARGETS_OF[split]])
        if found is None:
            raise DataError(f"{self.options.path}: there is no case {case_id!r}")
        user, targets = found
        items = self.catalogue.items
        history = self._loaded.parts[_TRAIN].of(user).tolist()
        return Case(
            VisibleCase(
                case_id,
                tuple(items[place] for place in history),
                user_id=f"u{self._loaded.users[user]}",
            ),
            HiddenCase(tuple(items[place] for place in targets)),
        )

    def interactions(self) -> Interactions:
        """All of `train`; the times only repeat the order of the file."""
        train = self._loaded.parts[_TRAIN]
        times = np.arange(len(train.items), dtype=np.int64) - train.starts[train.users]
        names = tuple(f"u{user}" for user in self._loaded.users.tolist())
        return Interactions(names, train.users, train.items, times)

    def validation_items(self) -> np.ndarray:
        """Each user's first item in `valid`; -1 for users without one."""
        valid = self._loaded.parts[_VALID]
        found = np.full(len(self._loaded.users), -1, dtype=np.int32)
        has = np.diff(valid.starts) > 0
        found[has] = valid.items[valid.starts[:-1][has]]
        return found

    def training_dialogues(self) -> Pairs:
        """Every pair of `valid`: both papers train their policies on these."""
        valid = self._loaded.parts[_VALID]
        return Pairs(valid.users.astype(np.int64), valid.items.astype(np.int64))

    def statistics(self) -> dict[str, int]:
        loaded = self._loaded
        return {
            "users": len(loaded.users),
            "items": len(loaded.listed.catalogue),
            "attributes": loaded.listed.attributes,
            "interactions": sum(len(part.items) for part in loaded.parts),
        }

    def remarks(self) -> Sequence[str]:
        return self._loaded.remarks

    @cached_property
    def _loaded(self) -> _Loaded:
        paths = self.files()
        about, split = paths[: len(self.item_files)], paths[len(self.item_files) :]
        listed = self.read_items(about)
        index = _Index(listed)
        placed = [index.placed(read_user_items(path), path, about[0]) for path in split]
        users, parts, again = _each_once(placed, len(listed.catalogue))
        if not len(parts[_TEST].items):
            raise DataError(f"{split[_TEST]}: found no interaction to test on")
        remarks = [*listed.remarks]
        if index.dropped:
            remarks.append(f"{index.dropped:,} interactions with these items are left out")
        if again:
            remarks.append(f"{again:,} interactions are listed again and count once")
        return _Loaded(listed, users, parts, remarks)

    @cached_property
    def _test_ids(self) -> tuple[str, ...]:
        return self._ids_of(_TEST)

    @cached_property
    def _validation_ids(self) -> tuple[str, ...]:
        return self._ids_of(_VALID)

    def _ids_of(self, part: int) -> tuple[str, ...]:
        held_out, users = self._loaded.parts[part], self._loaded.users
        if self.options.targets == "all":
            return tuple(f"u{user}" for user in users[np.diff(held_out.starts) > 0].tolist())
        items = self.catalogue.items
        pairs = zip(users[held_out.users].tolist(), held_out.items.tolist(), strict=True)
        return tuple(f"u{user}-i{items[place].id}" for user, place in pairs)

    def _find(self, case_id: str, part: _Part) -> tuple[int, list[int]] | None:
        """The position of a case's user, and its targets; None if there is no such case."""
        match, users = _CASE.fullmatch(case_id), self._loaded.users
        if match is None or (match[2] is None) != (self.options.targets == "all"):
            return None
        user = int(np.searchsorted(users, int(match[1])))
        if user == len(users) or users[user] != int(match[1]):
            return None
        held_out = part.of(user).tolist()
        if match[2] is not None:
            held_out = [place for place in held_out if self.catalogue.items[place].id == match[2]]
        return (user, held_out) if held_out else None


class _Index:
    """From the numbers of items to positions in the catalogue."""

    _NAMELESS = -1

    def __init__(self, listed: ListedItems) -> None:
        numbers = [int(item.id) for item in listed.catalogue.items]
        places = [*range(len(numbers)), *[self._NAMELESS] * len(listed.nameless)]
        every = np.array([*numbers, *listed.nameless], dtype=np.int64)
        order = np.argsort(every)
        self._numbers, self._places = every[order], np.array(places, dtype=np.int32)[order]
        self.dropped = 0
        """How many interactions with nameless items were met."""

    def placed(self, found: UserItems, path: Path, listing: Path) -> UserItems:
        """`found` in positions, less the nameless items; DataError if one is not listed at all."""
        at = np.searchsorted(self._numbers, found.items).clip(max=len(self._numbers) - 1)
        known = self._numbers[at] == found.items
        if not known.all():
            bad = int(np.argmin(known))
            raise DataError(
                f"{path}: user {found.users[bad]}: found the item {found.items[bad]}, "
                f"which {listing.name} does not list"
            )
        places = self._places[at]
        kept = places != self._NAMELESS
        self.dropped += int(np.count_nonzero(~kept))
        return UserItems(found.users[kept], places[kept])


def _each_once(files: Sequence[UserItems], items: int) -> tuple[np.ndarray, tuple[_Part, ...], int]:
    """The users of all files, each file by user, and how many interactions were listed again."""
    users, user = np.unique(np.concatenate([one.users for one in files]), return_inverse=True)
    item = np.concatenate([one.items for one in files])
    part = np.repeat(np.arange(len(files)), [len(one.users) for one in files])
    first = np.sort(np.unique(user.astype(np.int64) * items + item, return_index=True)[1])
    parts = []
    for number in range(len(files)):
        mine = first[part[first] == number]
        mine = mine[np.argsort(user[mine], kind="stable")]
        starts = np.searchsorted(user[mine], np.arange(len(users) + 1))
        parts.append(_Part(starts, item[mine].astype(np.int32)))
    return users, tuple(parts), len(item) - len(first)
