"""Dialogues of one agent with simulated users, without a sweep around them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from agents.core import plugins
from agents.core.agent import Agent, AgentContext
from agents.core.artifacts import Content, FitRecipe, Recipe
from agents.core.ask import Ask, CallLog
from agents.core.prompts import PromptFolder, prompt_folder
from simulators.core.cases import Domain
from simulators.core.dialogue import DialogueLimits, Transcript, run_dialogue
from simulators.core.user import User, UserContext
from simulators.success.user_accepts import user_accepts
from sweeps.schema import ModelSpec
from workers.backends.core.backend import BackendContext
from workers.models import BoundModel


def prompts_of(package: str, name: str) -> PromptFolder:
    """The prompts that a plug-in ships with."""
    return prompt_folder(plugins.module(package, name, "plug-in"), None)


def rules(domain: Domain, **options: Any) -> BoundModel:
    """A model that answers by the rules."""
    context = BackendContext("rules", "local", "test", None, lambda: domain.catalogue)
    return BoundModel("rules", ModelSpec(backend="rules", **options), context, 0)


def fitted(needs: Mapping[str, Recipe], domain: Domain) -> dict[str, Any]:
    """What recipes of training make, by the names that the agent uses."""
    made = {}
    for name, recipe in needs.items():
        assert isinstance(recipe, FitRecipe)
        *_, last = recipe.fit(domain.training_data(), 0)
        assert isinstance(last.result, Content)
        made[name] = recipe.load(last.result, domain.catalogue)
    return made


def play(
    cls: type[Agent],
    name: str,
    domain: Domain,
    case_id: str,
    model: Any,
    *,
    artifacts: Mapping[str, Any] | None = None,
    turns: int = 5,
    user: str = "target_item",
    of_user: Mapping[str, Any] | None = None,
    **options: Any,
) -> tuple[Transcript, CallLog]:
    """One dialogue of the agent `name` with the user of `case_id`; probes are asked.

    `user` is the simulated user's plug-in, and `of_user` its options.
    """
    case = domain.case("test", case_id)
    context = AgentContext(domain.catalogue, case.visible, 10, artifacts or {})
    agent = cls(cls.Options(**options), context)
    speaks: type[User] = plugins.load("simulators.users", user, "simulator")
    other = speaks(speaks.Options(**(of_user or {})), UserContext(domain.catalogue, case))
    transcript, journal = Transcript(), CallLog()

    def ask(role: str, package: str, plugin: str) -> Ask:
        prompts = prompts_of(package, plugin)
        return Ask(role, case_id, 7, prompts, lambda _: model, journal)

    asyncio.run(
        run_dialogue(
            agent,
            other,
            ask("agent", "agents", name),
            ask("user", "simulators.users", user),
            hidden=case.hidden,
            limits=DialogueLimits(turns, 1_000_000),
            is_success=user_accepts,
            probe=True,
            transcript=transcript,
        )
    )
    return transcript, journal
