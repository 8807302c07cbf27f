"""Which of two replies, or of two dialogues, is better (DESIRE, section 4.4 and Table 5; CSI,
Figure 4 compares dialogues).

DESIRE's annotators saw one dialogue context and two anonymous responses, and chose the better one
or a tie for persuasiveness, trustworthiness and groundedness, and overall. The same is asked here
of a model, which knows the sides as A and B. For groundedness it is given the facts of the items:
those that the two replies show, or that the two dialogues showed last.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from agents.core.ask import Ask
from agents.core.steps import Step
from simulators.core.judge import (
    Dimension,
    JudgeReply,
    Order,
    PairJudge,
    RecordedDialogue,
    Subject,
    Verdict,
    check_same_context,
    items_of_both,
    verdicts_of,
)

__all__ = ["Pairwise"]

_DIMENSIONS = ("persuasiveness", "trustworthiness", "groundedness", "overall")
_VALUE_OF_A = {"A": 1.0, "tie": 0.5, "B": 0.0}
_Choice = Literal["A", "B", "tie"]


class _Choices(JudgeReply):
    persuasiveness: Annotated[_Choice, Field(description="Choose the more persuasive one.")]
    trustworthiness: Annotated[_Choice, Field(description="Choose the more trustworthy one.")]
    groundedness: Annotated[_Choice, Field(description="Choose the better grounded one.")]
    overall: Annotated[_Choice, Field(description="Choose the better one overall.")]


_REPLIES = Step("compare_replies", "choose", _Choices)
_DIALOGUES = Step("compare_dialogues", "choose", _Choices)


class Pairwise(PairJudge):
    """Chooses between A and B for persuasiveness, trustworthiness, groundedness and overall."""

    version = 2
    steps = (_REPLIES, _DIALOGUES)

    @classmethod
    def dimensions(cls, options: Any) -> tuple[Dimension, ...]:
        return tuple(Dimension(name, "pair", 0, 1) for name in _DIMENSIONS)

    async def compare(
        self, first: RecordedDialogue, second: RecordedDialogue, order: Order, ask: Ask
    ) -> Sequence[Verdict]:
        a, b = (first, second) if order == "ab" else (second, first)
        replies = self.options.pairs == "response"
        if replies:
            check_same_context(a, b)
        number = len(a.turns) if replies else 0
        step, fields = self._replies(a, b) if replies else self._dialogues(a, b)
        ask.journal.turn = number
        # The orders are numbered, so that either may be asked first or alone.
        reply = ask(step, draw=("ab", "ba").index(order), noun=a.noun, **fields)

        def value(given: _Choices, name: str) -> float:
            of_a = _VALUE_OF_A[getattr(given, name)]
            return of_a if order == "ab" else 1 - of_a

        return await verdicts_of(reply, Subject(number or None), _DIMENSIONS, value, order)

    def _replies(
        self, a: RecordedDialogue, b: RecordedDialogue
    ) -> tuple[Step[_Choices], dict[str, Any]]:
        last_a, last_b = a.turns[-1], b.turns[-1]
        return _REPLIES, {
            "conversation": a.before(last_a.number, self.options.history_turns),
            "items": items_of_both(last_a.shown, last_b.shown),
            "a": [last_a.reply],
            "b": [last_b.reply],
        }

    def _dialogues(
        self, a: RecordedDialogue, b: RecordedDialogue
    ) -> tuple[Step[_Choices], dict[str, Any]]:
        latest = self.options.history_turns
        return _DIALOGUES, {
            "items": items_of_both(a.last_shown, b.last_shown),
            "a": a.messages(latest),
            "b": b.messages(latest),
        }
