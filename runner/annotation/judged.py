"""Units for the questions of a judge: pairs of replies or dialogues, or anything that it scores, on
its scales.

A judge whose dimensions are judged on different information (`intention`) has a unit for each of
them, in parts: people must not know what a later part shows when they answer an earlier one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from agents.core.dialogue import Message
from analysis.sql.verdicts import sql_string
from runner.annotation.units import (
    Block,
    Chooser,
    Drawable,
    Unit,
    dialogue_columns,
    subject_columns,
)
from simulators.core.judge import (
    JUDGES,
    DialogueJudge,
    HistoryOptions,
    RecordedDialogue,
    Stage,
    Subject,
    items_of_both,
)
from sweeps import identity
from sweeps.judgements import StoredDialogue
from sweeps.judges import PairChoice, PlannedJudge, opponents
from workers.resources import speaker_of


class StoredPair(NamedTuple):
    """A pair of stored dialogues, by position; for replies also the columns of the judgement."""

    first: int
    second: int
    stored: Mapping[str, Any] | None


@dataclass(frozen=True)
class PairChooser(Chooser):
    """Chooses pairs for the questions of a judge of pairs. The seed also sets which side is A."""

    judge: PlannedJudge

    def _candidates(self) -> list[Drawable]:
        choice = self._choice
        stored = self._stored_replies() if choice.of == "response" else None
        against = opponents(choice, [cell.axes for cell in self.plan.cells])
        attempts = self.transcripts.heads["attempt_id"].to_pylist()
        found = []
        for (cell, case, seeds), first in self.transcripts.places.items():
            for other in against.get(cell, ()):
                second = self.transcripts.partner(other, case, seeds)
                if second is None:
                    continue
                columns = (
                    None if stored is None else stored.get((attempts[first], attempts[second]))
                )
                if stored is None or columns is not None:
                    group = (self.plan.cells[cell].source, case, seeds)
                    found.append(Drawable(group, (cell, other), StoredPair(first, second, columns)))
        return found

    def _units(self) -> Iterator[Unit]:
        chosen = [one.what for one in self._chosen()]
        read = self.transcripts.read([place for sides in chosen for place in sides[:2]])
        for sides in chosen:
            yield self._pair(read[sides.first], read[sides.second], sides.stored)

    def _why(self) -> str:
        if self._choice.of == "response":
            return (
                f"there are no cases for which the judge {self.judge.title} has compared the "
                "replies of every opponent; `crsweep judge` makes these replies"
            )
        return "there are no cases that every side of the pairs has finished"

    @property
    def _choice(self) -> PairChoice:
        assert self.judge.pairs is not None
        return self.judge.pairs

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
        others = {f"other_{k}": v for k, v in dialogue_columns(second).items()}
        columns = {**dialogue_columns(first), **others}
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


@dataclass(frozen=True)
class SubjectChooser(Chooser):
    """Chooses dialogues, whose turns, items or whole a judge scores."""

    judge: PlannedJudge

    def _candidates(self) -> list[Drawable]:
        return self._dialogues()

    def _units(self) -> Iterator[Unit]:
        speaker = speaker_of(self.judge.ref, JUDGES, "judge")
        judge = speaker.cls(speaker.options)
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
                    columns = subject_columns(stored, subject)
                    yield _stage_unit(columns, self._case(stored), dialogue.noun, stage, part)

    def _why(self) -> str:
        return f"the judge {self.judge.title} finds nothing to judge in its finished dialogues"


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
    columns = subject_columns(stored, subject)
    if subject.turn is None:
        blocks = [Block("Conversation", dialogue.messages())]
        return Unit(columns, *case, False, "dialogue", dialogue.noun, blocks, dialogue.last_shown)
    turn = dialogue.turn_of(subject)
    blocks = [Block("Conversation", dialogue.before(turn.number)), Block("Reply", [turn.reply])]
    return Unit(columns, *case, False, "turn", dialogue.noun, blocks, dialogue.spoken_of(turn))


def _any(column: str) -> str:
    return f"any_value({column})"
