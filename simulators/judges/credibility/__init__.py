"""Credibility: what the recommender claims against the facts of the items (PC-CRS; DESIRE, eq. 12;
RSO, section IV-C).

One score from 1 to 5 for each turn that may hold a claim about an item: one that shows items, or
that persuades after items were shown. A claim that the catalogue does not support counts against
the recommender even if the world knows it to be true: only the catalogue is given, and a model's
memory is not evidence. A reply that claims nothing scores 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from agents.core.ask import Ask
from agents.core.dialogue import Message
from agents.core.steps import Step
from simulators.core.judge import (
    DialogueJudge,
    Dimension,
    JudgeReply,
    RecordedDialogue,
    Subject,
    Verdict,
    scale,
    verdicts_of,
)

__all__ = ["Credibility"]


class _Score(JudgeReply):
    credibility: Annotated[int, scale(1, 5, "Rate how well the facts support the claims.")]


_CHECK = Step("check", "score", _Score)


class Credibility(DialogueJudge):
    """Rates the claims of each recommending or persuading turn against the items' facts."""

    version = 2
    steps = (_CHECK,)

    @classmethod
    def dimensions(cls, options: Any) -> tuple[Dimension, ...]:
        return (Dimension("credibility", "turn", 1, 5),)

    def subjects(self, dialogue: RecordedDialogue) -> Sequence[Subject]:
        return [Subject(turn.number) for turn in dialogue.turns if dialogue.spoken_of(turn)]

    async def judge_subject(
        self, dialogue: RecordedDialogue, subject: Subject, ask: Ask
    ) -> Sequence[Verdict]:
        turn = dialogue.turn_of(subject)
        reply = ask(
            _CHECK,
            noun=dialogue.noun,
            items=dialogue.spoken_of(turn),
            reply=[Message("recommender", turn.agent_text)],
        )
        return await verdicts_of(reply, subject, ["credibility"], getattr)
