"""The base class of recommender agents."""

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
    """Prompts show only the last so many turns of the dialogue, and say so. None: all of them."""


@dataclass(frozen=True, slots=True)
class AgentContext:
    """What an agent receives in each episode, besides its options."""

    catalogue: Catalogue
    case: VisibleCase
    shown_items: int
    """How many items may be shown in one turn."""
    artifacts: Mapping[str, Any] = field(default_factory=dict)
    """What `Agent.needs` asked for, under the same names."""


class Agent(ABC):
    """A conversational recommender. There is one instance per episode, built on the worker."""

    Options: ClassVar[type[AgentOptions]] = AgentOptions
    version: ClassVar[int] = 1
    """Raise it when a code change alters dialogues, so that they are run again."""
    roles: ClassVar[tuple[str, ...]] = ("agent",)
    """The roles whose models it calls; `agent.planner` falls back to `agent`."""
    embedding_roles: ClassVar[tuple[str, ...]] = ()
    """Those of its roles whose models only embed; the models of all others must complete calls."""
    steps: ClassVar[tuple[Step[Any], ...]] = ()
    """Every step that it may ask for; none for one that calls no model."""
    asks_about_attributes: ClassVar[bool] = False
    """Whether it speaks in the fixed sentences of `agents.multi_round.talk`, which rule-based users
    understand. It then needs a catalogue with attributes."""

    def __init__(self, options: AgentOptions, context: AgentContext) -> None:
        self.options = options
        self.context = context

    @classmethod
    def roles_of(cls, options: Any) -> tuple[str, ...]:
        """The roles it uses with these options."""
        return cls.roles

    @classmethod
    def needs(cls, options: Any) -> Mapping[str, Recipe]:
        """The artifacts that an agent with these options needs, by the names it uses."""
        return {}

    @classmethod
    def memory(cls, options: Any) -> Memory | None:
        """How an agent with these options learns across dialogues; None if it does not."""
        return None

    @abstractmethod
    async def respond(self, dialogue: Dialogue, ask: Ask) -> AgentTurn:
        """Returns the next reply.

        `dialogue` ends with the user's latest message. Pass `dialogue.messages` to prompts, which
        the option `history_turns` cuts.
        """

    async def would_recommend(self, dialogue: Dialogue, ask: Ask) -> tuple[Item, ...] | None:
        """What it would recommend now, for metrics such as DSR@t; None if it cannot say.

        Called after an asking turn that reported no ranking, with a probing `ask`.
        """
        return None
