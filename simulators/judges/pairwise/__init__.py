"""Which of two replies, or of two dialogues, is better (DESIRE, section 4.4 and Table 5).

DESIRE's annotators saw one dialogue context and two anonymous responses, and chose the better one
or a tie for persuasiveness, trustworthiness and groundedness, and overall. The same is asked here
of a model, which knows the sides as A and B. For groundedness it is given the facts of the items:
those that the two replies show, or that the two dialogues showed last.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from agents.core.ask import Ask
from agents.core.steps import Step
from simulators.core.judge import (
    JudgeReply,
    Order,
    RecordedDialogue,
    Subject,
    Verdict,
    check_same_context,
    items_of_both,
)
from simulators.core.pair_choices import ChoosingJudge, PairAnswer, in_order

__all__ = ["Pairwise"]


class _Choices(JudgeReply):
    persuasiveness: Annotated[PairAnswer, Field(description="Choose the more persuasive one.")]
    trustworthiness: Annotated[PairAnswer, Field(description="Choose the more trustworthy one.")]
    groundedness: Annotated[PairAnswer, Field(description="Choose the better grounded one.")]
    overall: Annotated[PairAnswer, Field(description="Choose the better one overall.")]


_REPLIES = Step("compare_replies", "choose", _Choices)
_DIALOGUES = Step("compare_dialogues", "choose", _Choices)


class Pairwise(ChoosingJudge):
    """Chooses between A and B for persuasiveness, trustworthiness, groundedness and overall."""

    version = 2
    steps = (_REPLIES, _DIALOGUES)
    questions = ("persuasiveness", "trustworthiness", "groundedness", "overall")

    async def compare(
        self, first: RecordedDialogue, second: RecordedDialogue, order: Order, ask: Ask
    ) -> Sequence[Verdict]:
        if self.options.pairs == "dialogue":
            return await self.choose_dialogue(_DIALOGUES, first, second, order, ask)
        check_same_context(first, second)
        a, b = in_order(first, second, order)
        last_a, last_b = a.turns[-1], b.turns[-1]
        fields = {
            "noun": a.noun,
            "conversation": a.before(last_a.number, self.options.history_turns),
            "items": items_of_both(last_a.shown, last_b.shown),
            "a": [last_a.reply],
            "b": [last_b.reply],
        }
        return await self.choose(_REPLIES, Subject(last_a.number), order, ask, fields)
