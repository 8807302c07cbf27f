"""The cells of a plan, each fully checked: plug-ins, options, roles, models and judges."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from agents.core import plugins
from agents.core.agent import Agent, AgentOptions
from agents.core.artifacts import CallsRecipe, LoopRecipe, Recipe, RolloutsRecipe
from agents.core.errors import PromptError, UsageError, near
from agents.core.memory import Memory
from agents.core.prompts import prompt_folder
from agents.core.seeds import Seeds
from simulators.core.cases import Domain
from simulators.core.critic import CRITICS, Critic
from simulators.core.judge import JUDGES
from simulators.core.user import User
from sweeps import grid, identity
from sweeps.artifacts import (
    PROFILES,
    Need,
    artifact_keys,
    check_recipes,
    need_of,
    recipes_of,
    role_of,
)
from sweeps.judges import PlannedJudge
from sweeps.models import Declare, DeclaredModel, check_uses
from sweeps.origins import Origins, check
from sweeps.schema import ROLES, CellConfig, PluginRef, Seeding
from sweeps.sources import FindProfiles, Sources
from sweeps.speakers import AGENTS, USERS, require, speaker

if TYPE_CHECKING:  # OmegaConf, which workers need not import
    from sweeps.load import LoadedSweep

SUCCESS = "simulators.success"
CRITIC_ABOVE = "critic_above"
"""The success rule that reads the critic's verdict."""
REPLAY = "recorded"
"""The agent and the simulated user that replay recorded dialogues."""
SEED_AXES = ("seed", "seeds", "seeds.sampling", "seeds.training", "seeds.order")


@dataclass(frozen=True)
class Cell:
    """One point of the grid, without seed and case."""

    cell_id: str
    source: int
    config: CellConfig
    axes: dict[str, str]
    roles: dict[str, str]
    """Every role of its dialogues -> the name of its model."""
    seeds: tuple[Seeds, ...]
    needs: tuple[Need, ...] = ()
    """The artifacts that its agent needs."""
    judges: Mapping[str, str] = field(default_factory=dict)
    """Every role of its judges -> the name of its model."""
    profiles: Need | None = None
    """Profiles that a model has to write before there are cases. Until then the cell is pending,
    without episodes."""
    memory: Memory | None = None
    """How its agent learns across dialogues, which makes the cell a stream."""

    @property
    def models(self) -> list[str]:
        """The names of all models that play or judge its dialogues."""
        return list(dict.fromkeys([*self.roles.values(), *self.judges.values()]))

    def artifacts(self, seeds: Seeds) -> dict[str, str]:
        """Name -> key of the artifacts that its episodes with these seeds need."""
        return artifact_keys(self.needs, seeds)


class CellMaker:
    """Creates and checks the cells of one plan; what cells share is made once."""

    def __init__(
        self,
        loaded: LoadedSweep,
        axes: Sequence[str],
        judges: list[PlannedJudge],
        declare: Declare,
        find_profiles: FindProfiles,
    ) -> None:
        self.sources = Sources(loaded, find_profiles)
        self._loaded = loaded
        self._axes = axes
        self._declare = declare
        self._declared: dict[str, DeclaredModel] = {}
        self._origins: dict[tuple[str, ...], Origins] = {}
        self.judges = judges
        """With the digests of their models, after a cell is made."""

    def cell(self, point: Mapping[str, Any]) -> Cell:
        """The cell of a point without seeds."""
        raw, origins = self._raw(point), self.origins_at(point)
        _refuse_infinite(raw, origins, ())
        config: CellConfig = check(CellConfig, raw, origins)
        profiles = self._profiles(config, origins, point)
        source = self.sources.position(config, origins, point, profiles)
        _check_replay(config, self.sources.made[source].domain, origins)
        agent, agent_identity = speaker(config.agent, AGENTS, "agent", origins, ("agent",))
        recipes = _needs(agent, config.agent, origins)
        user, user_identity = speaker(config.simulator, USERS, "simulator", origins, ("simulator",))
        pending = self.sources.made[source].is_pending
        check_recipes(recipes, config, user, origins)
        if user.needs_profiles and not (pending or self.sources.made[source].domain.has_profiles):
            raise origins.refuse(
                ("simulator",),
                f"{config.simulator.name} needs users with profiles, and the domain "
                f"{config.domain.name} has none here; set its `profiles` to a file of profiles",
            )
        _check_talk(config, agent, user, self.sources.made[source].domain, origins)
        critic, critic_identity = _critic(config, origins)
        _check_success(config, origins)
        watching = () if critic is None else critic.roles
        options = check(agent.Options, config.agent.options, origins, ("agent",))
        of_user = check(user.Options, config.simulator.options, origins, ("simulator",))
        spoken = (*agent.roles_of(options), *user.roles_of(of_user), *watching)
        roles = _roles(config, spoken, origins)
        checked = {name: self._checked(name, config, origins) for name in config.models}
        # A model that no role uses is checked, but its weights may be missing.
        embedding = {*agent.embedding_roles, *user.embedding_roles}
        check_uses(roles, checked, embedding, config, origins)
        models = {role: checked[name].identity() for role, name in roles.items()}
        fingerprint = self.sources.made[source].domain.fingerprint()
        prompts = agent_identity["prompts"]
        needs = tuple(
            need_of(
                name,
                recipe,
                domain=fingerprint,
                prompts=prompts,
                models=models,
                user=user_identity,
                dialogues=_rollouts(recipe, config, agent_identity, user_identity, critic_identity),
            )
            for name, recipe in recipes.items()
        )
        cell_id = identity.cell_id(
            domain=fingerprint,
            split=config.cases.split,
            agent=agent_identity,
            user=user_identity,
            success={"name": config.success.name},
            limits=config.limits.model_dump(),
            models=models,
            critic=critic_identity,
        )
        axes = {axis: self._label(raw, axis) for axis in self._axes}
        judging = self._judging(config, checked, origins)
        memory = agent.memory(options)
        if not pending or profiles is None or not isinstance(profiles.recipe, CallsRecipe):
            return Cell(cell_id, source, config, axes, roles, (), needs, judging, None, memory)
        roles |= _roles(config, [role_of(profiles.recipe)], origins)
        cell_id = identity.digest(["pending", cell_id, profiles.identity])
        return Cell(cell_id, source, config, axes, roles, (), needs, judging, profiles, memory)

    def _profiles(
        self, config: CellConfig, origins: Origins, point: Mapping[str, Any]
    ) -> Need | None:
        """The profiles that a model has to write before the cell has cases, if any are needed."""
        recipe = self.sources.domain(config, origins).profiles_recipe()
        if recipe is None:
            return None
        user = require(
            plugins.load, USERS, config.simulator.name, "simulator", origins, ("simulator",)
        )
        if not (config.cases.by or getattr(user, "needs_profiles", False)):
            return None
        role = role_of(recipe)
        name = _roles(config, [role], origins)[role]
        model = self._checked(name, config, origins)
        check_uses({role: name}, {name: model}, (), config, origins)
        return need_of(
            PROFILES,
            recipe,
            domain=self.sources.fingerprint(config, origins, point),
            prompts="" if recipe.prompts is None else recipe.prompts.digest(),
            models={role: model.identity()},
        )

    def _judging(
        self,
        config: CellConfig,
        checked: Mapping[str, DeclaredModel],
        origins: Origins,
    ) -> dict[str, str]:
        """The roles of the judges and their models, which must be the same in all cells."""
        judging: dict[str, str] = {}
        known, self.judges = self.judges, []
        for index, judge in enumerate(known):
            roles = _roles(config, judge.roles, origins)
            check_uses(roles, checked, (), config, origins)
            found = judge.with_models(
                {role: checked[name].identity() for role, name in roles.items()}
            )
            if judge.digest and judge.digest != found.digest:
                raise origins.refuse(
                    ("judges", index),
                    f"the model of {judge.role} differs between cells of the grid; one model must "
                    "judge all dialogues of a sweep",
                )
            self.judges.append(found)
            judging |= roles
        names = [*plugins.names(JUDGES), *(role.partition(".")[2] for role in judging)]
        for role in config.roles:
            speaks, _, name = role.partition(".")
            if speaks == "judge" and name and "." not in name and name not in names:
                raise origins.refuse(
                    ("roles", role), f"there is no judge {name!r}{near(name, names)}"
                )
        return judging

    def seeding(self, point: Mapping[str, Any]) -> Seeding:
        """The seeds of a point, as given."""
        raw = self._loaded.cell
        given = {key: raw[key] for key in ("seed", "seeds") if key in raw}
        for axis in SEED_AXES:
            if axis in point:
                given = grid.put(given, axis, point[axis])
        origins = self.origins_at(point)
        return check(Seeding, given, origins)

    def _raw(self, point: Mapping[str, Any]) -> dict[str, Any]:
        return grid.put_all(self._loaded.cell, point)

    def _label(self, raw: Mapping[str, Any], axis: str) -> str:
        value = grid.get(raw, axis)
        label = "default" if value is None else grid.label(value)
        return self._loaded.as_written(label)

    def _checked(self, name: str, config: CellConfig, origins: Origins) -> DeclaredModel:
        spec = config.models[name]
        key = identity.canonical(spec.model_dump())
        if key not in self._declared:
            self._declared[key] = self._declare(spec, origins, ("models", name))
        return self._declared[key]

    def origins_at(self, point: Mapping[str, Any]) -> Origins:
        """The origins for one point: values set by an axis come from the axis."""
        axes = tuple(point)
        if axes not in self._origins:
            known = self._loaded.origins
            found = Origins(dict(known.places), dict(known.plain))
            for axis in axes:
                found.replace_by_axis(grid.keys_of(self._loaded.cell, axis), axis)
            self._origins[axes] = found
        return self._origins[axes]


def _rollouts(
    recipe: Recipe,
    config: CellConfig,
    agent: Mapping[str, Any],
    user: Mapping[str, Any],
    critic: Mapping[str, Any] | None,
) -> dict[str, Any] | None:
    """What determines the dialogues of a rollouts recipe, besides domain and models."""
    if isinstance(recipe, LoopRecipe):
        # What is trained is in the recipe, and what else is done with it changes no rollout.
        options = {k: v for k, v in agent["options"].items() if k != recipe.option}
    elif isinstance(recipe, RolloutsRecipe):
        options = recipe.options(agent["options"])
    else:
        return None
    return {
        "agent": {**agent, "options": options, "needs": None},
        "user": user,
        "success": config.success.name,
        "limits": config.limits.model_dump(),
        **({} if critic is None else {"critic": critic}),
    }


def _refuse_infinite(value: Any, origins: Origins, at: tuple[Any, ...]) -> None:
    """Refuses infinite numbers: no option has a use for them, and canonical JSON lacks them."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            _refuse_infinite(part, origins, (*at, key))
    elif isinstance(value, list | tuple):
        for index, part in enumerate(value):
            _refuse_infinite(part, origins, (*at, index))
    elif isinstance(value, float) and not math.isfinite(value):
        raise origins.refuse(at, f"expected a finite number, found {value}")


def _check_replay(config: CellConfig, domain: Domain, origins: Origins) -> None:
    """Refuses to mix recorded and played dialogues, or to cut recorded ones."""
    turns = domain.replayed_turns
    if turns and config.critic is not None:
        raise origins.refuse(
            ("critic",),
            f"the dialogues of the domain {config.domain.name!r} are recorded, so no critic can "
            "stop them; leave it out, or use a judge",
        )
    for part, ref in (("agent", config.agent), ("simulator", config.simulator)):
        if turns and ref.name != REPLAY:
            raise origins.refuse(
                (part,),
                f"expected {REPLAY!r}, because the dialogues of the domain {config.domain.name!r} "
                f"are recorded; found {ref.name!r}",
            )
        if ref.name == REPLAY and not turns:
            raise origins.refuse(
                (part,),
                f"{REPLAY!r} needs the domain 'recordings', found {config.domain.name!r}",
            )
    if turns > config.limits.max_turns:
        raise origins.refuse(
            ("limits", "max_turns"),
            f"expected at least {turns}, the turns of the longest recorded dialogue, found "
            f"{config.limits.max_turns}",
        )


def _check_talk(
    config: CellConfig, agent: type[Agent], user: type[User], domain: Domain, origins: Origins
) -> None:
    """Refuses an agent and a user that do not understand each other, or that have nothing to ask
    about."""
    if user.understands_attributes_only and not agent.asks_about_attributes:
        known = [
            name
            for name in plugins.names(AGENTS)
            if plugins.load(AGENTS, name, "agent").asks_about_attributes
        ]
        raise origins.refuse(
            ("simulator",),
            f"{config.simulator.name!r} answers questions about attributes by rules and does not "
            f"understand the free words of {config.agent.name!r}; expected one of the agents "
            f"{', '.join(known)}, or a user that a model plays (target_item, ievalm)",
        )
    if agent.asks_about_attributes and not any(i.attributes for i in domain.catalogue.items):
        raise origins.refuse(
            ("agent",),
            f"{config.agent.name!r} asks about attributes, and no item of the domain "
            f"{config.domain.name!r} has one",
        )


def _critic(
    config: CellConfig, origins: Origins
) -> tuple[type[Critic] | None, dict[str, Any] | None]:
    """The class of the cell's critic, and its identity; None without one."""
    if config.critic is None:
        return None, None
    return speaker(config.critic, CRITICS, "critic", origins, ("critic",))


def _check_success(config: CellConfig, origins: Origins) -> None:
    ref = config.success
    require(plugins.load, SUCCESS, ref.name, "success rule", origins, ("success",))
    if ref.name == CRITIC_ABOVE and config.critic is None:
        raise origins.refuse(
            ("success",),
            f"{ref.name!r} needs a critic, whose score it reads; name one, for example "
            "`critic: rewarder`",
        )
    for option in ref.options:
        raise origins.refuse(
            ("success", option), f"unknown key {option!r}; {ref.name} takes no options"
        )


class _AgentAlone(BaseModel):
    agent: PluginRef


def recipes_of_agents(loaded: LoadedSweep) -> Iterator[Recipe]:
    """The artifacts that agents of a sweep need, including inputs, without needing the data sets.

    Raises UsageError for invalid agents and grids.
    """
    header, seen = loaded.header, set()
    try:
        for point in grid.points(header.blocks, header.zip, header.exclude):
            own = {axis: value for axis, value in point.items() if axis.split(".")[0] == "agent"}
            if (key := identity.canonical(own)) in seen:
                continue
            seen.add(key)
            raw, origins = grid.put_all(loaded.cell, own), loaded.origins
            only: _AgentAlone = check(_AgentAlone, {"agent": raw.get("agent")}, origins)
            ref = only.agent
            cls, _ = speaker(ref, AGENTS, "agent", origins, ("agent",))
            for _, recipe in recipes_of(_needs(cls, ref, origins)):
                yield recipe
    except grid.GridError as error:
        raise loaded.origins.refuse((error.key,), error.message) from None


def _needs(cls: type[Agent] | type[User], ref: PluginRef, origins: Origins) -> Mapping[str, Recipe]:
    """The artifacts that an agent of a sweep file needs; checks the roles that make them."""
    assert issubclass(cls, Agent)
    options: AgentOptions = check(cls.Options, ref.options, origins, ("agent",))
    found = cls.needs(options)
    prompts = prompt_folder(plugins.module(AGENTS, ref.name, "agent"), options.prompts)
    for name, recipe in recipes_of(found):
        if not isinstance(recipe, CallsRecipe) or recipe.by_user:
            continue
        spoken = cls.roles_of(options)
        if role_of(recipe) not in spoken:
            raise origins.refuse(
                ("agent",),
                f"{ref.name} needs {name!r}, which the role {role_of(recipe)!r} makes; expected "
                f"it among its roles, found {', '.join(spoken)}",
            )
        try:
            for step in recipe.steps:
                prompts.check(step.name)
        except PromptError as error:
            raise origins.refuse(("agent",), error.message) from None
    return found


def _roles(config: CellConfig, spoken: Sequence[str], origins: Origins) -> dict[str, str]:
    for role, model in config.roles.items():
        speaks = role.split(".", 1)[0]
        if speaks not in ROLES:
            raise origins.refuse(
                ("roles", role),
                f"there is no role {role!r}{near(speaks, ROLES)}"
                f" (a role begins with one of: {', '.join(ROLES)})",
            )
        if model not in config.models:
            raise origins.refuse(
                ("roles", role),
                f"there is no model {model!r}{near(model, config.models)}"
                f" (known: {', '.join(config.models)})",
            )
    try:
        return {role: identity.resolve_role(role, config.roles) for role in spoken}
    except UsageError as error:
        raise origins.refuse(("roles",), error.message.removeprefix("roles: ")) from None
