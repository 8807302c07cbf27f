"""The artifact store of a sweep file: where it is, and what is in it."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from agents.core.errors import UsageError
from runner.locations import shared_folder
from sweeps.artifacts import Artifact
from sweeps.load import artifacts_of
from sweeps.schema import Artifacts
from workers.artifacts.store import ArtifactDamaged, ArtifactStore

State = Literal["ready", "to make", "damaged"]


def store_of(wanted: Artifacts) -> ArtifactStore:
    """The store that a sweep file names, relative to the working folder, or the default one."""
    return ArtifactStore(shared_folder(wanted.path, "artifacts"))


def state_of(store: ArtifactStore, key: str) -> State:
    """Whether an artifact is there. Only what it says of itself is read, not its content."""
    try:
        return "to make" if store.about(key) is None else "ready"
    except ArtifactDamaged:
        return "damaged"


def check_packages(artifacts: Iterable[Artifact]) -> None:
    """UsageError for a fit that needs a package which is not installed."""
    for artifact in artifacts:
        for package in getattr(artifact.recipe, "packages", ()):
            if importlib.util.find_spec(package) is None:
                raise UsageError(
                    f"{artifact.title} needs the package {package!r} to be trained, which is not "
                    "installed; it comes with the extra crsweep[train]"
                )


def status_line(recorded: dict[str, Any], keys: Sequence[str]) -> str:
    """For `status`: how many artifacts are there. `recorded` is the manifest's sweep file."""
    try:
        store = store_of(artifacts_of(recorded))
    except UsageError as error:  # what is to be read does not need it
        return f"artifacts: {len(keys)}; their location is unknown ({error.message})"
    states = [state_of(store, key) for key in keys]
    damaged = f", {states.count('damaged')} damaged" if "damaged" in states else ""
    return f"artifacts: {states.count('ready')} of {len(keys)} ready{damaged}, in {store.folder}"
