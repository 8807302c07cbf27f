"""Which of two recommenders is more proactive over a whole dialogue (CSI, section 4.3, appendix C.3
and Figure 4).

The paper asked people three questions about two dialogues (Figure 11): which recommender asks more
suitable questions (questionability), which makes more persuasive statements for this user
(persuasiveness), and which leads the user more effectively to a purchase (overall). Here they are
asked of a model, or of people by `crsweep annotate`.

Decided here: a tie is a possible answer, and the facts of the items that the dialogues showed last
are given, as in `pairwise`. The paper states neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from agents.core.ask import Ask
from agents.core.steps import Step
from simulators.core.judge import JudgeReply, Order, PairOptions, RecordedDialogue, Verdict
from simulators.core.pair_choices import ChoosingJudge, PairAnswer

__all__ = ["Proactiveness"]


class _Choices(JudgeReply):
    questionability: Annotated[
        PairAnswer,
        Field(
            description="Choose the one that asks more suitable questions to find out what the "
            "user needs."
        ),
    ]
    persuasiveness: Annotated[
        PairAnswer,
        Field(
            description="Choose the one that makes more persuasive statements, tailored to this "
            "user."
        ),
    ]
    overall: Annotated[
        PairAnswer,
        Field(description="Choose the one that leads the user more effectively to a purchase."),
    ]


_DIALOGUES = Step("compare_proactiveness", "choose", _Choices)


class _Options(PairOptions):
    pairs: Literal["dialogue"] = "dialogue"  # type: ignore[override]
    """Whole dialogues: single replies do not show how well a recommender asks and persuades."""


class Proactiveness(ChoosingJudge):
    """Chooses between A and B for questionability, persuasiveness and overall."""

    Options = _Options
    steps = (_DIALOGUES,)
    questions = ("questionability", "persuasiveness", "overall")

    async def compare(
        self, first: RecordedDialogue, second: RecordedDialogue, order: Order, ask: Ask
    ) -> Sequence[Verdict]:
        return await self.choose_dialogue(_DIALOGUES, first, second, order, ask)
