"""The error for data that cannot be read: which entry of the grid needs it, and how to run without
it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agents.core.errors import DataError
from sweeps import grid, identity
from sweeps.document import flow
from sweeps.origins import Origins

if TYPE_CHECKING:  # OmegaConf, which workers need not import
    from sweeps.load import LoadedSweep

_NAMED = 3  # entries of the grid; of more, only the number is given


def refused_data(
    error: DataError, loaded: LoadedSweep, origins: Origins, point: Mapping[str, Any]
) -> DataError:
    """`error`, met at a point of the grid, with its place and, if possible, an override to avoid
    it."""
    at = ("domain",) if _path(loaded, point) is None else ("domain", "path")
    place = _place(loaded, point) or origins.of(at)
    return DataError(
        f"{place}: domain: {error.message}{_override_without(loaded, _domain_of(point))}"
    )


def _override_without(loaded: LoadedSweep, bad: grid.GridPoint) -> str:
    """Words that name an override which leaves out `bad`, and everything else without a folder."""
    header = loaded.header
    points = grid.points(header.blocks, header.zip, header.exclude)
    distinct = {identity.canonical(part): part for part in map(_domain_of, points)}
    parts = list(distinct.values())
    out = [part for part in parts if part == bad or _lacks_folder(loaded, part)]
    left = [part for part in parts if part not in out]
    entries = [_brief(part, parts) for part in out]
    # Blocks of a grid may set different axes, so that no entry parts what they share.
    if not left or any(grid.matches(one, entry) for one in left for entry in entries):
        return ""

    def words(part: grid.GridPoint) -> str:
        brief = _brief(part, parts)
        text = ", ".join(f"{axis}={grid.label(value)}" for axis, value in brief.items())
        return loaded.as_written(text) or "the file's domain"

    exclude = loaded.as_written([*header.exclude, *entries])
    rest = " and ".join(map(words, left)) if len(left) <= _NAMED else f"the other {len(left)}"
    return (
        f"; the grid asks for it by {words(bad)}. To run with {rest} alone, add "
        f"{shlex.quote(f'exclude={flow(exclude)}')} to the command"
    )


def _domain_of(point: Mapping[str, Any]) -> grid.GridPoint:
    return {axis: value for axis, value in point.items() if axis.split(".")[0] == "domain"}


def _lacks_folder(loaded: LoadedSweep, part: grid.GridPoint) -> bool:
    path = _path(loaded, part)
    return isinstance(path, str) and not Path(path).is_dir()


def _path(loaded: LoadedSweep, point: Mapping[str, Any]) -> Any:
    return grid.get(grid.put_all(loaded.cell, point), "domain.path")


def _brief(part: grid.GridPoint, parts: Sequence[grid.GridPoint]) -> grid.GridPoint:
    """`part` with plug-ins shortened to their names, if these are unambiguous."""
    names = {axis: grid.name_of(value) for axis, value in part.items()}
    return names if sum(grid.matches(one, names) for one in parts) == 1 else part


def _place(loaded: LoadedSweep, point: Mapping[str, Any]) -> str | None:
    """Where the grid lists the value with this path, if it does."""
    header = loaded.header
    blocks: list[tuple[Sequence[Any], Mapping[str, list[Any]]]] = [
        (("grid",), header.grid or {}),
        *((("grids", index), block) for index, block in enumerate(header.grids or [])),
        *((("zip", index), group) for index, group in enumerate(header.zip)),
    ]
    for axis in ("domain", "domain.path"):
        for where, block in blocks:
            values = block.get(axis, [])
            if axis in point and point[axis] in values:
                return loaded.origins.of((*where, axis, values.index(point[axis])))
    return None
