"""The call cache of a sweep file: where it is, and what a person can do with it."""

from __future__ import annotations

import os
from pathlib import Path

from sweeps.origins import Origins
from sweeps.plan import Plan
from workers.cache.store import Places
from workers.models import backend_of


def default_folder() -> Path:
    """Where sweeps share completed calls unless a sweep file names another folder."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "crsweep" / "calls"


def folder_of(path: str | None) -> Path:
    """The folder that a sweep file names, relative to the working folder, or the default."""
    return Path(path).expanduser().absolute() if path else default_folder()


def places_of(plan: Plan, epoch: int) -> Places | None:
    """Where the calls of a run are kept; None where no model is worth it (`rules`)."""
    kinds = {
        cell.config.models[name].backend: cell.config.models[name]
        for cell in plan.cells
        for name in cell.roles.values()
    }
    if not any(backend_of(spec, Origins(), ())[0].cacheable for spec in kinds.values()):
        return None
    wanted = plan.loaded.header.cache
    return Places(
        folder=plan.loaded.out.absolute().local,
        shared=None if wanted.mode == "off" else folder_of(wanted.path),
        seals=wanted.mode == "readwrite",
        epoch=epoch,
        shards=wanted.owners,
    )
