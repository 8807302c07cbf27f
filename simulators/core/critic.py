"""The base class of critics, which watch a dialogue, score each turn, and may end the dialogue.

- A critic is called after the user's turn. It sees only what both sides said and the items shown:
  no target, need, strategy or ranking.
- Its verdicts are not part of the dialogue: neither side ever sees them. Its tokens are counted
  separately.
- If the user accepts or leaves, the dialogue ends in any case; the turn is scored anyway.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from pydantic import Field

from agents.core.ask import Ask
from agents.core.dialogue import Dialogue
from agents.core.paths import PathText
from agents.core.plugins import Options, operational
from agents.core.steps import Step
from agents.core.text import json_form

CRITICS = "simulators.critics"


class CriticOptions(Options):
    """Options that every critic has."""

    prompts: PathText | None = operational(None, description="folder of prompts to use instead")
    history_turns: Annotated[int, Field(ge=1)] | None = None
    """Prompts show only the last so many turns of the dialogue, and say so. None: all of them."""


@dataclass(frozen=True, slots=True)
class CriticTurn:
    """A critic's verdict on one turn.

    - `score`: from 0 to 1; None if the verdict is missing, which neither rewards nor stops.
    - `above`: whether the score is above the critic's threshold, which ends the dialogue.
    - `extra`: the critic's own record (JSON types), stored with the turn.
    """

    score: float | None
    above: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)


class Critic(ABC):
    """A critic of dialogues. There is one instance per episode, built on the worker.

    `noun` is the domain's word for an item, and the only thing it knows about the domain.
    """

    Options: ClassVar[type[CriticOptions]] = CriticOptions
    version: ClassVar[int] = 1
    """Raise it when a code change alters scores or prompts, so that dialogues are played again."""
    roles: ClassVar[tuple[str, ...]] = ("critic",)
    steps: ClassVar[tuple[Step[Any], ...]] = ()
    """Every step that it may use."""

    def __init__(self, options: CriticOptions, noun: str) -> None:
        self.options = options
        self.noun = noun

    @classmethod
    def draws(cls, options: Any) -> int:
        """How many replies of one model it compares; more than 1 needs a model that samples."""
        return 1

    @classmethod
    def temperature(cls, options: Any) -> float | None:
        """The temperature of its calls; None: the model's own."""
        return None

    @abstractmethod
    async def after_turn(self, dialogue: Dialogue, ask: Ask) -> CriticTurn:
        """The verdict on the latest turn. `dialogue` ends with the user's answer."""


def usable_critic_turn(given: object) -> CriticTurn:
    """A critic's verdict, checked so that it can be stored. Raises TypeError."""
    if not isinstance(given, CriticTurn):
        raise TypeError(f"expected a CriticTurn, found {type(given).__name__}")
    score = given.score
    if score is not None:
        if isinstance(score, bool) or not isinstance(score, int | float):
            raise TypeError(f"score: expected a number or None, found {type(score).__name__}")
        if not (math.isfinite(score) and 0 <= score <= 1):
            raise TypeError(f"score: expected a number from 0 to 1, found {score}")
        score = float(score)
    if given.above and score is None:
        raise TypeError("above: expected False if the score is missing")
    if not isinstance(given.extra, Mapping):
        raise TypeError(f"extra: expected a mapping, found {type(given.extra).__name__}")
    return CriticTurn(score, bool(given.above), json_form(given.extra, "extra"))
