"""An agent for tests that says what its policy draws, and shows the next items of the catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from agents.core.agent import Agent, AgentContext, AgentOptions
from agents.core.artifacts import Recipe
from agents.core.ask import Ask
from agents.core.dialogue import AgentTurn, Dialogue
from agents.core.policy import LabelPolicy
from agents.core.steps import ReplyModel, Step, text
from agents.policies.core.dialogues import state_of
from agents.policies.core.options import PolicyOptions

__all__ = ["Planned"]


class _Words(ReplyModel):
    words: Annotated[str, text(200)]


SAY = Step("say", "verbalise", _Words)


class _Options(AgentOptions):
    planner: PolicyOptions = Field(default_factory=lambda: PolicyOptions(stage="untrained"))
    silent: bool = True
    """Whether it says fixed words, without a model."""


class Planned(Agent):
    """Consults a policy in every turn."""

    Options = _Options
    options: _Options
    steps = (SAY,)

    def __init__(self, options: _Options, context: AgentContext) -> None:
        super().__init__(options, context)
        self._planner: LabelPolicy = context.artifacts["planner"]

    @classmethod
    def needs(cls, options: _Options) -> Mapping[str, Recipe]:
        return {"planner": options.planner.recipe()}

    async def respond(self, dialogue: Dialogue, ask: Ask) -> AgentTurn:
        state = state_of(dialogue.messages)
        planner = ask.as_role("planner")
        drawn = await planner.decide(self._planner, state, self.options.planner.decoding)
        shown = self.context.catalogue.items[dialogue.turn % 5 :][: self.context.shown_items]
        if self.options.silent:
            words = f"{drawn.label}: {shown[0].title}"
        else:
            words = (await ask(SAY, strategy=drawn.label, conversation=dialogue.messages)).words
        return AgentTurn(words, "recommend", shown, shown, strategy=drawn.label)
