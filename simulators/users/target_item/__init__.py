"""The user with one target item (AF-IRS, section 5.1.2 and Figure 4; after iEvalLM).

It knows its history, its target and the facts about the target. It accepts when the target is
recommended, refuses when it is not, answers questions from the facts, may end the dialogue, and
must never say the title. The paper uses one prompt for all of that and reads the words; here the
same instructions are in every prompt, and the reply's schema holds decision and words apart.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from agents.core.ask import Ask
from agents.core.dialogue import Dialogue, UserTurn
from agents.core.items import Item, facts_of
from agents.core.steps import ReplyModel, Step
from simulators.core.user import User, UserContext, UserOptions
from simulators.users.core.hidden import GuardedWords, Secrets, knew

__all__ = ["TargetItem"]


class _Opening(ReplyModel):
    words: GuardedWords


class _Answer(ReplyModel):
    words: GuardedWords
    leaves: Annotated[bool, Field(description="Set this to true only to end the conversation now.")]


class _Verdict(_Answer):
    decision: Annotated[
        Literal["accept", "refuse"], Field(description="Accept or refuse what is recommended.")
    ]


_OPEN = Step("open", "verbalise", _Opening)
_ANSWER = Step("answer", "verbalise", _Answer)
_JUDGE = Step("judge", "choose", _Verdict)
_SAY = Step("say", "verbalise", _Answer)


class _Options(UserOptions):
    decides: Literal["model", "rule"] = "model"
    """Who decides on a recommendation: the model (the paper), or the rule that accepts exactly
    when the target is shown, the model only finding the words."""
    max_facts: Annotated[int, Field(ge=1)] | None = None
    """At most so many facts a message (LatentCRS, appendix D: fewer than 3); no cap: None."""
    leak_guard: bool = False
    """Ask again when the words name the title before it was shown. Leaks are always recorded."""
    history_items: Annotated[int, Field(ge=0, le=200)] = 10
    """How many of its latest items the prompts show."""


class TargetItem(User):
    """Wants one item, and knows it."""

    version = 6
    Options = _Options
    options: _Options
    steps = (_OPEN, _ANSWER, _JUDGE, _SAY)

    def __init__(self, options: _Options, context: UserContext) -> None:
        super().__init__(options, context)
        self._target: Item = context.case.hidden.targets[0]
        latest = options.history_items
        self._known = {
            "noun": context.catalogue.noun,
            "history": context.case.visible.history[-latest:] if latest else (),
            "target": self._target,
            "facts": facts_of(self._target),
            "description": self._target.description,
            "limit": options.max_facts,
        }
        self._secrets = Secrets([self._target], context.catalogue)

    async def open(self, ask: Ask) -> UserTurn:
        reply = await ask(_OPEN, **self._known, **self._guarded, conversation=[])
        extra = {"knew": knew([self._target], self._known["facts"])}
        return UserTurn(reply.words, "answer", extra={**extra, **self._secrets.record(reply.words)})

    async def reply(self, dialogue: Dialogue, ask: Ask) -> UserTurn:
        shown = dialogue.shown
        self._secrets.shown(shown)
        fields = {
            **self._known,
            **self._guarded,
            "conversation": dialogue.messages,
            "items": shown,
        }
        if not shown:
            answer = await ask(_ANSWER, **fields)
            return UserTurn(
                answer.words,
                "answer",
                leaves=answer.leaves,
                extra=self._secrets.record(answer.words),
            )
        rule = "accept" if self._target in shown else "refuse"
        if self.options.decides == "rule":
            said = await ask(_SAY, **fields, verdict=rule)
            shows = "shown" if rule == "accept" else "not shown"
            return self._decided(rule, said, {"why": f"the target is {shows}"})
        verdict = await ask(_JUDGE, **fields)
        extra: dict[str, Any] = {"disagrees": verdict.decision != rule, "rule_decision": rule}
        return self._decided(verdict.decision, verdict, extra)

    def _decided(
        self, decision: Literal["accept", "refuse"], said: _Answer, extra: dict[str, Any]
    ) -> UserTurn:
        shown = (
            self._target
            if decision == "accept" and extra.get("rule_decision") != "refuse"
            else None
        )
        return UserTurn(
            said.words,
            decision,
            shown,
            said.leaves,
            extra={**extra, **self._secrets.record(said.words)},
        )

    @property
    def _guarded(self) -> dict[str, Any]:
        return self._secrets.guarded(self.options.leak_guard)
