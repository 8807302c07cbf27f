"""What a sweep needs on the nodes of a cluster: extras, variables, the output folder."""

from __future__ import annotations

from collections.abc import Iterator

from agents.core.artifacts import FitRecipe
from runner.submit.package import strings_of
from sweeps.cells import recipes_of_agents
from sweeps.load import LoadedSweep

_TRAIN = {"torch", "sklearn"}
"""Modules that the extra `train` brings."""
_SECRETS = ("api_key_env", "headers_env")
"""Options of models that name environment variables."""


def extras_of(loaded: LoadedSweep) -> list[str]:
    """The extras that a sweep needs, `cluster` first."""
    backends = backends_of(loaded)
    wanted = {
        "s3": loaded.out_elsewhere.startswith("s3://"),
        "train": _trains(loaded),
        "vllm": "vllm" in backends,
        "sentence-transformers": "sentence_transformers" in backends,
    }
    return ["cluster", *(extra for extra, needed in wanted.items() if needed)]


def backends_of(loaded: LoadedSweep) -> set[str]:
    """The backends of all models of a sweep, also those that an axis sets."""
    return {text for option, text in _options_of_models(loaded) if option == "backend"}


def variables_of(loaded: LoadedSweep) -> dict[str, bool]:
    """Names of the environment variables that a sweep reads -> whether they must be set.

    They come from `run.env_from`, `${oc.env:NAME}` and options such as `api_key_env`. A variable
    may be missing if the sweep has a default for it wherever it is read.
    """
    needed = [text for option, text in _options_of_models(loaded) if option in _SECRETS]
    needed += loaded.header.run.env_from
    return {**loaded.variables, **dict.fromkeys(needed, True)}


def _options_of_models(loaded: LoadedSweep) -> Iterator[tuple[str, str]]:
    for keys, text in strings_of(loaded):
        if keys[:1] == ("models",) and len(keys) > 2:
            yield keys[2], text


def _trains(loaded: LoadedSweep) -> bool:
    """Whether any agent of the sweep needs something that a library of the extra trains."""
    return any(
        not _TRAIN.isdisjoint(recipe.packages)
        for recipe in recipes_of_agents(loaded)
        if isinstance(recipe, FitRecipe)
    )
