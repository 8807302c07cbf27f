"""Which artifacts a plan needs, and their keys.

An artifact is made once for equal recipes, data and training seeds; a model-written one also
depends on models and prompts. Its key is the digest of these, so it is known before anything
starts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from agents.core.artifacts import CallsRecipe, LoopRecipe, Recipe, RolloutsRecipe
from agents.core.seeds import Seeds
from simulators.core.user import User
from sweeps import identity
from sweeps.origins import Origins
from sweeps.schema import CellConfig
from sweeps.tasks import Task

ARTIFACT = "artifact"


PROFILES = "profiles"
"""The name of the artifact of a domain whose cases a model has to write first."""


@dataclass(frozen=True)
class Need:
    """An artifact that a cell's agent needs under `name`, or that its cases need as `PROFILES`.

    `identity` is the artifact's identity without the seed.
    """

    name: str
    recipe: Recipe
    identity: str
    inputs: tuple[Need, ...] = ()
    """The artifacts it is made from."""

    def seed(self, seeds: Seeds) -> int:
        """The seed it is made with. Cases are the same for all seeds of a sweep."""
        return 0 if self.name == PROFILES else seeds.training

    def key(self, seeds: Seeds) -> str:
        """Hex BLAKE2b-128 that identifies the artifact for these seeds."""
        return self.key_at(self.seed(seeds))

    def key_at(self, seed: int) -> str:
        """The same for a given training seed."""
        return identity.digest([self.identity, seed])

    def whole(self) -> Iterator[Need]:
        """Everything that has to be made: inputs before what is made from them, then itself."""
        for need in self.inputs:
            yield from need.whole()
        yield self


class ArtifactSpec(NamedTuple):
    """Which artifact to make with model calls: the need `name` of the cell, with `seed`."""

    name: str
    seed: int


def artifact_task(key: str, cell: int, name: str, seed: int) -> Task:
    """The first attempt at making an artifact; the task's id is its key."""
    return Task(ARTIFACT, key, cell, ArtifactSpec(name, seed))


@dataclass(frozen=True)
class Artifact:
    """One distinct artifact of a plan.

    `cells` are the positions of the cells that need it; the first of them defines how it is made.
    """

    key: str
    name: str
    recipe: Recipe
    seed: int
    title: str
    """Its description: `sasrec on movielens, seed 0`."""
    cells: tuple[int, ...]
    inputs: Mapping[str, str] = field(default_factory=dict)
    """Name -> key of the artifacts it is made from."""
    for_agents: bool = True
    """Whether agents receive it; others are only inputs."""

    def task(self, cell: int) -> Task:
        """The task that makes it with the models of `cell`, one of `cells`."""
        return artifact_task(self.key, cell, self.name, self.seed)


def need_of(
    name: str,
    recipe: Recipe,
    *,
    domain: str,
    prompts: str,
    models: Mapping[str, Any],
    user: Mapping[str, Any] | None = None,
    dialogues: Mapping[str, Any] | None = None,
) -> Need:
    """`domain` is a fingerprint, `prompts` the digest of the agent's prompts, `models` maps roles
    to what is declared of their models, `user` is the simulated user's identity, and `dialogues` is
    what decides rollouts beyond that."""
    inputs = tuple(
        need_of(each, made_from, domain=domain, prompts=prompts, models=models, user=user)
        for each, made_from in recipe.inputs().items()
    )
    found: dict[str, Any] = {
        "kind": recipe.kind,
        "recipe": recipe.identity(),
        "domain": recipe.data_of(domain),
    }
    if isinstance(recipe, CallsRecipe) and recipe.by_user:
        spoken = {role: models[role] for role in calling_roles(recipe, models)}
        found |= {"user": user, "models": spoken}
    elif isinstance(recipe, CallsRecipe):
        found |= {"prompts": prompts, "model": models[role_of(recipe)]}
    if isinstance(recipe, RolloutsRecipe | LoopRecipe):
        found |= {"dialogues": dialogues, "models": models}
    if inputs:
        found["inputs"] = {need.name: need.identity for need in inputs}
    return Need(name, recipe, identity.digest(found), inputs)


def recipes_of(needs: Mapping[str, Recipe]) -> Iterator[tuple[str, Recipe]]:
    """Every recipe used for `needs`, including inputs, with its name."""
    for name, recipe in needs.items():
        yield from recipes_of(recipe.inputs())
        yield name, recipe


def role_of(recipe: CallsRecipe) -> str:
    """The role that makes calls while the artifact is made."""
    return recipe.role


def calling_roles(recipe: Recipe, roles: Iterable[str]) -> list[str]:
    """Those of a cell's `roles` that may make calls while the artifact is made; all of them in
    dialogues."""
    if not isinstance(recipe, CallsRecipe):
        return list(roles)
    if not recipe.by_user:
        return [role_of(recipe)]
    return [role for role in roles if role.partition(".")[0] == "user"]


def check_recipes(
    recipes: Mapping[str, Recipe], config: CellConfig, user: type[User], origins: Origins
) -> None:
    """Refuses artifacts that cannot be made with the critic or the simulated user of the cell."""
    _check_loops(recipes, config, origins)
    _check_first_words(recipes, config, user, origins)


def _check_loops(recipes: Mapping[str, Recipe], config: CellConfig, origins: Origins) -> None:
    """Refuses a loop that learns from a critic's scores in a cell without a critic."""
    for recipe in recipes.values():
        if isinstance(recipe, LoopRecipe) and recipe.reward == "critic" and config.critic is None:
            raise origins.refuse(
                ("agent", recipe.option),
                f"{recipe.label} learns from the scores of a critic, and this cell has none; set "
                "`critic`, or another reward",
            )


def _check_first_words(
    recipes: Mapping[str, Recipe], config: CellConfig, user: type[User], origins: Origins
) -> None:
    """Refuses a simulated user that cannot speak for users of the training data, if an agent
    learns from what these would say."""
    used = (recipe for _, recipe in recipes_of(recipes))
    if not any(isinstance(recipe, CallsRecipe) and recipe.by_user for recipe in used):
        return
    why = "needs users with profiles" if user.needs_profiles else ""
    why = why or ("" if "user" in user.roles else "speaks by rules")
    if why:
        raise origins.refuse(
            ("simulator",),
            f"{config.agent.name!r} is trained on first words of the simulated user for histories "
            f"and targets of the training data, and {config.simulator.name!r} {why}; expected a "
            "user that a model plays from a history and a target (target_item, ievalm)",
        )


def artifact_keys(needs: Sequence[Need], seeds: Seeds) -> dict[str, str]:
    """Name -> key of the artifacts that an episode with these seeds needs."""
    return {need.name: need.key(seeds) for need in needs}
