"""The user of the multi-round setting (EAR, section 5.1; SCPR; UNICORN, section 5.1.3).

It wants its targets, and answers by rules, without a model:

- It opens with one attribute value of the first target, drawn by the sampling seed.
- It says yes to a value that the target has, else no; of several values that are asked about at
  once, it picks those that the target has.
- It accepts the first target that is shown and refuses everything else. The dialogue ends at the
  sweep's `limits.max_turns` (15 in the papers), or after `patience` turns.

With several targets, a value counts as wanted while one of the targets that have everything wanted
so far has it: so what it wants always describes at least one of them. A target without attributes
cannot be described; such a user opens without a value. It understands the questions of agents that
ask about attributes (`agents.multi_round.talk`), and no others.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from agents.core.ask import Ask
from agents.core.dialogue import Dialogue, UserTurn
from agents.core.items import Fact, Item, facts_of, with_article
from agents.core.seeds import call_seed
from agents.multi_round import talk
from agents.multi_round.space import AttributeSpace, Form
from agents.multi_round.talk import Reader
from simulators.core.user import User, UserContext, UserOptions

__all__ = ["AttributeUser"]

_FORMS: tuple[Form, ...] = ("binary", "enumerated")


class _Options(UserOptions):
    patience: Annotated[int, Field(ge=1)] | None = None
    """It leaves after this many turns; by default, it stays until the sweep's limit."""


class AttributeUser(User):
    """Wants its targets, and answers questions about attributes."""

    version = 1
    Options = _Options
    options: _Options
    roles: ClassVar[tuple[str, ...]] = ()
    steps = ()
    understands_attributes_only = True

    def __init__(self, options: _Options, context: UserContext) -> None:
        super().__init__(options, context)
        self._targets = context.case.hidden.targets
        self._described = list(self._targets)
        """The targets that have every value that the user has said it wants."""

    async def open(self, ask: Ask) -> UserTurn:
        space = self._space("binary")
        facts = self._facts(self._targets[0], space)
        record = {"knew": {"targets": [target.id for target in self._targets]}}
        if not facts:
            return UserTurn(f"I am looking for {with_article(space.noun)}.", "answer", extra=record)
        seed = call_seed(ask.sampling, ask.scope, "user", "open", turn=0, draw=0, reask=0)
        fact = facts[seed % len(facts)]
        self._want([fact])
        return UserTurn(talk.opening(fact, space.noun), "answer", extra=record)

    async def reply(self, dialogue: Dialogue, ask: Ask) -> UserTurn:
        turn = self._turn(dialogue)
        leaves = self.options.patience is not None and dialogue.turn >= self.options.patience
        if turn.decision == "accept" or not leaves:
            return turn
        return UserTurn(turn.text, turn.decision, leaves=True, extra=turn.extra)

    def _turn(self, dialogue: Dialogue) -> UserTurn:
        shown = dialogue.shown
        if shown:
            right = next((item for item in shown if item in self._targets), None)
            if right is None:
                return UserTurn(talk.REFUSAL, "refuse", extra={"why": "no target is shown"})
            why = {"why": "a target is shown", "accepted_target": True}
            return UserTurn(talk.acceptance(right), "accept", right, extra=why)
        text = dialogue.whole[-1].text
        for form in _FORMS:
            space = self._space(form)
            asked = Reader.of(space).questions.get(text)
            if asked is None:
                continue
            wanted = [
                fact
                for fact in (space.facts[place] for place in space.questions[asked].facts)
                if any(self._has(target, fact) for target in self._described)
            ]
            if form == "enumerated":
                wanted = self._together(wanted)
            self._want(wanted)
            if form == "binary":
                return UserTurn("Yes." if wanted else "No.", "answer")
            return UserTurn(talk.picks(wanted), "answer")
        return UserTurn("I do not understand.", "answer", extra={"understood": False})

    def _together(self, wanted: list[Fact]) -> list[Fact]:
        """Of facts of several targets, those of the first one that has any."""
        first = next((t for t in self._described if any(self._has(t, f) for f in wanted)), None)
        return [fact for fact in wanted if first is not None and self._has(first, fact)]

    def _want(self, facts: list[Fact]) -> None:
        self._described = [
            target for target in self._described if all(self._has(target, f) for f in facts)
        ]

    def _space(self, form: Form) -> AttributeSpace:
        return AttributeSpace.of(self.context.catalogue, form)

    @staticmethod
    def _has(item: Item, fact: Fact) -> bool:
        return fact.value in item.attributes.get(fact.attribute, ())

    @staticmethod
    def _facts(item: Item, space: AttributeSpace) -> list[Fact]:
        """Those that are asked about, in the order of the space."""
        own = set(facts_of(item))
        return [fact for fact in space.facts if fact in own]
