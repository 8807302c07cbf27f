"""Domains made from recorded interactions, and the fingerprints of domains."""

from __future__ import annotations

import hashlib
import io
import json
from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
from pydantic import Field

from agents.core.errors import DataError
from agents.core.items import Catalogue, Interactions
from agents.core.paths import FilePath
from agents.core.plugins import Options, operational
from simulators.core.cases import Case, Domain, Split
from simulators.domains.core.files import digest_of, no_final_newline, open_data
from simulators.domains.core.leave_one_out import (
    Histories,
    case_of,
)

_DIGITS_OF_A_TIME = 9


def fingerprint(name: str, version: int, options: Options, files: Sequence[str] = ()) -> str:
    """Hex digest of a domain's name, version, identity-bearing options and file hashes."""
    parts = {"name": name, "version": version, "options": options.identity(), "files": list(files)}
    canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


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
        return [] if file.read(1) == b"\n" else [no_final_newline(path)]


class FileOptions(Options):
    """Options of every domain that is read from files."""

    path: FilePath = operational(...)
    """The folder with the files. Their hashes are part of the identity; their location is not."""


class FileDomain(Domain):
    """A domain that is read from files when it is first asked.

    Raises DataError, with the file and the place in it, for data that is missing or malformed.
    """

    Options = FileOptions
    name: ClassVar[str]
    """As it enters the fingerprint."""

    def __init__(self, options: FileOptions) -> None:
        self.options = options

    @abstractmethod
    def files(self) -> Sequence[Path]:
        """All files that decide the data."""

    def fingerprint(self) -> str:
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        files = [digest_of(path) for path in self.files()]
        return fingerprint(self.name, self.version, self.options, files)


class RecordedOptions(FileOptions):
    """Options of every domain that is split by leave-one-out."""

    k_core: int = Field(10, ge=0)
    """Minimum interactions of a user and of an item; 0 and 1 switch the filter off."""


class LoadedData(NamedTuple):
    catalogue: Catalogue
    histories: Histories
    remarks: Sequence[str] = ()


class RecordedDomain(FileDomain):
    """A domain of recorded interactions with times, split by leave-one-out."""

    Options = RecordedOptions

    @abstractmethod
    def load(self) -> LoadedData: ...

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
    def _loaded(self) -> LoadedData:
        loaded = self.load()
        listed, known = len(loaded.catalogue), int(loaded.histories.items.max(initial=-1)) + 1
        if listed != known:
            raise DataError(
                f"{self.options.path}: the catalogue has {listed:,} items, the histories "
                f"{known:,}: give it the items that `leave_one_out` keeps, in its order "
                "(`[items[at] for at in kept]`)"
            )
        return loaded

    @cached_property
    def _case_ids(self) -> tuple[str, ...]:
        return tuple(f"u{user}" for user in self._loaded.histories.users)

    @cached_property
    def _position(self) -> dict[str, int]:
        return {case_id: position for position, case_id in enumerate(self._case_ids)}
