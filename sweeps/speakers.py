"""Checks the plug-ins with roles, as given in a sweep file: agents, simulated users, critics and
judges."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from agents.core import plugins
from agents.core.agent import Agent
from agents.core.artifacts import Recipe
from agents.core.errors import PromptError, UsageError
from agents.core.prompts import prompt_folder
from simulators.core.critic import CRITICS, Critic
from simulators.core.judge import JUDGES, Judge
from simulators.core.user import User
from sweeps.origins import Origins, check
from sweeps.schema import PluginRef

AGENTS, USERS = "agents", "simulators.users"

_BASES: dict[str, type[Any]] = {AGENTS: Agent, USERS: User, CRITICS: Critic, JUDGES: Judge}


def speaker(
    ref: PluginRef, package: str, kind: str, origins: Origins, at: Sequence[Any]
) -> tuple[type[Any], dict[str, Any]]:
    """The class of a plug-in with a role, and its identity, after checking its options
    and prompts."""
    cls = require(plugins.load, package, ref.name, kind, origins, at)
    base = _BASES[package]
    if not (isinstance(cls, type) and issubclass(cls, base)):
        raise origins.refuse(at, f"{ref.name!r} exports no {base.__name__}")
    own = [key for key in type(ref).model_fields if key != "name"]
    options = check(cls.Options, ref.options, origins, at, own)
    try:
        prompts = prompt_folder(plugins.module(package, ref.name, kind), options.prompts)
        for step in cls.steps:
            prompts.check(step.name)
    except (UsageError, PromptError) as error:
        raise origins.refuse(at, error.message) from None
    found = {
        "name": ref.name,
        "version": cls.version,
        "options": options.identity(),
        "prompts": prompts.digest(),
    }
    if issubclass(cls, Agent) and (needs := cls.needs(options)):
        found["needs"] = {name: _identity_of(recipe) for name, recipe in needs.items()}
    return cls, found


def _identity_of(recipe: Recipe) -> Mapping[str, Any]:
    """What a recipe is and what it is made from."""
    inputs = {name: _identity_of(each) for name, each in recipe.inputs().items()}
    return {**recipe.identity(), **({"inputs": inputs} if inputs else {})}


def require(
    load: Callable[..., Any],
    package: str,
    name: str,
    kind: str,
    origins: Origins,
    at: Sequence[Any],
) -> Any:
    """The result of `load`, with the place in the sweep file added to its UsageError."""
    try:
        return load(package, name, kind)
    except UsageError as error:
        raise origins.refuse(at, error.message) from None
