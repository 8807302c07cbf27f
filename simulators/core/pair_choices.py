"""Judges of pairs that answer each of their questions by A, B or a tie, all in one call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

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
    items_of_both,
    verdicts_of,
)

PairAnswer = Literal["A", "B", "tie"]

_VALUE_OF_A = {"A": 1.0, "tie": 0.5, "B": 0.0}


class ChoosingJudge(PairJudge):
    """A judge whose reply has a field of type `PairAnswer` for each of its `questions`.

    The model knows the two sides as A and B.
    """

    questions: ClassVar[tuple[str, ...]]
    """Its dimensions."""

    @classmethod
    def dimensions(cls, options: Any) -> tuple[Dimension, ...]:
        return tuple(Dimension(name, "pair", 0, 1) for name in cls.questions)

    async def choose_dialogue(
        self,
        step: Step[Any],
        first: RecordedDialogue,
        second: RecordedDialogue,
        order: Order,
        ask: Ask,
    ) -> list[Verdict]:
        """Verdicts on two whole dialogues.

        The prompt gets them as `a` and `b`, and as `items` those that either showed last.
        """
        a, b = in_order(first, second, order)
        latest = self.options.history_turns
        fields = {
            "noun": a.noun,
            "items": items_of_both(a.last_shown, b.last_shown),
            "a": a.messages(latest),
            "b": b.messages(latest),
        }
        return await self.choose(step, Subject(), order, ask, fields)

    async def choose(
        self, step: Step[Any], subject: Subject, order: Order, ask: Ask, fields: dict[str, Any]
    ) -> list[Verdict]:
        """Verdicts on a pair whose sides `fields` have in this order; their values are those of
        the first side."""
        ask.journal.turn = subject.turn or 0
        # The orders are numbered, so that either may be asked first or alone.
        reply = ask(step, draw=("ab", "ba").index(order), **fields)

        def value(given: JudgeReply, name: str) -> float:
            of_a = _VALUE_OF_A[getattr(given, name)]
            return of_a if order == "ab" else 1 - of_a

        return await verdicts_of(reply, subject, self.questions, value, order)


def in_order(
    first: RecordedDialogue, second: RecordedDialogue, order: Order
) -> Sequence[RecordedDialogue]:
    """The sides that are presented as A and B."""
    return (first, second) if order == "ab" else (second, first)
