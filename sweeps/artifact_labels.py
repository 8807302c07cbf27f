"""Distinguishes artifacts of one title by what they are made with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from agents.core.artifacts import CallsRecipe
from sweeps import grid
from sweeps.artifacts import Need, calling_roles
from sweeps.schema import CellConfig

SettingValues = Mapping[tuple[str, ...], str]
"""The path of a setting -> its value."""


def deciding_settings(need: Need, roles: Mapping[str, str], config: CellConfig) -> SettingValues:
    """The settings that decide the content of an artifact and of what it is made from.

    `roles` maps the roles of the cell with this configuration to models.
    """
    recipe = need.recipe
    found = dict(_leaves(recipe.identity()))
    if recipe.of_domain:
        found |= dict(_leaves(config.domain.options, ("domain",)))
    if isinstance(recipe, CallsRecipe):
        found |= {(role,): roles[role] for role in calling_roles(recipe, roles)}
    if isinstance(recipe, CallsRecipe) and recipe.by_user:
        found |= dict(_leaves(config.simulator.model_dump(), ("simulator",)))
    elif recipe.kind != "fit":
        found[("prompts",)] = grid.label(config.agent.options.get("prompts"))
    for each in need.inputs:
        inner = deciding_settings(each, roles, config)
        found |= {(each.name, *path): value for path, value in inner.items()}
    return found


def differences(several: Sequence[SettingValues]) -> list[str]:
    """For each of `several`, its settings that more than half of them do not have.

    Empty for one that has no such setting: `kl_weight=0.1` next to thirteen of 1.0.
    """
    paths = list(dict.fromkeys(path for facts in several for path in facts))
    columns = {path: tuple(facts.get(path) for facts in several) for path in paths}
    first: dict[tuple[str | None, ...], tuple[str, ...]] = {}
    for path in sorted(paths, key=len):  # an option that several parts share is named once
        first.setdefault(columns[path], path)
    differing = [p for p in paths if len(set(columns[p])) > 1 and first[columns[p]] == p]
    usual = {path: _usual(columns[path]) for path in differing}
    names = _names(differing)
    found = []
    for facts in several:
        own = {names[p]: facts[p] for p in differing if p in facts and facts[p] != usual[p]}
        found.append(", ".join(f"{name}={value}" for name, value in own.items()))
    return found


def _leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key != "version":
                yield from _leaves(inner, (*path, str(key)))
    else:
        yield path, grid.label(value)


def _usual(values: Sequence[str | None]) -> str | None:
    """What more than half of them are; None if there is no such value."""
    [(value, count)] = Counter(values).most_common(1)
    return value if 2 * count > len(values) else None


def _names(paths: Sequence[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
    """Path -> its shortest end that no other path of another value has.

    The name of a plug-in is called as the option that holds it.
    """
    whole = {path: path[:-1] if path[-1] == "name" and len(path) > 1 else path for path in paths}
    found = {}
    for path, parts in whole.items():
        ends = (parts[start:] for start in range(len(parts) - 1, -1, -1))
        rivals = [other for other in whole.values() if other != parts]
        end = next((e for e in ends if not any(r[-len(e) :] == e for r in rivals)), parts)
        found[path] = ".".join(end)
    return found
