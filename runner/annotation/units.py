"""What people label: pairs of replies or dialogues, or anything that a judge scores, on its scales.

A judge whose dimensions are judged on different information (`intention`) has a unit for each of
them, in parts: people must not know what a later part shows when they answer an earlier one.

Cases are chosen per domain, in one repetition each, among those that every side has finished. A
seed determines which cases, their order, and which side is A.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from agents.core.dialogue import Message
from agents.core.errors import UsageError
from agents.core.items import Item
from agents.core.seeds import Seeds
from analysis.results import Results
from analysis.sql.verdicts import sql_string
from analysis.transcripts import Transcripts
from simulators.core.judge import (
    JUDGES,
    DialogueJudge,
    HistoryOptions,
    Judge,
    RecordedDialogue,
    Stage,
    Subject,
    items_of_both,
)
from sweeps import identity
from sweeps.judgements import StoredDialogue
from sweeps.judges import PairChoice, PlannedJudge, opponents
from sweeps.plan import Plan
from workers.resources import speaker_of


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

    @property
    def digest(self) -> str:
        return identity.digest([self.columns, self.kind] if self.part else self.columns)


class StoredPair(NamedTuple):
    """A pair of stored dialogues, by position; for replies also the columns of the judgement."""

    first: int
    second: int
    stored: Mapping[str, Any] | None


class _Found(NamedTuple):
    """A candidate. `group` is the case in one repetition, `key` its cells."""

    group: tuple[int, str, Seeds]
    key: tuple[int, ...]
    what: Any


@dataclass(frozen=True)
class Chooser:
    """Chooses the units of one folder, for the questions of one judge."""

    plan: Plan
    results: Results
    transcripts: Transcripts
    judge: PlannedJudge
    cases: int
    seed: int

    @property
    def instance(self) -> Judge:
        speaker = speaker_of(self.judge.ref, JUDGES, "judge")
        return speaker.cls(speaker.options)

    def units(self) -> list[Unit]:
        """The units in the order in which they are shown. Raises UsageError if there are none."""
        if self.judge.pairs is not None:
            units = list(self._pairs())
        else:
            units = list(self._subjects())
        if not units:
            raise UsageError(f"{self.results.folder} has nothing to label: {self._why()}")
        return sorted(units, key=lambda u: (u.part, identity.number(u.digest, self._key)))

    def pool(self) -> tuple[int, int]:
        """The number of complete cases that the units were drawn from, and of planned ones, over
        all sources that have units."""
        complete = self._complete
        return sum(map(len, complete.values())), sum(len(self.plan.sources[s]) for s in complete)

    def _why(self) -> str:
        if self.judge.pairs is None:
            return f"the judge {self.judge.title} finds nothing to judge in its finished dialogues"
        if self.judge.pairs.of == "response":
            return (
                f"there are no cases for which the judge {self.judge.title} has compared the "
                "replies of every opponent; `crsweep judge` makes these replies"
            )
        return "there are no cases that every side of the pairs has finished"

    # Pairs.

    def _sides(self, choice: PairChoice) -> list[_Found]:
        at = self.transcripts.places
        stored = self._stored_replies() if choice.of == "response" else None
        against = opponents(choice, [cell.axes for cell in self.plan.cells])
        attempts = self.transcripts.heads["attempt_id"].to_pylist()
        found = []
        for (cell, case, seeds), first in at.items():
            for other in against.get(cell, ()):
                second = self.transcripts.partner(other, case, seeds)
                if second is None:
                    continue
                columns = (
                    None if stored is None else stored.get((attempts[first], attempts[second]))
                )
                if stored is None or columns is not None:
                    group = (self.plan.cells[cell].source, case, seeds)
                    found.append(_Found(group, (cell, other), StoredPair(first, second, columns)))
        return found

    def _pairs(self) -> Iterator[Unit]:
        chosen = [one.what for one in self._chosen()]
        read = self.transcripts.read([place for sides in chosen for place in sides[:2]])
        for sides in chosen:
            yield self._pair(read[sides.first], read[sides.second], sides.stored)

    def _stored_replies(self) -> dict[tuple[str, str], dict[str, Any]]:
        """The stored rows of each pair of replies, by their attempts."""
        names = ("prefix", "turn", "other_reply")
        rows = self.results.query(
            f"SELECT attempt_id, other_attempt_id, {', '.join(map(_any, names))} FROM judgements "
            f"WHERE judge = {sql_string(self.judge.title)} AND annotator IS NULL "
            "AND other_reply IS NOT NULL AND status <> 'failed' GROUP BY ALL"
        ).fetchall()
        return {(a, b): dict(zip(names, rest, strict=True)) for a, b, *rest in rows}

    def _pair(
        self, first: StoredDialogue, second: StoredDialogue, stored: Mapping[str, Any] | None
    ) -> Unit:
        columns = {**_columns(first), **{f"other_{k}": v for k, v in _columns(second).items()}}
        one, two = self._recorded(first), self._recorded(second)
        if stored is None:
            sides = [one.messages(), two.messages()]
            before, facts = [], items_of_both(one.last_shown, two.last_shown)
            columns |= {"prefix": None, "turn": None, "other_reply": None}
        else:
            owner = one if stored["prefix"] == "a" else two
            own = owner.turns[stored["turn"] - 1].reply
            made = self._made(stored["other_reply"], first.cell)
            sides = [[own], [made]] if stored["prefix"] == "a" else [[made], [own]]
            before = owner.before(stored["turn"])
            facts = items_of_both(own.shown, made.shown)
            columns |= stored
        columns["item"] = None
        swapped = bool(identity.number(f"{identity.digest(columns)}\0side", self._key) % 2)
        a, b = sides[::-1] if swapped else sides
        blocks = [Block("A", a), Block("B", b)]
        if stored is not None:
            blocks = [Block("Conversation", before), *blocks]
        return Unit(columns, *self._case(first), swapped, "pair", one.noun, blocks, facts)

    def _made(self, reply: str, cell: int) -> Message:
        """The reply that was generated for a pair, as stored."""
        given = json.loads(reply)
        catalogue = self._catalogue(cell)
        return Message("recommender", given["text"], tuple(catalogue[i] for i in given["shown"]))

    # Turns and dialogues.

    def _subjects(self) -> Iterator[Unit]:
        judge = self.instance
        assert isinstance(judge, DialogueJudge)
        if isinstance(judge.options, HistoryOptions):  # people see everything
            judge.options = judge.options.model_copy(update={"history_turns": None})
        chosen = [one.what for one in self._chosen()]
        read = self.transcripts.read(chosen)
        for place in chosen:
            stored = read[place]
            dialogue = self._recorded(stored)
            for subject in judge.subjects(dialogue):
                stages = judge.stages(dialogue, subject)
                if not stages:
                    yield _subject_unit(stored, self._case(stored), dialogue, subject)
                for part, stage in enumerate(stages, start=1):
                    columns = _subject_columns(stored, subject)
                    yield _stage_unit(columns, self._case(stored), dialogue.noun, stage, part)

    # What both share.

    @property
    def _key(self) -> bytes:
        return b"%d" % self.seed

    @cached_property
    def _complete(self) -> dict[int, dict[str, list[list[_Found]]]]:
        """By source and case: the complete repetitions, each with what every cell has of it."""
        if self.judge.pairs is not None:
            found = self._sides(self.judge.pairs)
        else:
            found = [
                _Found((self.plan.cells[cell].source, case, seeds), (cell,), place)
                for (cell, case, seeds), place in self.transcripts.places.items()
            ]
        keys: dict[int, set[tuple[int, ...]]] = {}
        groups: dict[tuple[int, str, Seeds], list[_Found]] = {}
        for one in found:
            keys.setdefault(one.group[0], set()).add(one.key)
            groups.setdefault(one.group, []).append(one)
        cases: dict[int, dict[str, list[list[_Found]]]] = {}
        for (source, case, _), members in sorted(groups.items(), key=lambda group: group[0][2]):
            if {member.key for member in members} == keys[source]:
                cases.setdefault(source, {}).setdefault(case, []).append(members)
        return cases

    def _chosen(self) -> list[_Found]:
        """The first `cases` complete cases of each source, in an order set by the seed."""
        chosen: list[_Found] = []
        for by_case in self._complete.values():
            for case in sorted(by_case, key=lambda c: identity.number(c, self._key))[: self.cases]:
                repetitions = by_case[case]
                chosen += repetitions[
                    identity.number(f"{case}\0seeds", self._key) % len(repetitions)
                ]
        return chosen

    def _case(self, dialogue: StoredDialogue) -> tuple[int, str]:
        return self.plan.cells[dialogue.cell].source, dialogue.case_id

    def _catalogue(self, cell: int) -> Any:
        return self.plan.sources[self.plan.cells[cell].source].domain.catalogue

    def _recorded(self, dialogue: StoredDialogue) -> RecordedDialogue:
        return dialogue.recorded(self._catalogue(dialogue.cell))


def _columns(dialogue: StoredDialogue) -> dict[str, Any]:
    return {
        "episode_id": dialogue.episode_id,
        "attempt_id": dialogue.attempt_id,
        "transcript_hash": dialogue.transcript_hash,
    }


def _subject_columns(stored: StoredDialogue, subject: Subject) -> dict[str, Any]:
    return {
        **_columns(stored),
        **{f"other_{name}": None for name in _columns(stored)},
        "prefix": None,
        "turn": subject.turn,
        "other_reply": None,
        "item": None if subject.item is None else subject.item.id,
    }


def _stage_unit(
    columns: Mapping[str, Any], case: tuple[int, str], noun: str, stage: Stage, part: int
) -> Unit:
    blocks = [Block("What was said", stage.said)] if stage.said else []
    return Unit(
        columns, *case, False, stage.dimension, noun, blocks, stage.items, stage.title, part
    )


def _subject_unit(
    stored: StoredDialogue, case: tuple[int, str], dialogue: RecordedDialogue, subject: Subject
) -> Unit:
    columns = _subject_columns(stored, subject)
    if subject.turn is None:
        blocks = [Block("Conversation", dialogue.messages())]
        return Unit(columns, *case, False, "dialogue", dialogue.noun, blocks, dialogue.last_shown)
    turn = dialogue.turn_of(subject)
    blocks = [Block("Conversation", dialogue.before(turn.number)), Block("Reply", [turn.reply])]
    return Unit(columns, *case, False, "turn", dialogue.noun, blocks, dialogue.spoken_of(turn))


def _any(column: str) -> str:
    return f"any_value({column})"
