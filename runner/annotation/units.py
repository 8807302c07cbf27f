"""What people label, and how it is drawn.

Cases are chosen per domain, in one repetition each, among those that every cell has finished. A
seed determines which cases and their order.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from agents.core.dialogue import Message
from agents.core.errors import UsageError
from agents.core.items import Catalogue, Item
from agents.core.seeds import Seeds
from analysis.results import Results
from analysis.transcripts import Transcripts
from simulators.core.judge import RecordedDialogue, Subject
from sweeps import identity
from sweeps.judgements import StoredDialogue
from sweeps.plan import Plan


class Block(NamedTuple):
    """A text to read: a heading, and the messages below it."""

    heading: str
    messages: Sequence[Message]


@dataclass(frozen=True)
class Unit:
    """The subject of a label. `columns` identify it in `judgements`."""

    columns: Mapping[str, Any]
    source: int
    case_id: str
    swapped: bool
    """Whether A is the second side of the pair."""
    kind: str
    """The kind of subject, which determines the questions asked about it."""
    noun: str
    blocks: Sequence[Block]
    facts: Sequence[Item]
    title: str = ""
    """The item in question, if it is shown by its name."""
    part: int = 0
    """Units of a part are shown after all units of earlier parts; 0 if there are no parts."""
    profile: Sequence[str] = ()
    """Lines about the person whose place people take; empty if they take none."""

    @property
    def digest(self) -> str:
        return identity.digest([self.columns, self.kind] if self.part else self.columns)


class Drawable(NamedTuple):
    """Something that may be labelled. `group` is the case in one repetition, `key` its cells."""

    group: tuple[int, str, Seeds]
    key: tuple[int, ...]
    what: Any


ByCase = Mapping[str, list[list[Drawable]]]
"""Case -> its repetitions, each with what the cells have of it."""


@dataclass(frozen=True)
class Chooser(ABC):
    """Chooses the units of one folder."""

    plan: Plan
    results: Results
    transcripts: Transcripts
    cases: int
    seed: int

    @abstractmethod
    def _candidates(self) -> list[Drawable]:
        """Everything that may be labelled."""

    @abstractmethod
    def _units(self) -> Iterator[Unit]:
        """The units of what is `_chosen`."""

    @abstractmethod
    def _why(self) -> str:
        """Why there are no units."""

    def units(self) -> list[Unit]:
        """The units in the order in which they are shown. Raises UsageError if there are none."""
        units = list(self._units())
        if not units:
            raise UsageError(f"{self.results.folder} has nothing to label: {self._why()}")
        return sorted(units, key=lambda u: (u.part, identity.number(u.digest, self._key)))

    def pool(self) -> tuple[int, int]:
        """The number of complete cases that the units were drawn from, and of planned ones, over
        all sources that have units."""
        complete = self._complete
        return sum(map(len, complete.values())), sum(len(self.plan.sources[s]) for s in complete)

    @property
    def _key(self) -> bytes:
        return b"%d" % self.seed

    @cached_property
    def _complete(self) -> dict[int, ByCase]:
        """By source and case: the complete repetitions, each with what every cell has of it."""
        keys: dict[int, set[tuple[int, ...]]] = {}
        groups: dict[tuple[int, str, Seeds], list[Drawable]] = {}
        for one in self._candidates():
            keys.setdefault(one.group[0], set()).add(one.key)
            groups.setdefault(one.group, []).append(one)
        cases: dict[int, dict[str, list[list[Drawable]]]] = {}
        for (source, case, _), members in sorted(groups.items(), key=lambda group: group[0][2]):
            if {member.key for member in members} == keys[source]:
                cases.setdefault(source, {}).setdefault(case, []).append(members)
        return dict(cases)

    @property
    def _drawable(self) -> Mapping[int, ByCase]:
        """What cases are drawn from, by source."""
        return self._complete

    def _chosen(self) -> list[Drawable]:
        """The first `cases` drawable cases of each source, in an order set by the seed."""
        chosen: list[Drawable] = []
        for by_case in self._drawable.values():
            for case in sorted(by_case, key=lambda c: identity.number(c, self._key))[: self.cases]:
                repetitions = by_case[case]
                chosen += repetitions[
                    identity.number(f"{case}\0seeds", self._key) % len(repetitions)
                ]
        return chosen

    def _dialogues(self) -> list[Drawable]:
        """Every finished dialogue, by its position."""
        return [
            Drawable((self.plan.cells[cell].source, case, seeds), (cell,), place)
            for (cell, case, seeds), place in self.transcripts.places.items()
        ]

    def _case(self, dialogue: StoredDialogue) -> tuple[int, str]:
        return self.plan.cells[dialogue.cell].source, dialogue.case_id

    def _catalogue(self, cell: int) -> Catalogue:
        return self.plan.sources[self.plan.cells[cell].source].domain.catalogue

    def _recorded(self, dialogue: StoredDialogue) -> RecordedDialogue:
        return dialogue.recorded(self._catalogue(dialogue.cell))


def dialogue_columns(dialogue: StoredDialogue) -> dict[str, Any]:
    """The columns of `judgements` that identify a dialogue."""
    return {
        "episode_id": dialogue.episode_id,
        "attempt_id": dialogue.attempt_id,
        "transcript_hash": dialogue.transcript_hash,
    }


def subject_columns(stored: StoredDialogue, subject: Subject) -> dict[str, Any]:
    """The columns of `judgements` that identify a subject in one dialogue."""
    return {
        **dialogue_columns(stored),
        **{f"other_{name}": None for name in dialogue_columns(stored)},
        "prefix": None,
        "turn": subject.turn,
        "other_reply": None,
        "item": None if subject.item is None else subject.item.id,
    }
