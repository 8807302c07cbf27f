"""Domains of recorded dialogues whose seekers are simulated: INSPIRED and ReDial for RSO.

- A case is a recorded dialogue: its seeker's wanted genres and person. The text of the dialogue is
  not part of it.
- There are no interactions, so recommenders have nothing to train on.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, NamedTuple, get_args

from pydantic import Field

from agents.core.errors import DataError
from agents.core.items import Catalogue, Item, VisibleCase
from agents.core.paths import FilePath
from agents.core.plugins import operational
from simulators.core.cases import Case, Split
from simulators.core.seekers import Person, SeekingCase
from simulators.domains.core.files import read_content
from simulators.domains.core.json_files import as_json, object_of
from simulators.domains.core.movies import Movies
from simulators.domains.core.people import People, read_people
from simulators.domains.core.recorded import FileDomain, FileOptions

_SPLITS = get_args(Split)
NO_GENRE = "action"
"""The genre wanted by a seeker without a known one, as in RSO's released code for INSPIRED."""


class SeekersOptions(FileOptions):
    """Options of the domains of seekers."""

    people: FilePath | None = operational(None)
    """The folder with INSPIRED's seeker_demographic.tsv and seeker_personality.tsv. Their hashes
    are part of the identity. Without it, nothing is known about the people behind the seekers."""
    genres: Annotated[int, Field(ge=1)] = 1
    """How many of a dialogue's genres, from the first, its seeker wants. RSO's code takes one."""


class SeekerGoal(NamedTuple):
    """A dialogue's seeker: who it is, what it wants, and its own targets if not all of a genre."""

    user: str
    genres: tuple[str, ...]
    targets: tuple[Item, ...] | None = None


class SeekersDomain(FileDomain):
    """Movies, and the seekers of recorded dialogues."""

    options: Any
    """Of a class derived from `SeekersOptions`."""

    @abstractmethod
    def read_movies(self) -> Movies: ...

    @abstractmethod
    def read_seekers(self, split: Split, people: People) -> Mapping[str, SeekerGoal]:
        """The seekers of a split, by the id of their dialogue. Nothing that tested dialogues say or
        want is used for a split to train on."""

    @property
    def catalogue(self) -> Catalogue:
        return self.movies.catalogue

    @cached_property
    def movies(self) -> Movies:
        return self.read_movies()

    def case_ids(self, split: Split) -> Sequence[str]:
        return list(self._cases(split))

    def case(self, split: Split, case_id: str) -> Case:
        found = self._cases(split).get(case_id)
        if found is None:
            raise DataError(f"{self.options.path}: there is no dialogue {case_id!r} to seek for")
        targets = self._targets_of(found)
        person = self._people.known.get(found.user, Person())
        hidden = SeekingCase(targets, genres=found.genres, person=person)
        return Case(VisibleCase(case_id, ()), hidden)

    def statistics(self) -> dict[str, int]:
        return {
            **{f"{split} dialogues": len(self._cases(split)) for split in _SPLITS},
            "items": len(self.catalogue),
            "entities": self.movies.graph.entities,
            "triples": self.movies.graph.triples,
        }

    def remarks(self) -> Sequence[str]:
        for split in _SPLITS:
            self._cases(split)
        return [*self.movies.remarks, *self._people.remarks, *self._left_out]

    @cached_property
    def _people(self) -> People:
        folder = self.options.people
        return People({}, ()) if folder is None else read_people(folder)

    def _targets_of(self, goal: SeekerGoal) -> tuple[Item, ...]:
        if goal.targets is not None:
            return goal.targets
        if goal.genres not in self._by_genres:
            self._by_genres[goal.genres] = self.movies.of(goal.genres)
        return self._by_genres[goal.genres]

    @cached_property
    def _by_genres(self) -> dict[tuple[str, ...], tuple[Item, ...]]:
        return {}

    def _cases(self, split: Split) -> Mapping[str, SeekerGoal]:
        if split not in self._read:
            found = self.read_seekers(split, self._people)
            kept = {name: one for name, one in found.items() if self._targets_of(one)}
            if len(kept) < len(found):
                self._left_out.append(
                    f"{len(found) - len(kept):,} of {len(found):,} dialogues of the split {split} "
                    "are left out: no movie here is what their seeker wants"
                )
            self._read[split] = kept
        return self._read[split]

    @cached_property
    def _read(self) -> dict[Split, Mapping[str, SeekerGoal]]:
        return {}

    @cached_property
    def _left_out(self) -> list[str]:
        return []


def dialogues_in(path: Path, *keys: str) -> dict[str, dict[str, Any]]:
    """The dialogues of a file with one JSON object per line, by `dialog_id`.

    DataError with the line for one that is not an object, lacks one of `keys`, or is listed twice.
    """
    found: dict[str, dict[str, Any]] = {}
    for number, line in enumerate(read_content(path).splitlines(), start=1):
        row = object_of(line)
        if row is None:
            text = line[:80].decode("utf-8", "replace")
            raise DataError(f"{path}:{number}: found {as_json(text)}, expected a JSON object")
        for key in ("dialog_id", *keys):
            if key not in row:
                raise DataError(f"{path}:{number}: found no {key!r}, expected it in each dialogue")
        name = str(row["dialog_id"])
        if name in found:
            raise DataError(f"{path}:{number}: the dialogue {name!r} is listed twice")
        found[name] = row
    return found


def genres_of(row: Mapping[str, Any], most: int, path: Path) -> tuple[str, ...]:
    """The first genres of a dialogue, in lower case; empty if none is known."""
    listed = row.get("genre_dict", [])
    if not isinstance(listed, list) or any(not isinstance(each, str) for each in listed):
        raise DataError(
            f"{path}: dialogue {row['dialog_id']}: found {as_json(listed)}, expected a list of "
            "genres"
        )
    return tuple(dict.fromkeys(" ".join(each.split()).lower() for each in listed[:most]))
