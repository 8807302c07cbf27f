"""Relevance of the recommender's replies (DESIRE, section 4.1.3).

Each reply is scored from 1 to 5 for clarity of expression, information sufficiency and preference
alignment. The paper does not print its prompt or say whether it asks once or three times; here one
call gives all three. `relevance` in tables is their mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from agents.core.ask import Ask
from agents.core.steps import Step
from simulators.core.judge import (
    DialogueJudge,
    Dimension,
    HistoryOptions,
    JudgeReply,
    RecordedDialogue,
    Subject,
    Verdict,
    scale,
    verdicts_of,
)

__all__ = ["Relevance"]

_DIMENSIONS = ("clarity", "sufficiency", "alignment")


class _Scores(JudgeReply):
    clarity: Annotated[int, scale(1, 5, "Rate the clarity of expression.")]
    sufficiency: Annotated[int, scale(1, 5, "Rate the information sufficiency.")]
    alignment: Annotated[int, scale(1, 5, "Rate the preference alignment.")]


_RATE = Step("rate", "score", _Scores)


class Relevance(DialogueJudge):
    """Rates every reply of the recommender for clarity, sufficiency and preference alignment."""

    Options = HistoryOptions
    options: HistoryOptions
    version = 2
    steps = (_RATE,)

    @classmethod
    def dimensions(cls, options: Any) -> tuple[Dimension, ...]:
        return tuple(Dimension(name, "turn", 1, 5) for name in _DIMENSIONS)

    def subjects(self, dialogue: RecordedDialogue) -> Sequence[Subject]:
        return [Subject(turn.number) for turn in dialogue.turns]

    async def judge_subject(
        self, dialogue: RecordedDialogue, subject: Subject, ask: Ask
    ) -> Sequence[Verdict]:
        turn = dialogue.turn_of(subject)
        reply = ask(
            _RATE,
            noun=dialogue.noun,
            conversation=dialogue.before(turn.number, self.options.history_turns),
            reply=[turn.reply],
        )
        return await verdicts_of(reply, subject, _DIMENSIONS, getattr)
