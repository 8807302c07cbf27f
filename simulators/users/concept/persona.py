"""Personas of CONCEPT: four age groups and twelve emotional styles, described in our own words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from agents.core.ask import Ask
from agents.core.items import Fact
from agents.core.seeds import call_seed

Age = Literal["children", "teens", "adults", "seniors"]
EmotionalStyle = Literal[
    "anticipation",
    "boredom",
    "confusion",
    "curiosity",
    "delight",
    "disappointment",
    "excitement",
    "frustration",
    "indifference",
    "satisfaction",
    "surprise",
    "trust",
]

AGES: dict[Age, str] = {
    "children": "You are a child of about ten and use simple words.",
    "teens": "You are a teenager and talk the way teenagers do.",
    "adults": "You are an adult in your thirties or forties.",
    "seniors": "You are over seventy and take your time.",
}
EMOTIONAL_STYLES: dict[EmotionalStyle, str] = {
    "anticipation": "You look forward to the recommendations and expect to discover something new.",
    "boredom": "You are easily bored, and few recommendations hold your attention.",
    "confusion": "You are easily confused and do not quite understand how the recommender works or "
    "what its suggestions mean.",
    "curiosity": "You are curious about what the recommender suggests to someone with your "
    "preferences.",
    "delight": "You are delighted when a recommendation turns out to be a little-known find.",
    "disappointment": "You are easily disappointed when a recommendation misses what you like.",
    "excitement": "You are easily excited, and enthusiastic about every discovery.",
    "frustration": "You are easily frustrated when the conversation makes no progress.",
    "indifference": "You are indifferent: recommendations neither please nor annoy you.",
    "satisfaction": "You are content when a recommendation matches what you like.",
    "surprise": "You like to be surprised by recommendations that you did not expect.",
    "trust": "You trust the recommender more with every suggestion that suits you.",
}


class Persona(NamedTuple):
    age: Age
    style: EmotionalStyle


def draw_persona(ask: Ask, age: Age | None, style: EmotionalStyle | None) -> Persona:
    """The persona of a case in one repetition; `age` and `style` are used if they are given.

    It depends on the case and the sampling seed alone, so the user has the same one before every
    agent (common random numbers). Each of the 48 is equally likely.
    """
    number = _drawn(ask, "persona")
    ages, styles = list(AGES), list(EMOTIONAL_STYLES)
    drawn = Persona(ages[number % len(ages)], styles[number // len(ages) % len(styles)])
    return Persona(age or drawn.age, style or drawn.style)


def draw_wanted(ask: Ask, facts: Sequence[Fact], most: int | None) -> tuple[Fact, ...]:
    """At most `most` of `facts` in their order, drawn as the persona is; all of them for None."""
    order = sorted(facts, key=lambda fact: _drawn(ask, f"wanted {fact.attribute}: {fact.value}"))
    drawn = order[:most]
    return tuple(fact for fact in facts if fact in drawn)


def _drawn(ask: Ask, what: str) -> int:
    """A number that depends on the case, the sampling seed and `what`."""
    return call_seed(ask.sampling, ask.scope, "user", what, 0, 0, 0)
