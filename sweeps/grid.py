"""Expands the axes of a grid into points, lazily.

A point sets every axis of one block to one value. Lists under `zip` advance together and count as
one axis; `exclude` drops points that match an entry in everything that the entry names.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from agents.core.errors import UsageError, near

GridPoint = dict[str, Any]


class GridError(UsageError):
    """An invalid grid. `key` is the part of the sweep file to blame."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


def points(
    blocks: Sequence[Mapping[str, Sequence[Any]]],
    zipped: Sequence[Mapping[str, Sequence[Any]]] = (),
    exclude: Sequence[Mapping[str, Any]] = (),
) -> Iterator[GridPoint]:
    """All points of the union of `blocks`; the last axis varies fastest.

    Raises GridError for zipped lists of different lengths, for an axis given twice, and at the end
    for an entry of `exclude` that matched no point, because it is probably misspelt.
    """
    matched = [False] * len(exclude)
    together = [_zipped(group) for group in zipped]
    for block in blocks:
        _no_double_axes(block, zipped)
        single = [[{axis: value} for value in values] for axis, values in block.items()]
        for parts in itertools.product(*single, *together):
            point = {axis: value for part in parts for axis, value in part.items()}
            hits = [index for index, entry in enumerate(exclude) if matches(point, entry)]
            for index in hits:
                matched[index] = True
            if not hits:
                yield point
    for entry, found in zip(exclude, matched, strict=True):
        if not found:
            axes = [axis for block in (*blocks, *zipped) for axis in block]
            unknown = [axis for axis in entry if axis not in axes]
            hint = near(unknown[0], axes) if unknown else ""
            raise GridError("exclude", f"no point of the grid matches {dict(entry)}{hint}")


def matches(point: Mapping[str, Any], entry: Mapping[str, Any]) -> bool:
    """Whether `point` has every value that `entry` names; a plug-in also matches by its name."""
    return all(
        axis in point and (point[axis] == value or name_of(point[axis]) == value)
        for axis, value in entry.items()
    )


def name_of(value: Any) -> Any:
    """The name of a plug-in with options; any other value unchanged."""
    return value.get("name") if isinstance(value, dict) else value


def label(value: Any) -> str:
    """How a table shows a value: `react(max_thoughts=2)` for a plug-in with options."""
    if isinstance(value, dict):
        name = str(value.get("name", ""))
        options = ", ".join(f"{k}={label(v)}" for k, v in value.items() if k != "name")
        return f"{name}({options})" if options else name
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return " ".join(str(value).split())


def keys_of(config: Mapping[str, Any], path: str) -> list[str]:
    """The keys along the dotted `path` in `config`.

    Roles and models have keys that may contain dots themselves (`agent.planner`, `w1.5`).
    """
    head, _, rest = path.partition(".")
    if head == "roles" and rest:
        return [head, rest]
    if head == "models" and rest:
        named = [n for n in config.get("models") or () if f"{rest}.".startswith(f"{n}.")]
        if named:
            name = max(named, key=len)
            return [head, name, *rest[len(name) + 1 :].split(".")] if rest != name else [head, name]
    return path.split(".")


def put(config: Mapping[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy of `config` with `value` at the dotted `path`; only what changes is copied."""
    return _put(config, keys_of(config, path), value)


def put_all(config: Mapping[str, Any], point: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of `config` with the value of every dotted path in `point`."""
    found = dict(config)
    for path, value in point.items():
        found = put(found, path, value)
    return found


def _put(config: Mapping[str, Any], keys: Sequence[str], value: Any) -> dict[str, Any]:
    head, *rest = keys
    if not rest:
        return {**config, head: value}
    below = config.get(head)
    if isinstance(below, str):
        below = {"name": below}  # a plug-in given by its name alone
    return {**config, head: _put(below if isinstance(below, Mapping) else {}, rest, value)}


def get(config: Mapping[str, Any], path: str) -> Any:
    """The value at the dotted `path`, or None."""
    value: Any = config
    for key in keys_of(config, path):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _zipped(group: Mapping[str, Sequence[Any]]) -> list[GridPoint]:
    lengths = {axis: len(values) for axis, values in group.items()}
    if len(set(lengths.values())) > 1:
        raise GridError(
            "zip", f"lists that advance together must have the same length, found {lengths}"
        )
    return [dict(zip(group, row, strict=True)) for row in zip(*group.values(), strict=True)]


def _no_double_axes(block: Mapping[str, Any], zipped: Sequence[Mapping[str, Any]]) -> None:
    axes = [*block, *(axis for group in zipped for axis in group)]
    for axis in axes:
        if axes.count(axis) > 1:
            raise GridError("grid", f"the axis {axis!r} is given twice")
