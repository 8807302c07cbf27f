"""The tasks of kind `judgement`: one judge on one stored dialogue, or on a pair.

The id of a task is the digest of what its verdicts depend on: the judge, its model, and the text
that is judged. So a changed rubric adds new judgements to the old ones, and adding or removing
another judge has no effect.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from agents.core.dialogue import Action, UserDecision
from agents.core.items import Catalogue
from agents.core.seeds import Seeds
from simulators.core.judge import RecordedDialogue, RecordedTurn
from sweeps import identity
from sweeps.storage.records import JUDGEMENT
from sweeps.tasks import Task

PEOPLE = "people"
"""The `judge_digest` of labels by people; their `judge` is the plug-in whose questions they
answered, whatever its label."""

DECISIONS = "user_decision"
"""The `judge` of what people decided where the simulated user had accepted an item."""

DECISION = "decision"
"""Their dimension."""

DECISION_VALUES: Mapping[str, int] = {
    "accept recommendation": 1,
    "accept persuasion": 2,
    "reject": 0,
}
"""The labels of CSI, appendix D, and their values in `judgements`. Persuasion sells an item above
the budget, a recommendation one within."""

DECISION_LABELS: Mapping[float, str] = {value: label for label, value in DECISION_VALUES.items()}
"""The label of each of these values."""

Side = Literal["a", "b"]


class StoredTurn(NamedTuple):
    """A stored turn. Items are ids."""

    number: int
    agent_text: str
    action: Action
    shown: tuple[str, ...]
    user_text: str
    user_decision: UserDecision
    accepted: str | None


class StoredDialogue(NamedTuple):
    """A finished dialogue as stored, with its ids. Crosses processes."""

    episode_id: str
    attempt_id: str
    transcript_hash: str
    """As in the episode's row."""
    cell: int
    """The position of its cell in the plan."""
    case_id: str
    seeds: Seeds
    opening: str
    turns: tuple[StoredTurn, ...]

    def recorded(self, catalogue: Catalogue) -> RecordedDialogue:
        """The part that a judge may see. `catalogue` is that of its cell."""
        turns = (
            RecordedTurn(
                turn.number,
                turn.agent_text,
                turn.action,
                tuple(catalogue[item] for item in turn.shown),
                turn.user_text or None,  # empty messages were not said
                turn.user_decision,
                None if turn.accepted is None else catalogue[turn.accepted],
            )
            for turn in self.turns
        )
        return RecordedDialogue(catalogue.noun, self.opening or None, tuple(turns))


class Prefix(NamedTuple):
    """The common context of two replies: one dialogue of a pair, up to the reply of `turn`.

    The dialogue's own reply is the stored one; the other side's agent replies to the context now.
    """

    owner: Side
    turn: int


class JudgementSpec(NamedTuple):
    """The input of a judge: one dialogue, or a pair."""

    judge: int
    """The judge's position in the plan."""
    sample: int
    first: StoredDialogue
    second: StoredDialogue | None = None
    prefix: Prefix | None = None
    """None for a pair of whole dialogues."""


def judgement_task(digest: str, spec: JudgementSpec, transcripts: Sequence[str], cell: int) -> Task:
    """The first attempt at a judgement.

    `digest` is the judge's, `transcripts` are the hashes of what it reads. The episodes are part of
    the id: the same text in two cells makes two tasks, whose calls are equal and paid for once.
    """
    episodes = [d.episode_id for d in (spec.first, spec.second) if d is not None]
    named = [digest, episodes, transcripts, spec.prefix, spec.sample]
    return Task(JUDGEMENT, identity.digest(named), cell, spec)
