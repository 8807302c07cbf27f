"""Which artifacts a plan needs, and which key each has.

An artifact is made once for equal recipes, data and training seeds, and one that models write also
for equal models and prompts. Its key is the digest of these, so it is known before anything starts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from agents.core.artifacts import CallsRecipe, LoopRecipe, Recipe, RolloutsRecipe
from agents.core.seeds import Seeds
from sweeps import identity
from sweeps.tasks import Task

ARTIFACT = "artifact"


PROFILES = "profiles"
"""The artifact of a domain whose cases a model has to write first."""


@dataclass(frozen=True)
class Need:
    """What a cell's agent asks for under `name`, or its cases need as `PROFILES`. `identity` is the
    artifact's, without the seed."""

    name: str
    recipe: Recipe
    identity: str
    inputs: tuple[Need, ...] = ()
    """What the artifact is made from."""

    def seed(self, seeds: Seeds) -> int:
        """The seed of making it. Cases are the same for all seeds of a sweep."""
        return 0 if self.name == PROFILES else seeds.training

    def key(self, seeds: Seeds) -> str:
        """Hex BLAKE2b-128 that names the artifact for these seeds."""
        return self.key_at(self.seed(seeds))

    def key_at(self, seed: int) -> str:
        """The same for the seed of making it."""
        return identity.digest([self.identity, seed])

    def whole(self) -> Iterator[Need]:
        """All that has to be made for it, inputs before what is made from them, and itself."""
        for need in self.inputs:
            yield from need.whole()
        yield self


class ArtifactSpec(NamedTuple):
    """How an artifact is made by model calls: as the need `name` of the cell says, from `seed`."""

    name: str
    seed: int


def artifact_task(key: str, cell: int, name: str, seed: int) -> Task:
    """The first attempt at making an artifact; its key is the task's id."""
    return Task(ARTIFACT, key, cell, ArtifactSpec(name, seed))


@dataclass(frozen=True)
class Artifact:
    """One distinct artifact of a plan.

    `cells` are the positions of the cells that need it, the first of which says how it is made.
    """

    key: str
    name: str
    recipe: Recipe
    seed: int
    title: str
    """What it is in words: `sasrec on movielens, seed 0`."""
    cells: tuple[int, ...]
    inputs: Mapping[str, str] = field(default_factory=dict)
    """Name -> key of what it is made from."""
    for_agents: bool = True
    """Whether agents are given it; others only serve to make those."""

    def task(self, cell: int) -> Task:
        """Making it with the models of `cell`, one of `cells`."""
        return artifact_task(self.key, cell, self.name, self.seed)


def need_of(
    name: str,
    recipe: Recipe,
    *,
    domain: str,
    prompts: str,
    models: Mapping[str, Any],
    dialogues: Mapping[str, Any] | None = None,
) -> Need:
    """`domain` is a fingerprint, `prompts` the digest of the agent's prompts, `models` maps roles
    to what is declared of their models, and `dialogues` is what decides rollouts beyond that."""
    inputs = tuple(
        need_of(each, made_from, domain=domain, prompts=prompts, models=models)
        for each, made_from in recipe.inputs().items()
    )
    found: dict[str, Any] = {
        "kind": recipe.kind,
        "recipe": recipe.identity(),
        "domain": domain if recipe.of_domain else "",
    }
    if isinstance(recipe, CallsRecipe):
        found |= {"prompts": prompts, "model": models[role_of(recipe)]}
    if isinstance(recipe, RolloutsRecipe | LoopRecipe):
        found |= {"dialogues": dialogues, "models": models}
    if inputs:
        found["inputs"] = {need.name: need.identity for need in inputs}
    return Need(name, recipe, identity.digest(found), inputs)


def recipes_of(needs: Mapping[str, Recipe]) -> Iterator[tuple[str, Recipe]]:
    """Every recipe that is used for `needs`, with its name: theirs, and those of their inputs."""
    for name, recipe in needs.items():
        yield from recipes_of(recipe.inputs())
        yield name, recipe


def role_of(recipe: CallsRecipe) -> str:
    """The role that speaks while the artifact is made."""
    return recipe.role


def keys_of(needs: Sequence[Need], seeds: Seeds) -> dict[str, str]:
    """Name -> key of what an episode with these seeds needs."""
    return {need.name: need.key(seeds) for need in needs}
