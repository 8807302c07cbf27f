"""Users that open, answer, and accept a recommended item: `ievalm` and `concept`.

Such a user never leaves before it accepts. The model names the shown item that it accepts, so that
wrong acceptances are recorded too. `seeker` has its own rules, and takes the steps and
`accepted_item` from here.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from agents.core.ask import Ask
from agents.core.dialogue import Dialogue, UserDecision, UserTurn
from agents.core.items import Item
from agents.core.steps import Bound, ReplyModel, Step, text
from simulators.core.user import User, UserContext, UserOptions
from simulators.users.core.hidden import GuardedWords, Secrets


class AcceptingOptions(UserOptions):
    """Options of both users."""

    decides: Literal["model", "rule"] = "model"
    """Who decides on a recommendation: the model; or the rule, which accepts exactly when a wanted
    item is shown, while the model only writes the message."""
    max_facts: Annotated[int, Field(ge=1)] | None = None
    """The maximum number of facts in one message; by default unlimited."""
    leak_guard: bool = True
    """Whether a message that names a target before it was shown is asked for again. Leaks are
    always recorded."""


class _Opening(ReplyModel):
    words: GuardedWords


class _Answer(ReplyModel):
    words: GuardedWords


class _Verdict(ReplyModel):
    reason: Annotated[
        str, text(300, "Say to yourself in one sentence how well the recommended items suit you.")
    ]
    accepted: Annotated[
        list[Annotated[int, Field(ge=1, le=100)]],
        Field(
            max_length=1,
            description="Give the number of the item that you accept; leave the list empty to "
            "accept none.",
        ),
    ]
    words: GuardedWords


OPEN = Step("open", "verbalise", _Opening)
ANSWER = Step("answer", "verbalise", _Answer)
JUDGE = Step("judge", "choose", _Verdict)
SAY = Step("say", "verbalise", _Answer)


def accepted_item(verdict: _Verdict, shown: Sequence[Item]) -> Item | None:
    """The item that a reply to `JUDGE` accepts."""
    return shown[verdict.accepted[0] - 1] if verdict.accepted else None


class AcceptingUser(User):
    """Wants something, and accepts the first item that matches."""

    Options = AcceptingOptions
    options: AcceptingOptions
    steps = (OPEN, ANSWER, JUDGE, SAY)

    def __init__(self, options: AcceptingOptions, context: UserContext) -> None:
        super().__init__(options, context)
        self.targets = context.case.hidden.targets
        self._secrets = Secrets(self.targets, context.catalogue)

    @abstractmethod
    def fields(self, ask: Ask) -> Mapping[str, Any]:
        """What the prompts of all its messages show about the user."""

    @abstractmethod
    def wants(self, item: Item, ask: Ask) -> bool:
        """Whether the rule accepts `item`."""

    @abstractmethod
    def knew(self, ask: Ask) -> dict[str, Any]:
        """What the user knew (JSON types), for the record of its opening."""

    @abstractmethod
    def why(self, accepted: Item | None) -> str:
        """The rule's reason, for the record."""

    async def open(self, ask: Ask) -> UserTurn:
        reply = await ask(OPEN, **self._fields(ask), conversation=[])
        return self._turn(reply.words, "answer", None, {"knew": self.knew(ask)})

    async def reply(self, dialogue: Dialogue, ask: Ask) -> UserTurn:
        shown = dialogue.shown
        self._secrets.shown(shown)
        fields = {**self._fields(ask), "conversation": dialogue.messages, "items": shown}
        if not shown:
            answer = await ask(ANSWER, **fields)
            return self._turn(answer.words, "answer", None, {})
        right = next((item for item in shown if self.wants(item, ask)), None)
        if self.options.decides == "rule":
            said = await ask(SAY, **fields, accepted=right)
            return self._decided(said.words, right, {"why": self.why(right)})
        step = JUDGE.bounded(accepted=Bound(1, len(shown)))
        verdict = await ask(step, **fields)
        accepted = accepted_item(verdict, shown)
        agrees = right is None if accepted is None else self.wants(accepted, ask)
        extra = {
            "why": verdict.reason,
            "rule_decision": "refuse" if right is None else "accept",
            "disagrees": not agrees,
        }
        return self._decided(verdict.words, accepted, extra)

    def _fields(self, ask: Ask) -> dict[str, Any]:
        guarded = self._secrets.guarded(self.options.leak_guard)
        own = {"noun": self.context.catalogue.noun, "limit": self.options.max_facts}
        return {**own, **self.fields(ask), **guarded}

    def _decided(self, words: str, accepted: Item | None, extra: Mapping[str, Any]) -> UserTurn:
        if accepted is None:
            return self._turn(words, "refuse", None, extra)
        is_target = {"accepted_target": accepted in self.targets}
        return self._turn(words, "accept", accepted, {**extra, **is_target})

    def _turn(
        self, words: str, decision: UserDecision, accepted: Item | None, extra: Mapping[str, Any]
    ) -> UserTurn:
        record = {**extra, **self._secrets.record(words)}
        return UserTurn(words, decision, accepted, extra=record)
