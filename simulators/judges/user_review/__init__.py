"""Reviews the simulated user's messages: is a message faulty, and does the fault help or hinder the
recommender?

Not from a paper. A fault of the simulated user changes the outcome of a dialogue for reasons
unrelated to the recommender; whether faults help or hinder it shows the direction of the error.
`crsweep validity` prints both shares. The judge sees only what was said, neither targets nor the
user's instructions, so it finds faults that a reader would find, not disobedience.

Each message of the user after a reply is reviewed in its context. `fault` is 1 for a faulty
message, otherwise 0; `effect` is 1 if the fault helps the recommender, -1 if it hinders it, and 0
if it does neither or there is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from agents.core.ask import Ask
from agents.core.dialogue import Message
from agents.core.steps import Step
from simulators.core.judge import (
    DialogueJudge,
    Dimension,
    HistoryOptions,
    JudgeReply,
    RecordedDialogue,
    Subject,
    Verdict,
    verdicts_of,
)

__all__ = ["UserReview"]

_VALUES = {
    "no fault": {"fault": 0, "effect": 0},
    "fault that helps": {"fault": 1, "effect": 1},
    "fault that hinders": {"fault": 1, "effect": -1},
    "fault without effect": {"fault": 1, "effect": 0},
}


class _Review(JudgeReply):
    verdict: Annotated[
        Literal["no fault", "fault that helps", "fault that hinders", "fault without effect"],
        Field(
            description="Say whether the message is faulty, and whether the fault helps or hinders."
        ),
    ]


_CHECK = Step("review", "score", _Review)


class UserReview(DialogueJudge):
    """Reviews every message of the user that answers the recommender."""

    Options = HistoryOptions
    options: HistoryOptions
    version = 2
    steps = (_CHECK,)

    @classmethod
    def dimensions(cls, options: Any) -> tuple[Dimension, ...]:
        return (Dimension("fault", "turn", 0, 1), Dimension("effect", "turn", -1, 1))

    def subjects(self, dialogue: RecordedDialogue) -> Sequence[Subject]:
        return [Subject(turn.number) for turn in dialogue.turns if turn.user_text]

    async def judge_subject(
        self, dialogue: RecordedDialogue, subject: Subject, ask: Ask
    ) -> Sequence[Verdict]:
        turn = dialogue.turn_of(subject)
        said = [*dialogue.before(turn.number, self.options.history_turns), turn.reply]
        reply = ask(
            _CHECK,
            noun=dialogue.noun,
            conversation=said,
            message=[Message("user", turn.user_text or "")],
        )
        return await verdicts_of(
            reply, subject, ["fault", "effect"], lambda given, name: _VALUES[given.verdict][name]
        )
