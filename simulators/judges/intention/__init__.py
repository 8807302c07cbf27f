"""How much a user would want an item, before and after the recommender's words (PC-CRS; DESIRE,
eq. 11; RSO, section IV-C).

Three calls, none of which sees another's reply:

- `pre`: from the item's name alone;
- `post`: from the name and the recommender's words, without the item's facts;
- `true`: from the name and all facts of the catalogue, without the recommender's words.

DESIRE judges the item that was accepted last, by the reply that the user accepted. RSO judges the
item that was recommended last, after the whole dialogue: `{name: intention, item: last_recommended,
words: dialogue}`; its watching intention is `post`. A dialogue without such an item is not judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from agents.core.ask import Ask
from agents.core.dialogue import Message
from agents.core.steps import Step
from simulators.core.judge import (
    DialogueJudge,
    Dimension,
    HistoryOptions,
    JudgeReply,
    RecordedDialogue,
    RecordedTurn,
    Stage,
    Subject,
    Verdict,
    scale,
    verdicts_of,
)

__all__ = ["Intention"]


class _Score(JudgeReply):
    intention: Annotated[int, scale(1, 5, "Rate how much you would want it.")]


_PRE = Step("pre", "score", _Score)
_POST = Step("post", "score", _Score)
_TRUE = Step("true", "score", _Score)


class _Options(HistoryOptions):
    item: Literal["accepted", "last_recommended"] = "accepted"
    """The item in question: the one accepted last (DESIRE), or the first of the list that was
    shown last (RSO)."""
    words: Literal["reply", "dialogue"] = "reply"
    """What `post` reads: the reply that recommended the item (DESIRE), or the whole dialogue
    (RSO)."""


class Intention(DialogueJudge):
    """Rates the wish to have an item: by its name, after the recommender's words, by its facts."""

    Options = _Options
    options: _Options
    version = 3
    steps = (_PRE, _POST, _TRUE)

    @classmethod
    def dimensions(cls, options: Any) -> tuple[Dimension, ...]:
        return tuple(Dimension(step.name, "recommendation", 1, 5) for step in cls.steps)

    def subjects(self, dialogue: RecordedDialogue) -> Sequence[Subject]:
        found = (
            dialogue.last_accepted if self.options.item == "accepted" else dialogue.last_recommended
        )
        return [] if found is None else [Subject(found[0].number, found[1])]

    async def judge_subject(
        self, dialogue: RecordedDialogue, subject: Subject, ask: Ask
    ) -> Sequence[Verdict]:
        verdicts: list[Verdict] = []
        for step, stage in zip(self.steps, self.stages(dialogue, subject), strict=True):
            shown: dict[str, Any] = {"title": stage.title}
            if step is _POST:
                shown["said"] = stage.said
            if step is _TRUE:
                shown["items"] = stage.items
            reply = ask(step, noun=dialogue.noun, **shown)
            verdicts += await verdicts_of(
                reply, subject, [step.name], lambda given, _: given.intention
            )
        return verdicts

    def stages(self, dialogue: RecordedDialogue, subject: Subject) -> Sequence[Stage]:
        item = subject.item
        assert item is not None
        said = self._said(dialogue, dialogue.turn_of(subject))
        return (
            Stage(_PRE.name, item.title),
            Stage(_POST.name, item.title, said=tuple(said)),
            Stage(_TRUE.name, item.title, items=(item,)),
        )

    def _said(self, dialogue: RecordedDialogue, turn: RecordedTurn) -> list[Message]:
        if self.options.words == "dialogue":
            return dialogue.messages(self.options.history_turns)
        return [Message("recommender", turn.agent_text)]
