"""The aspects and scales of CRSArena-Eval (Joko and Hasibi, FACE, 2025), so that a judge can be
compared with its human labels.

- Each reply: relevance and interestingness, from 0 to 2.
- The whole dialogue: understanding, task completion, interest arousal, preference elicitation and
  explanation from 0 to 2, efficiency 0 or 1, overall impression from 0 to 4.

Names and scales are those of the published labels. What preference elicitation and explanation
mean is our reading: the data's documentation does not describe them.
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

__all__ = ["CRSArena"]


class _TurnScores(JudgeReply):
    relevance: Annotated[int, scale(0, 2, "Rate the relevance.")]
    interestingness: Annotated[int, scale(0, 2, "Rate the interestingness.")]


class _DialogueScores(JudgeReply):
    understanding: Annotated[int, scale(0, 2, "Rate the understanding.")]
    task_completion: Annotated[int, scale(0, 2, "Rate the task completion.")]
    interest_arousal: Annotated[int, scale(0, 2, "Rate the interest arousal.")]
    efficiency: Annotated[int, scale(0, 1, "Rate the efficiency.")]
    preference_elicitation: Annotated[int, scale(0, 2, "Rate the preference elicitation.")]
    explanation: Annotated[int, scale(0, 2, "Rate the explanation.")]
    dialog_overall: Annotated[int, scale(0, 4, "Rate the overall impression.")]


_TURN = Step("rate_turn", "score", _TurnScores)
_DIALOGUE = Step("rate_dialogue", "score", _DialogueScores)

_OF_TURNS = {"relevance": 2, "interestingness": 2}
_OF_DIALOGUES = {
    "understanding": 2,
    "task_completion": 2,
    "interest_arousal": 2,
    "efficiency": 1,
    "preference_elicitation": 2,
    "explanation": 2,
    "dialog_overall": 4,
}
"""Name -> highest score; the lowest is 0."""


class CRSArena(DialogueJudge):
    """Rates replies and dialogues on the aspects and scales of CRSArena-Eval."""

    Options = HistoryOptions
    options: HistoryOptions
    version = 2
    steps = (_TURN, _DIALOGUE)

    @classmethod
    def dimensions(cls, options: Any) -> tuple[Dimension, ...]:
        return (
            *(Dimension(name, "turn", 0, high) for name, high in _OF_TURNS.items()),
            *(Dimension(name, "dialogue", 0, high) for name, high in _OF_DIALOGUES.items()),
        )

    def subjects(self, dialogue: RecordedDialogue) -> Sequence[Subject]:
        if not dialogue.turns:
            return []
        return [*(Subject(turn.number) for turn in dialogue.turns), Subject()]

    async def judge_subject(
        self, dialogue: RecordedDialogue, subject: Subject, ask: Ask
    ) -> Sequence[Verdict]:
        latest = self.options.history_turns
        if subject.turn is None:
            whole = ask(_DIALOGUE, noun=dialogue.noun, conversation=dialogue.messages(latest))
            return await verdicts_of(whole, subject, list(_OF_DIALOGUES), getattr)
        turn = dialogue.turn_of(subject)
        reply = ask(
            _TURN,
            noun=dialogue.noun,
            conversation=dialogue.before(turn.number, latest),
            reply=[turn.reply],
        )
        return await verdicts_of(reply, subject, list(_OF_TURNS), getattr)
