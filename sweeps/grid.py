"""The grid: from axes to points, lazily.

A point sets every axis of one block to one value. Lists under `zip` advance together and count
as one axis; `exclude` drops points that match an entry in all that the entry names.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from agents.core.errors import UsageError

Point = dict[str, Any]


def points(
    blocks: Sequence[Mapping[str, Sequence[Any]]],
    zipped: Sequence[Mapping[str, Sequence[Any]]] = (),
    exclude: Sequence[Mapping[str, Any]] = (),
) -> Iterator[Point]:
    """All points of the union of `blocks`; the last axis varies fastest.

    Raises UsageError for zipped lists of different lengths, and for an axis given twice.
    """
    together = [_zipped(group) for group in zipped]
    for block in blocks:
        _no_double_axes(block, zipped)
        single = [[{axis: value} for value in values] for axis, values in block.items()]
        for parts in itertools.product(*single, *together):
            point = {axis: value for part in parts for axis, value in part.items()}
            if not any(matches(point, entry) for entry in exclude):
                yield point


def matches(point: Mapping[str, Any], entry: Mapping[str, Any]) -> bool:
    """Whether `point` has every value that `entry` names; a plug-in matches by its name too."""
    return all(
        axis in point and (point[axis] == value or _name(point[axis]) == value)
        for axis, value in entry.items()
    )


def label(value: Any) -> str:
    """How a value reads in a table: `react(max_thoughts=2)` for a plug-in with options."""
    if isinstance(value, dict) and isinstance(value.get("name"), str):
        options = ", ".join(f"{k}={label(v)}" for k, v in value.items() if k != "name")
        return f"{value['name']}({options})" if options else value["name"]
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return str(value)


def put(config: Mapping[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy of `config` in which the dotted `path` holds `value`; only what changes is copied."""
    head, _, rest = path.partition(".")
    if not rest:
        return {**config, head: value}
    below = config.get(head)
    if isinstance(below, str):
        below = {"name": below}  # a plug-in given by its name alone
    return {**config, head: put(below if isinstance(below, Mapping) else {}, rest, value)}


def get(config: Mapping[str, Any], path: str) -> Any:
    """What the dotted `path` holds, or None."""
    value: Any = config
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _name(value: Any) -> Any:
    return value.get("name") if isinstance(value, dict) else value


def _zipped(group: Mapping[str, Sequence[Any]]) -> list[Point]:
    lengths = {axis: len(values) for axis, values in group.items()}
    if len(set(lengths.values())) > 1:
        raise UsageError(f"zip: lists that advance together must be equally long, found {lengths}")
    return [dict(zip(group, row, strict=True)) for row in zip(*group.values(), strict=True)]


def _no_double_axes(block: Mapping[str, Any], zipped: Sequence[Mapping[str, Any]]) -> None:
    axes = [*block, *(axis for group in zipped for axis in group)]
    for axis in axes:
        if axes.count(axis) > 1:
            raise UsageError(f"the axis {axis!r} stands in the grid twice")
