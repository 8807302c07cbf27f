"""`crsweep annotate export --decisions`: what people would decide where the simulated user bought
(CSI, section 4.5, appendix D and Figure 6).

A unit is a dialogue in which the user accepted an item, up to the recommender's last message before
that. People see the profile that the simulated user had, what was said, and the items offered with
their prices, and decide for themselves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from agents.core.errors import UsageError
from agents.core.items import Item
from agents.core.plural import many
from analysis import sql
from runner.annotation.questions import LabelQuestion
from runner.annotation.units import Block, ByCase, Chooser, Drawable, Unit, subject_columns
from simulators.core.judge import Subject
from simulators.core.user import User, UserContext
from sweeps.artifacts import PROFILES
from sweeps.judgements import DECISION, DECISION_VALUES, StoredDialogue
from sweeps.speakers import USERS
from workers.resources import LoadedSpeaker, speaker_of

QUESTION = LabelQuestion(
    DECISION,
    "You are the person in the profile. Choose what you do after the recommender's last message.",
    DECISION,
    min(DECISION_VALUES.values()),
    max(DECISION_VALUES.values()),
)


class _Acceptance(NamedTuple):
    """The acceptance that ended a dialogue, and the ids of the items that were offered before."""

    turn: int
    over_budget: bool | None
    offered: tuple[str, ...]


@dataclass(frozen=True)
class DecisionChooser(Chooser):
    """Chooses dialogues in which the user accepted an item.

    A case is drawn with all its dialogues of one repetition that have an acceptance, of every
    cell. Dialogues in which an offered item has no known price are left out.
    """

    @cached_property
    def unpriced(self) -> int:
        """How many dialogues with an acceptance are left out because a price is unknown."""
        return sum(not self._is_priced(place) for place in self._accepted)

    def _units(self) -> Iterator[Unit]:
        self._check_users()
        chosen = [one.what for one in self._chosen()]
        read = self.transcripts.read(chosen)
        for place in chosen:
            yield self._unit(read[place], self._accepted[place])

    def _unit(self, stored: StoredDialogue, accepted: _Acceptance) -> Unit:
        dialogue = self._recorded(stored)
        last = dialogue.turns[accepted.turn - 1]
        messages = [*dialogue.before(last.number), last.reply]
        shown = {item.id: item for message in messages for item in message.shown}
        return Unit(
            subject_columns(stored, Subject(last.number)),
            *self._case(stored),
            False,
            DECISION,
            dialogue.noun,
            [Block("Conversation", messages)],
            list(shown.values()),
            profile=self._user(stored.cell, stored.case_id).portrait(),
        )

    def _candidates(self) -> list[Drawable]:
        return self._dialogues()

    @property
    def _drawable(self) -> Mapping[int, ByCase]:
        """Of the complete cases, the dialogues that can be labelled."""
        found = {}
        for source, by_case in self._complete.items():
            kept = {
                case: [left for each in repetitions if (left := self._labelled(each))]
                for case, repetitions in by_case.items()
            }
            found[source] = {case: left for case, left in kept.items() if left}
        return found

    def _labelled(self, repetition: list[Drawable]) -> list[Drawable]:
        return [
            one for one in repetition if one.what in self._accepted and self._is_priced(one.what)
        ]

    @cached_property
    def _accepted(self) -> dict[int, _Acceptance]:
        """Place of a dialogue -> its acceptance."""
        attempts = self.transcripts.heads["attempt_id"].to_pylist()
        place_of = {attempt: place for place, attempt in enumerate(attempts)}
        rows = self.results.query(
            "SELECT a.attempt_id, a.turn, a.over_budget, list_distinct(flatten(list(t.shown))) "
            f"FROM ({sql.read('acceptances')}) a JOIN turns t USING (attempt_id) "
            "WHERE t.turn <= a.turn GROUP BY ALL"
        ).fetchall()
        return {
            place_of[attempt]: _Acceptance(turn, over, tuple(offered))
            for attempt, turn, over, offered in rows
            if attempt in place_of
        }

    def _is_priced(self, place: int) -> bool:
        """Whether the prices of all offered items are known, and recorded of the accepted one."""
        catalogue = self._catalogue(self.transcripts.heads["cell"][place].as_py())
        accepted = self._accepted[place]
        offered: list[Item] = [catalogue[item] for item in accepted.offered]
        return accepted.over_budget is not None and all(item.price is not None for item in offered)

    def _why(self) -> str:
        if not self._accepted:
            return "in none of its finished dialogues did the user accept an item"
        if self.unpriced == len(self._accepted):
            return (
                f"the user accepted an item in {many(self.unpriced, 'dialogue')}, and in each of "
                "them the price of an offered item is unknown"
            )
        return "every case with an acceptance still lacks the dialogue of some cell"

    # The simulated users.

    def _check_users(self) -> None:
        """Raises UsageError if there are no profiles to show, or other ones than were played."""
        first: dict[int, str] = {}
        for cell, case, _ in self.transcripts.places:
            first.setdefault(cell, case)
        for cell, case in first.items():
            name = self.plan.cells[cell].config.simulator.name
            source = self.plan.sources[self.plan.cells[cell].source]
            if source.is_pending:
                raise UsageError(
                    f"{self.results.folder}: the profiles of its users are not in "
                    "`artifacts.path`; `crsweep prepare` writes them again"
                )
            if not self._user(cell, case).portrait():
                raise UsageError(
                    "--decisions shows people the profile and the budget of the simulated user, "
                    f"and {name} has none; expected a user with profiles, such as csuser"
                )
        self._check_profiles()

    def _check_profiles(self) -> None:
        """Raises UsageError if dialogues were played with other profiles than the present ones."""
        written = [source.written for source in self.plan.sources]
        digests = {found.digest for found in written if found is not None}
        if not digests:
            return
        played = self.results.query(
            f"SELECT DISTINCT map_extract(artifacts, '{PROFILES}')[1] FROM episodes "
            "WHERE status = 'done'"
        ).fetchall()
        if not {digest for (digest,) in played if digest is not None} <= digests:
            raise UsageError(
                f"{self.results.folder}: dialogues were played with other profiles than those in "
                "`artifacts.path` now; run the sweep again first"
            )

    def _user(self, cell: int, case_id: str) -> User:
        source = self.plan.sources[self.plan.cells[cell].source]
        case = source.domain.case(source.split, case_id)
        speaker = self._speakers[cell]
        return speaker.cls(speaker.options, UserContext(source.domain.catalogue, case))

    @cached_property
    def _speakers(self) -> dict[int, LoadedSpeaker]:
        return {
            index: speaker_of(cell.config.simulator, USERS, "simulator")
            for index, cell in enumerate(self.plan.cells)
        }
