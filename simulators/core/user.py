"""The base class of simulated users."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import Field

from agents.core.ask import Ask
from agents.core.dialogue import Dialogue, UserTurn
from agents.core.items import Catalogue
from agents.core.paths import PathText
from agents.core.plugins import Options, operational
from agents.core.steps import Step
from simulators.core.cases import Case


class UserOptions(Options):
    """Options that every simulated user has."""

    prompts: PathText | None = operational(None, description="folder of prompts to use instead")
    history_turns: Annotated[int, Field(ge=1)] | None = None
    """Prompts show only the last so many turns of the dialogue, and say so. None: all of them."""


@dataclass(frozen=True, slots=True)
class UserContext:
    """What a simulated user receives in each episode, besides its options."""

    catalogue: Catalogue
    case: Case


class User(ABC):
    """A simulated user. There is one instance per episode, built on the worker."""

    Options: ClassVar[type[UserOptions]] = UserOptions
    version: ClassVar[int] = 1
    roles: ClassVar[tuple[str, ...]] = ("user",)
    embedding_roles: ClassVar[tuple[str, ...]] = ()
    """Those of its roles whose models only embed; the models of all others must complete calls."""
    steps: ClassVar[tuple[Step[Any], ...]] = ()
    needs_profiles: ClassVar[bool] = False
    """Whether it needs cases with a profile (`simulators.core.profiles`)."""
    understands_attributes_only: ClassVar[bool] = False
    """Whether it needs an agent that `asks_about_attributes`, because it answers by rules."""

    def __init__(self, options: UserOptions, context: UserContext) -> None:
        self.options = options
        self.context = context

    @classmethod
    def roles_of(cls, options: Any) -> tuple[str, ...]:
        """Those that it speaks for with these options."""
        return cls.roles

    def portrait(self) -> tuple[str, ...]:
        """The person that it plays, as its prompts describe them, one line for each trait, with the
        budget. Empty if the person has no profile.

        People who decide instead of it see these lines.
        """
        return ()

    @abstractmethod
    async def open(self, ask: Ask) -> UserTurn:
        """The user's opening message."""

    @abstractmethod
    async def reply(self, dialogue: Dialogue, ask: Ask) -> UserTurn:
        """The answer to the recommender's latest message, with which `dialogue` ends."""
