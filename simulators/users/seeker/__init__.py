"""The seeker of RSO (Zhao et al., section IV-A and its released code): a person who wants a movie.

It knows the genres that it wants, and the person behind it as far as that is known: demographics,
the Big Five, what the person values and how it decides (INSPIRED's surveys). It knows no target. It
talks in its own words; by default nothing but a critic says whether it has accepted.

Decided here:

- Its first words are "Hello.", as in the released code; `opening: null` has the model say them.
- `decides: model` asks it to accept or refuse what is shown; `decides: rule` accepts the first
  shown item with all wanted genres, and the model only finds the words.
- It knows nothing of a recommended item but what the recommender says, as in RSO;
  `item_facts: true` lists what the catalogue has on it.
- Scales are shown in words: up to 2.5 low, from 3.5 high, else middling (of values: up to 2.5, from
  5).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from agents.core.ask import Ask
from agents.core.dialogue import Dialogue, UserDecision, UserTurn
from agents.core.errors import UsageError
from agents.core.items import Fact, Item, facts_of
from agents.core.steps import Bound
from simulators.core.seekers import Person, SeekingCase
from simulators.core.user import User, UserContext, UserOptions
from simulators.users.core.accepting import ANSWER, JUDGE, OPEN, accepted_item

__all__ = ["Seeker"]

_TRAITS: Mapping[str, tuple[str, str, str]] = {
    "extrovert": ("reserved and quiet", "neither quiet nor outgoing", "outgoing and talkative"),
    "agreeable": ("critical of others", "sometimes critical, sometimes warm", "warm and trusting"),
    "conscientious": ("easy-going about plans", "fairly organised", "organised and careful"),
    "neurotic": ("calm and relaxed", "calm most of the time", "easily worried"),
    "open": ("fond of what you know", "open to something new at times", "curious and imaginative"),
}
_DECIDING = ("rational", "feeling")
_LOW, _HIGH_TRAIT, _HIGH_VALUE = 2.5, 3.5, 5.0


class _Options(UserOptions):
    decides: Literal["critic", "model", "rule"] = "critic"
    """Who decides whether it accepts: only a critic (RSO), the model, or the rule."""
    persona: bool = True
    """Whether its prompts describe its person."""
    item_facts: bool = False
    """Whether its prompts list the catalogue's facts of recommended items."""
    opening: Annotated[str, Field(min_length=1, max_length=600)] | None = "Hello."
    """Its first message; `null`: the model writes it."""


class Seeker(User):
    """Wants an item of some genres, and talks as its person would."""

    version = 3
    Options = _Options
    options: _Options
    steps = (OPEN, ANSWER, JUDGE)

    def __init__(self, options: _Options, context: UserContext) -> None:
        super().__init__(options, context)
        hidden = context.case.hidden
        # Other domains have seekers too: of their one target's facts, the broadest.
        self._wishes = (
            tuple(Fact("genre", genre) for genre in hidden.genres)
            if isinstance(hidden, SeekingCase)
            else _broadest(hidden.targets)
        )
        self._person = hidden.person if isinstance(hidden, SeekingCase) else Person()

    async def open(self, ask: Ask) -> UserTurn:
        words = self.options.opening
        if words is None:
            words = (await ask(OPEN, **self._fields(), conversation=[])).words
        return UserTurn(words, "answer", extra={"knew": self._knew()})

    async def reply(self, dialogue: Dialogue, ask: Ask) -> UserTurn:
        shown = dialogue.shown
        fields = {**self._fields(), "conversation": dialogue.messages}
        if self.options.decides == "model" and shown:
            step = JUDGE.bounded(accepted=Bound(1, len(shown)))
            verdict = await ask(step, **fields, items=shown)
            accepted = accepted_item(verdict, shown)
            decision: UserDecision = "refuse" if accepted is None else "accept"
            return UserTurn(verdict.words, decision, accepted, extra={"why": verdict.reason})
        accepted = next((item for item in shown if self._wants(item)), None)
        words = (await ask(ANSWER, **fields, items=shown)).words
        if self.options.decides == "critic" or not shown:
            return UserTurn(words, "answer")
        return UserTurn(words, "refuse" if accepted is None else "accept", accepted)

    def _wants(self, item: Item) -> bool:
        return set(self._wishes) <= set(facts_of(item))

    def _fields(self) -> dict[str, Any]:
        person = self._person if self.options.persona else Person()
        return {
            "noun": self.context.catalogue.noun,
            "demographics": {name.replace("_", " "): words for name, words in
                             person.demographics.items()},
            "traits": [_TRAITS[name][_level(score, _HIGH_TRAIT)] for name, score in
                       person.traits.items() if name in _TRAITS],
            "important": _valued(person, 2),
            "unimportant": _valued(person, 0),
            "deciding": _deciding(person),
            "wishes": self._wishes,
            "item_facts": self.options.item_facts,
        }  # fmt: skip

    def _knew(self) -> dict[str, Any]:
        """For the record of the opening (JSON types)."""
        return {
            "facts": [f"{fact.attribute}: {fact.value}" for fact in self._wishes],
            "persona": self.options.persona and self._person != Person(),
        }


def _broadest(targets: tuple[Item, ...]) -> tuple[Fact, ...]:
    """The first fact of the first target. Raises UsageError if there is none, so
    nothing to want."""
    found = [fact for target in targets[:1] for fact in facts_of(target)[:1]]
    if not found:
        raise UsageError(
            "the user seeker needs a case with genres (the domains inspired and redial), or a "
            "target with a fact; found neither"
        )
    return tuple(found)


def _level(score: float, high: float) -> int:
    """0 low, 1 middling, 2 high."""
    return 0 if score <= _LOW else 2 if score >= high else 1


def _valued(person: Person, level: int) -> list[str]:
    """What the person values at this level."""
    return [
        name
        for name, score in person.values.items()
        if name not in _DECIDING and _level(score, _HIGH_VALUE) == level
    ]


def _deciding(person: Person) -> str:
    """How the person decides, in words; empty where it is not known or undecided."""
    reason, feeling = (person.values.get(name, 0.0) for name in _DECIDING)
    if reason == feeling:
        return ""
    return "with your head" if reason > feeling else "with your heart"
