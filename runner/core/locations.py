"""Where the call cache, the journals and the artifacts of a sweep are, and their state."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from agents.core.errors import UsageError
from agents.core.paths import expand_user
from agents.core.plural import many
from simulators.core.profiles import WrittenProfiles
from sweeps.artifacts import Artifact
from sweeps.load import artifacts_of, cache_of
from sweeps.origins import Origins
from sweeps.plan import Plan
from sweeps.schema import Artifacts, Cache
from sweeps.storage.folder import Folder
from workers.artifacts.store import ArtifactDamaged, ArtifactStore
from workers.backends.core.backend import Backend
from workers.cache import journal, segments
from workers.cache.store import Places
from workers.models import backend_of


def shared_folder(path: str | None, name: str) -> Path:
    """The folder that sweeps share.

    It is the one named in the sweep file, relative to the working folder, or the user's folder
    `name`.
    """
    if path:
        return Path(expand_user(path)).absolute()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(expand_user(base)) / "crsweep" / name


def call_cache_folder(path: str | None) -> Path:
    """The folder of the shared call cache."""
    return shared_folder(path, "calls")


def free_calls(count: int, mode: str) -> str:
    """Words for calls that cost nothing, such as ` (12 from the cache)`; empty if there
    are none."""
    if not count:
        return ""
    # even without the cache, equal calls share one request, and the journal serves resumed runs
    if mode == "off":
        return f" ({count:,} of them shared with equal calls or replayed from the sweep's journal)"
    return f" ({count:,} from the cache)"


def places_of(plan: Plan, epoch: int) -> Places | None:
    """Where the calls of a run are kept; None if no model is worth caching (`rules`)."""
    if not any(backend.cacheable for _, backend in _models(plan)):
        return None
    wanted = plan.loaded.header.cache
    return Places(
        folder=journals_of(plan.loaded.out, wanted),
        shared=None if wanted.mode == "off" else call_cache_folder(wanted.path),
        seals=wanted.mode == "readwrite",
        epoch=epoch,
        shards=wanted.owners,
    )


def journals_of(out: Folder, wanted: Cache) -> Path:
    """The folder of a sweep's journals: in the sweep's own folder, or in `journal`."""
    out = out.absolute()
    if wanted.journal is None:
        return out.local
    name = hashlib.sha256(str(out).encode()).hexdigest()[:16]
    return shared_folder(wanted.journal, "journals") / name


def check_paths(plan: Plan) -> None:
    """Refuses a URI in place of a folder: `s3://b/c` would be a local folder with that name."""
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
    """Refuses `match: strict` for a model if it is unknown what currently serves it."""
    if plan.loaded.header.cache.match != "strict":
        return
    for name, backend in _models(plan):
        if backend.cacheable and backend.fingerprints is Backend.fingerprints:
            raise plan.loaded.origins.refuse(
                ("cache", "match"),
                f"strict needs to know what serves a model now, which the backend of the model "
                f"{name!r} does not report; expected 'declared'",
            )


def check_cache_folder(places: Places, origins: Origins) -> None:
    """Refuses a shared folder that a run could not use, before the run starts. Writes nothing."""
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
    """Every model with a role in some cell, with each of its backends."""
    specs = {
        (name, cell.config.models[name].backend): cell.config.models[name]
        for cell in plan.cells
        for name in cell.models
    }
    for (name, _), spec in specs.items():
        yield name, backend_of(spec, Origins(), ())[0]


def size_line(out: Folder, recorded: dict[str, Any]) -> str:
    """For `status`: the sizes of the cache of the sweep in `out` and of the sweep's journals.

    `recorded` is the sweep as stored in its manifest.
    """
    try:
        wanted = cache_of(recorded)
    except UsageError as error:  # what is read does not need it
        return f"call cache: its location is unknown ({error.message})"
    files, size = journal.size(journals_of(out, wanted))
    own = f"{many(files, 'journal')} of this sweep, {mib(size)}"
    if wanted.mode == "off":
        return f"call cache: {own}; none is shared"
    shared = call_cache_folder(wanted.path)
    return f"call cache: {own}; shared in {shared}: {cache_line(shared)}"


def cache_line(folder: Path) -> str:
    files, size = segments.size(folder)
    return f"{many(files, 'file')}, {mib(size)}"


def mib(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB"


ArtifactState = Literal["ready", "to make", "damaged"]


def store_of(wanted: Artifacts) -> ArtifactStore:
    """The artifact store named in the sweep file, relative to the working folder, or the default
    one."""
    return ArtifactStore(shared_folder(wanted.path, "artifacts"))


def artifact_state(store: ArtifactStore, key: str) -> ArtifactState:
    """The state of an artifact. Reads only its description, not its content."""
    try:
        return "to make" if store.about(key) is None else "ready"
    except ArtifactDamaged:
        return "damaged"


def find_profiles(wanted: Artifacts, key: str) -> WrittenProfiles | None:
    """The stored profiles with this key, if any. A damaged artifact is made again."""
    try:
        found = store_of(wanted).find(key)
    except ArtifactDamaged:
        return None
    return None if found is None else WrittenProfiles(found[0].digest, found[1].data)


def check_packages(artifacts: Iterable[Artifact]) -> None:
    """Raises UsageError if a fit needs a package that is not installed."""
    for artifact in artifacts:
        for package in getattr(artifact.recipe, "packages", ()):
            if importlib.util.find_spec(package) is None:
                raise UsageError(
                    f"{artifact.title} needs the package {package!r} to be trained, which is not "
                    "installed; it comes with the extra crsweep[train]"
                )


def status_line(recorded: dict[str, Any], keys: Sequence[str]) -> str:
    """For `status`: how many artifacts exist. `recorded` is the sweep as stored in its manifest."""
    try:
        store = store_of(artifacts_of(recorded))
    except UsageError as error:  # what is read does not need it
        return f"artifacts: {len(keys)}; their location is unknown ({error.message})"
    states = [artifact_state(store, key) for key in keys]
    damaged = f", {states.count('damaged')} damaged" if "damaged" in states else ""
    return f"artifacts: {states.count('ready')} of {len(keys)} ready{damaged}, in {store.folder}"
