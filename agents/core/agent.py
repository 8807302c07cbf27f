"""What every recommender agent is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from pydantic import Field

from agents.core.artifacts import Recipe
from agents.core.ask import Ask
from agents.core.dialogue import AgentTurn, Dialogue
from agents.core.items import Catalogue, Item, VisibleCase
from agents.core.memory import Memory
from agents.core.paths import PathText
from agents.core.plugins import Options, operational
from agents.core.steps import Step


class AgentOptions(Options):
    """Options that every agent has."""

    # The folder's digest is part of every episode's identity; its path is not.
    prompts: PathText | None = operational(None, description="folder of prompts to use instead")
    history_turns: Annotated[int, Field(ge=1)] | None = None
    """Prompts show the last so many turns of the dialogue, and say so; all of them: None."""


@dataclass(frozen=True, slots=True)
class AgentContext:
    """What an agent is given besides its options, in each episode."""

    catalogue: Catalogue
    case: VisibleCase
    shown_items: int
    """How many items may be shown in one turn."""
    artifacts: Mapping[str, Any] = field(default_factory=dict)
    """What `Agent.needs` asked for, by the names given there."""


class Agent(ABC):
    """A conversational recommender. One instance an episode, built on the worker."""

    Options: ClassVar[type[AgentOptions]] = AgentOptions
    version: ClassVar[int] = 1
    """Raised when the code changes what episodes come out as: their results are run again."""
    roles: ClassVar[tuple[str, ...]] = ("agent",)
    """The roles that it speaks for; `agent.planner` falls back to `agent`."""
    steps: ClassVar[tuple[Step[Any], ...]] = ()
    """Every step that it may ask for; none for one that calls no model."""
    asks_about_attributes: ClassVar[bool] = False
    """Whether its questions are those of `agents.multi_round.talk`, which users that no model plays
    understand. It needs a catalogue with attributes."""

    def __init__(self, options: AgentOptions, context: AgentContext) -> None:
        self.options = options
        self.context = context

    @classmethod
    def roles_of(cls, options: Any) -> tuple[str, ...]:
        """Those that it speaks for with these options."""
        return cls.roles

    @classmethod
    def needs(cls, options: Any) -> Mapping[str, Recipe]:
        """What must be prepared for an agent with these options, by the names it uses."""
        return {}

    @classmethod
    def memory(cls, options: Any) -> Memory | None:
        """How an agent with these options learns from dialogue to dialogue; None if it does not."""
        return None

    @abstractmethod
    async def respond(self, dialogue: Dialogue, ask: Ask) -> AgentTurn:
        """The next reply. `dialogue` ends with the user's latest words.

        Prompts are given `dialogue.messages`, which the option `history_turns` cuts.
        """

    async def would_recommend(self, dialogue: Dialogue, ask: Ask) -> tuple[Item, ...] | None:
        """What it would recommend now, for metrics such as DSR@t; None if it cannot tell.

        Called after an asking turn that reported no ranking, with a probing `ask`.
        """
        return None
