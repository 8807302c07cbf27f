"""The call cache of a sweep file: where it is, and what a person can do with it."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

from agents.core.errors import UsageError
from agents.core.paths import expand_user
from runner.invocation import program
from sweeps.load import cache_of
from sweeps.origins import Origins
from sweeps.plan import Plan
from sweeps.schema import Cache
from sweeps.storage.folder import Folder
from workers.backends.core import Backend
from workers.cache import journal, segments
from workers.cache.entries import Damage
from workers.cache.store import Places
from workers.models import backend_of

_UNITS = {"h": 3600, "d": 24 * 3600, "w": 7 * 24 * 3600}


def shared_folder(path: str | None, name: str) -> Path:
    """What sweeps share: the folder that a sweep file names, relative to the working folder, or
    the user's own of this `name`."""
    if path:
        return Path(expand_user(path)).absolute()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(expand_user(base)) / "crsweep" / name


def folder_of(path: str | None) -> Path:
    """Where sweeps share completed calls."""
    return shared_folder(path, "calls")


def free_calls(count: int, mode: str) -> str:
    """` (12 from the cache)`: words for calls that cost nothing, if there are any."""
    if not count:
        return ""
    if mode == "off":  # equal calls share one request all the same, and the journal serves resumes
        return f" ({count:,} of them shared with equal calls or replayed from the sweep's journal)"
    return f" ({count:,} from the cache)"


def places_of(plan: Plan, epoch: int) -> Places | None:
    """Where the calls of a run are kept; None where no model is worth it (`rules`)."""
    if not any(backend.cacheable for _, backend in _models(plan)):
        return None
    wanted = plan.loaded.header.cache
    return Places(
        folder=journals_of(plan.loaded.out, wanted),
        shared=None if wanted.mode == "off" else folder_of(wanted.path),
        seals=wanted.mode == "readwrite",
        epoch=epoch,
        shards=wanted.owners,
    )


def journals_of(out: Folder, wanted: Cache) -> Path:
    """The folder in which the journals of a sweep lie: its own, or one of its in `journal`."""
    out = out.absolute()
    if wanted.journal is None:
        return out.local
    name = hashlib.sha256(str(out).encode()).hexdigest()[:16]
    return shared_folder(wanted.journal, "journals") / name


def check_paths(plan: Plan) -> None:
    """Refuses a URI where a folder is meant: `s3://b/c` would be a local folder of that name."""
    header = plan.loaded.header
    for key, path in (
        (("cache", "path"), header.cache.path),
        (("cache", "journal"), header.cache.journal),
        (("artifacts", "path"), header.artifacts.path),
    ):
        if path and "://" in path:
            raise plan.loaded.origins.refuse(
                key, f"expected a folder of a local or shared file system, found {path}"
            )


def check_match(plan: Plan) -> None:
    """Refuses `match: strict` for a model of which nobody knows what serves it now."""
    if plan.loaded.header.cache.match != "strict":
        return
    for name, backend in _models(plan):
        if backend.cacheable and backend.fingerprints is Backend.fingerprints:
            raise plan.loaded.origins.refuse(
                ("cache", "match"),
                f"strict needs to know what serves a model now, which the backend of the model "
                f"{name!r} cannot tell; expected 'declared'",
            )


def check_folder(places: Places, origins: Origins) -> None:
    """Refuses a shared folder that a run could not use, before it starts. Writes nothing."""
    folder = places.shared
    if folder is None:
        return
    if folder.exists() and not folder.is_dir():
        raise origins.refuse(("cache", "path"), f"expected a folder, found the file {folder}")
    try:
        if places.seals:
            there = next(path for path in (folder, *folder.parents) if path.exists())
            tempfile.TemporaryFile(dir=there).close()
        elif folder.exists():
            next(folder.iterdir(), None)
    except OSError as error:
        done = "written" if places.seals else "read"
        raise origins.refuse(
            ("cache", "path"), f"{folder} cannot be {done}: {error.strerror or error}"
        ) from None


def _models(plan: Plan) -> Iterator[tuple[str, type[Backend]]]:
    """Every model that speaks in some cell, with each backend that it has there."""
    specs = {
        (name, cell.config.models[name].backend): cell.config.models[name]
        for cell in plan.cells
        for name in cell.roles.values()
    }
    for (name, _), spec in specs.items():
        yield name, backend_of(spec, Origins(), ())[0]


def seconds_of(text: str) -> int:
    """A time such as `30d`, in seconds. Raises UsageError."""
    found = re.fullmatch(r"(\d{1,9})([hdw])", text.strip())  # longer than there are calls
    if found is None:
        raise UsageError(f"--keep {text}: expected a number of hours, days or weeks: 12h, 30d, 2w")
    return int(found[1]) * _UNITS[found[2]]


def prune(keep: str, path: str | None, console: Console) -> None:
    """Drops what was stored longer ago than `keep`, and prints how much."""
    before = time.time() - seconds_of(keep)
    folder = _existing(path)
    bytes_before = segments.size(folder)[1]
    dropped = segments.prune(folder, before)
    freed = bytes_before - segments.size(folder)[1]
    console.print(
        f"{folder}: {dropped:,} calls dropped, {_mib(freed)} freed; now {_of_cache(folder)}",
        markup=False,
        soft_wrap=True,
    )


def verify(path: str | None, console: Console) -> bool:
    """Reads everything, prints a line for each file that is damaged; whether none is."""
    folder = _existing(path)
    entries = files = damaged = 0
    for health in segments.verify(folder):
        files += 1
        entries += health.entries
        faults = [health.fault] if health.fault else []
        if health.damaged:
            faults.insert(0, f"{health.damaged:,} of {health.entries:,} calls are damaged")
        if faults:
            damaged += 1
            console.print(f"{health.path}: {'; '.join(faults)}", markup=False, soft_wrap=True)
    console.print(
        f"{folder}: {entries:,} calls read in {files:,} files, "
        f"{f'{damaged:,} files are damaged' if damaged else 'all whole'}",
        markup=False,
        soft_wrap=True,
    )
    return not damaged


def damage_lines(damage: Damage, path: str | None) -> Iterator[str]:
    """Describes what a run paid for again; `path` is that of the cache in the sweep file."""
    if damage.calls:
        where = f" --path {shlex.quote(str(folder_of(path)))}" if path else ""
        yield (
            f"{damage.calls:,} calls were paid for again because their entries in the call cache "
            f"are damaged: `{program()} cache verify{where}` names the files"
        )
    if damage.files:
        yield (
            f"{len(damage.files):,} files of the call cache cannot be read completely; the "
            f"calls lost in them are paid for again: {', '.join(sorted(damage.files))}"
        )


def size_line(out: Folder, recorded: dict[str, Any]) -> str:
    """For `status`: how large the cache of the sweep in `out` is, and the sweep's journals.

    `recorded` is the sweep as its manifest has it.
    """
    try:
        wanted = cache_of(recorded)
    except UsageError as error:  # what is to be read does not need it
        return f"call cache: its location is unknown ({error.message})"
    files, size = journal.size(journals_of(out, wanted))
    own = f"{files:,} journals of this sweep, {_mib(size)}"
    if wanted.mode == "off":
        return f"call cache: {own}; none is shared"
    shared = folder_of(wanted.path)
    return f"call cache: {own}; shared in {shared}: {_of_cache(shared)}"


def _existing(path: str | None) -> Path:
    folder = folder_of(path)
    if not folder.is_dir():
        found = "found a file" if folder.exists() else "there is none"
        raise UsageError(f"expected the folder of a call cache at {folder}, {found}")
    return folder


def _of_cache(folder: Path) -> str:
    files, size = segments.size(folder)
    return f"{files:,} files, {_mib(size)}"


def _mib(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB"
