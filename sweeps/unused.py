"""Values of a sweep file that have no effect, because the grid sets the same part in all cells.

They are checked like those that have one: most often they are what is left of an earlier sweep,
and count again when the axis is removed. Files that others extend have such values on purpose.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from agents.core import plugins
from agents.core.errors import near
from simulators.core.critic import CRITICS
from sweeps import grid
from sweeps.cells import SEED_AXES, SUCCESS
from sweeps.origins import Origins, check
from sweeps.schema import CellConfig
from sweeps.sources import make_domain
from sweeps.speakers import AGENTS, USERS, require, speaker

if TYPE_CHECKING:  # OmegaConf, which workers need not import
    from sweeps.load import LoadedSweep

_SPEAKERS = {"agent": AGENTS, "simulator": USERS, "critic": CRITICS}


def unused_values(loaded: LoadedSweep, point: Mapping[str, Any]) -> list[str]:
    """A line, with its place, for each of them; UsageError for one that is wrong.

    `point` is any point of the grid.
    """
    found: list[str] = []
    for axis in _axes_of_all_cells(loaded):
        keys = tuple(grid.keys_of(loaded.cell, axis))
        if loaded.origins.places.get(keys, "").startswith(f"{loaded.path}:"):
            others = {k: v for k, v in point.items() if k != axis and k not in SEED_AXES}
            _check(loaded, keys, others)
            found.append(loaded.origins.refuse(keys, "has no effect, the grid sets it").message)
    return found


def _axes_of_all_cells(loaded: LoadedSweep) -> Iterator[str]:
    first, *others = loaded.header.blocks
    yield from (axis for axis in first if all(axis in block for block in others))
    yield from (axis for group in loaded.header.zip for axis in group)


def _check(loaded: LoadedSweep, keys: Sequence[str], others: Mapping[str, Any]) -> None:
    """Checks the value at `keys`, with the rest of a cell as `others` have it."""
    raw, origins = grid.put_all(loaded.cell, others), loaded.origins
    config: CellConfig = check(CellConfig, raw, origins)
    part = keys[0]
    if part in others:  # which is not what the options at `keys` are for
        return
    if part in _SPEAKERS:
        speaker(getattr(config, part), _SPEAKERS[part], part, origins, (part,))
    elif part == "domain":
        make_domain(config.domain, origins)
    elif part == "success":
        require(plugins.load, SUCCESS, config.success.name, "success rule", origins, keys)
    elif part == "roles" and len(keys) > 1:
        _check_role(config, keys, origins)


def _check_role(config: CellConfig, keys: Sequence[str], origins: Origins) -> None:
    model = config.roles[keys[1]]
    if model not in config.models:
        raise origins.refuse(keys, f"there is no model {model!r}{near(model, config.models)}")
