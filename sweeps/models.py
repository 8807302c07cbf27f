"""What is known of a model before anything starts: its identity, and what it can be asked for."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sweeps.origins import Origins
from sweeps.schema import CellConfig, ModelSpec

Use = Literal["complete", "embed"]
"""What a model is asked for: replies to prompts, or embeddings of texts."""


@dataclass(frozen=True)
class DeclaredModel:
    """A model whose options have been checked."""

    identity: Callable[[], Mapping[str, Any]]
    """Finds what decides its answers, which needs the weights."""
    uses: frozenset[Use]


Declare = Callable[[ModelSpec, Origins, Sequence[str]], DeclaredModel]
"""Checks a model's options. Backends are in a package above this one, so the caller passes it."""


def check_uses(
    roles: Mapping[str, str],
    models: Mapping[str, DeclaredModel],
    embedding: Container[str],
    config: CellConfig,
    origins: Origins,
) -> None:
    """Refuses a model that cannot do what a role asks of it.

    `roles` maps roles to names of `models`; those in `embedding` embed texts, all others speak.
    """
    for role, name in roles.items():
        use: Use = "embed" if role in embedding else "complete"
        if use in models[name].uses:
            continue
        given = role
        while given not in config.roles:
            given = given.rpartition(".")[0]
        model = f"the model {name!r} (backend {config.models[name].backend!r})"
        if use == "embed":
            reason = f"{role} embeds texts, which {model} cannot; give {role!r} a model that does"
        else:
            reason = f"{role} speaks, and {model} only embeds; expected one that completes calls"
        raise origins.refuse(("roles", given), reason)
