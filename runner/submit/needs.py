"""Which extras of crsweep the nodes of a cluster need for a sweep."""

from __future__ import annotations

from agents.core.artifacts import FitRecipe
from sweeps.cells import recipes_of_agents
from sweeps.load import LoadedSweep

_TRAIN = {"torch", "sklearn"}
"""Modules that the extra `train` brings."""


def extras_of(loaded: LoadedSweep) -> list[str]:
    """The extras that a sweep needs, `cluster` first."""
    backends = {str(spec.get("backend")) for spec in loaded.cell.get("models", {}).values()}
    wanted = {
        "s3": str(loaded.recorded["out"]).startswith("s3://"),
        "train": _trains(loaded),
        "vllm": "vllm" in backends,
        "sentence-transformers": "sentence_transformers" in backends,
    }
    return ["cluster", *(extra for extra, needed in wanted.items() if needed)]


def _trains(loaded: LoadedSweep) -> bool:
    """Whether any agent of the sweep needs something that a library of the extra trains."""
    return any(
        not _TRAIN.isdisjoint(recipe.packages)
        for recipe in recipes_of_agents(loaded)
        if isinstance(recipe, FitRecipe)
    )
