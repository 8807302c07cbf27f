"""Which artifacts a plan needs, and which key each has.

An artifact is made once for equal recipes, data and training seeds, and one that models write also
for equal models and prompts. Its key is the digest of these, so it is known before anything starts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from agents.core.artifacts import CallsRecipe, Recipe
from agents.core.seeds import Seeds
from sweeps import identity


class Need(NamedTuple):
    """What a cell's agent asks for under `name`. `identity` is the artifact's, without the seed."""

    name: str
    recipe: Recipe
    identity: str

    def key(self, seeds: Seeds) -> str:
        """Hex BLAKE2b-128 that names the artifact for these seeds."""
        return identity.digest([self.identity, seeds.training])


class PrepareRef(NamedTuple):
    """One artifact to be made by model calls; the need `name` of a cell says how.

    It is leased as episodes are (`sweeps.plan.Ref`). Attempts count from 0.
    """

    key: str
    cell: int
    name: str
    seed: int
    attempt: int = 0

    @property
    def id(self) -> str:
        return self.key


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

    def ref(self, cell: int) -> PrepareRef:
        """The work of making it with the models of `cell`, one of `cells`."""
        return PrepareRef(self.key, cell, self.name, self.seed)


def need_of(
    name: str,
    recipe: Recipe,
    *,
    domain: str,
    prompts: str,
    models: Mapping[str, Any],
) -> Need:
    """`domain` is a fingerprint, `prompts` the digest of the agent's prompts, and `models` maps
    roles to what is declared of their models."""
    found: dict[str, Any] = {
        "kind": recipe.kind,
        "recipe": recipe.identity(),
        "domain": domain,
    }
    if isinstance(recipe, CallsRecipe):
        found |= {"prompts": prompts, "model": models[role_of(recipe)]}
    return Need(name, recipe, identity.digest(found))


def role_of(recipe: CallsRecipe) -> str:
    """The role that speaks while the artifact is made."""
    return f"agent.{recipe.part}"


def keys_of(needs: Sequence[Need], seeds: Seeds) -> dict[str, str]:
    """Name -> key of what an episode with these seeds needs."""
    return {need.name: need.key(seeds) for need in needs}
