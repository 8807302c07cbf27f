"""The artifact store: everything made before dialogues, made once and shared by sweeps.

1. An artifact is a folder named by its key. It has `artifact.json` (what it is, the digest of its
   content, when and with what it was made), `data.json`, an `.npy` file for each array, and
   `calls.parquet` with the prompts and replies of a model-written artifact.
2. It is written to a temporary folder, flushed, and renamed. If two drivers make the same one at
   once, the first wins and the second compares digests.
3. Content that does not match its recorded digest is damaged: it is set aside and made again.
4. States of a running fit are in `<key>.state`, each in a folder with the same layout.

Only the driver uses the store; workers receive the content.
"""

from __future__ import annotations

import errno
import json
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, ValidationError

from agents.core.artifacts import Content, CurvePoint, Recipe
from agents.core.errors import StoreError
from sweeps.storage.folder import flush
from workers.results.bundles import table_of

ABOUT, DATA, CALLS = "artifact.json", "data.json", "calls.parquet"
_FORMAT = 1
_ABANDONED = 24 * 3600.0  # seconds after which what was being written has no writer any more


class About(BaseModel):
    """The content of `artifact.json`. Times are in seconds, `made` since the epoch."""

    model_config = ConfigDict(extra="ignore", ser_json_inf_nan="constants")
    format: int = _FORMAT
    key: str
    digest: str
    arrays: list[str]
    title: str = ""
    kind: str = ""
    recipe: dict[str, Any] = {}
    domain: str = ""
    """The fingerprint of the data set it was made from."""
    seed: int = 0
    made: float = 0.0
    seconds: float = 0.0
    """The time to make it: for a fit, all attempts that contributed to it; for calls, the last
    attempt."""
    calls: int = 0
    cached: int = 0
    """How many of `calls` were answered by the call cache."""
    tokens: int = 0
    versions: dict[str, str] = {}
    curve: list[CurvePoint] = []
    """The training curve, as far as it belongs to the content."""


class Prepared(NamedTuple):
    """An artifact that is ready. `recipe` loads it. Crosses processes."""

    key: str
    digest: str
    recipe: Recipe
    content: Content


class Stored(NamedTuple):
    """An artifact in a store that this process can read."""

    folder: Path
    key: str

    def content(self) -> Content:
        """The content, mapped from its files. Raises StoreError if it is missing or damaged."""
        found = ArtifactStore(self.folder).find(self.key)
        if found is None:
            raise StoreError(f"the artifact {self.folder / self.key} is gone")
        return found[1]


class ArtifactDamaged(StoreError):
    """An artifact or state in the store does not match what was written."""


class ArtifactDiffers(StoreError):
    """The same recipe, data and seed gave different content than before."""


class ArtifactStore:
    """The folder of all artifacts. Methods raise StoreError if it cannot be read or written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def about(self, key: str) -> About | None:
        """The description of an artifact; None if there is none. Raises ArtifactDamaged."""
        return _about(self.folder / key)

    def find(self, key: str) -> tuple[About, Content] | None:
        """An artifact with its arrays mapped read-only; None if there is none. Raises
        ArtifactDamaged."""
        return _read(self.folder / key)

    def alike(self, kind: str, recipe: Mapping[str, Any], domain: str) -> list[About]:
        """Descriptions of artifacts of this recipe and data (a fingerprint), by seed.

        Unreadable ones are left out here; loading them raises the error.
        """
        found = []
        wanted = (kind, json.loads(json.dumps(recipe)), domain)
        names = [path.name for path in self.folder.iterdir()] if self.folder.is_dir() else []
        for name in names:
            if "." in name:  # unfinished artifacts, states, and damaged ones
                continue
            with suppress(StoreError):
                about = self.about(name)
                if about is not None and (about.kind, about.recipe, about.domain) == wanted:
                    found.append(about)
        return sorted(found, key=lambda about: about.seed)

    def calls(self, key: str) -> list[Mapping[str, Any]]:
        """The calls that made an artifact (rows of `calls`); empty if no model did."""
        path = self.folder / key / CALLS
        try:
            return pq.read_table(path).to_pylist() if path.exists() else []
        except pa.ArrowInvalid as error:
            raise ArtifactDamaged(f"{path} is damaged: {error}") from None
        except OSError as error:
            raise _cannot("read", path, error) from error

    def set_aside(self, key: str) -> Path:
        """Renames a damaged artifact, so that it is not found again."""
        aside = self.folder / f"{key}.damaged-{time.time_ns()}"
        with suppress(FileNotFoundError):  # another driver has renamed it already
            (self.folder / key).rename(aside)
        return aside

    def keep(
        self, about: About, content: Content, calls: Sequence[Mapping[str, Any]] = ()
    ) -> tuple[About, Content]:
        """Stores an artifact, and returns the stored one, mapped.

        Raises ArtifactDiffers if another driver has stored different content in the meantime.
        """
        path = self.folder / about.key
        try:
            _write(path, about, content, calls)
        except OSError as error:
            raise _cannot("written", path, error) from error
        found = self.find(about.key)
        assert found is not None
        digest = _plain(content).digest()
        if found[0].digest != digest:
            raise ArtifactDiffers(
                f"{about.title} was also made by another driver, with different content: "
                f"{self.folder / about.key} has {found[0].digest}, this one {digest}; run the same "
                "command again to continue with the stored one"
            )
        return found

    def state(self, key: str) -> tuple[About, Content] | None:
        """The latest intact state of a fit, and the seconds spent on it; None if there is none."""
        for path in reversed(self._states(key)):
            try:
                found = _read(path)
            except ArtifactDamaged:
                continue  # an older one only costs time
            if found is not None:
                return found
        return None

    def save_state(
        self, key: str, state: Content, seconds: float, curve: Sequence[CurvePoint] = ()
    ) -> None:
        """Saves a state with its seconds and curve, and deletes earlier ones."""
        old = self._states(key)
        about = About(key=key, digest="", arrays=[], seconds=seconds, curve=list(curve))
        path = self.folder / f"{key}.state" / f"{time.time_ns():020d}"
        try:
            _write(path, about, state, ())
        except FileNotFoundError:
            return  # another sweep has finished the same fit and deleted its states
        except OSError as error:
            raise _cannot("written", path, error) from error
        for state_before in old:
            shutil.rmtree(state_before, ignore_errors=True)

    def drop_states(self, key: str) -> None:
        shutil.rmtree(self.folder / f"{key}.state", ignore_errors=True)

    def _states(self, key: str) -> list[Path]:
        with suppress(FileNotFoundError):
            found = (self.folder / f"{key}.state").iterdir()
            return sorted(path for path in found if not path.name.startswith("."))
        return []


def _write(path: Path, about: About, content: Content, calls: Sequence[Mapping[str, Any]]) -> None:
    """Writes a complete folder, unless it exists already. Raises OSError."""
    content = _plain(content)
    about = about.model_copy(update={"digest": content.digest(), "arrays": sorted(content.arrays)})
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(path.parent)
    aside = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp"))
    try:
        (aside / DATA).write_text(json.dumps(content.data))
        for name, array in content.arrays.items():
            np.save(aside / f"{name}.npy", array, allow_pickle=False)
        if calls:
            stamp = {"bundle_id": about.key, "driver_epoch": 0}
            pq.write_table(table_of("calls", calls, stamp), aside / CALLS, compression="zstd")
        (aside / ABOUT).write_text(about.model_dump_json(indent=1))
        for file in aside.iterdir():
            flush(file)
        flush(aside)
        aside.chmod(0o755)
        _rename(aside, path)
        flush(path.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _remove_abandoned(folder: Path) -> None:
    for path in folder.glob(".*.tmp"):
        with suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > _ABANDONED:
                shutil.rmtree(path, ignore_errors=True)


def _rename(aside: Path, path: Path) -> None:
    """Gives a folder its name, unless another folder has it."""
    try:
        aside.rename(path)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise


def _plain(content: Content) -> Content:
    """The value as it reads back after writing: JSON has no tuples, and no numbers as keys."""
    return Content(json.loads(json.dumps(content.data)), content.arrays)


def _about(path: Path) -> About | None:
    try:
        found = About.model_validate_json((path / ABOUT).read_bytes())
    except FileNotFoundError:
        if path.is_dir():
            raise ArtifactDamaged(f"{path} is damaged: it has no {ABOUT}") from None
        return None
    except OSError as error:
        raise _cannot("read", path, error) from error
    except ValidationError as error:
        reason = str(error).splitlines()[0]
        raise ArtifactDamaged(f"{path} is damaged: {ABOUT} cannot be read ({reason})") from None
    if found.format != _FORMAT:
        raise StoreError(f"{path} has format {found.format}; this crsweep reads {_FORMAT}")
    return found


def _read(path: Path) -> tuple[About, Content] | None:
    about = _about(path)
    if about is None:
        return None
    try:
        data = json.loads((path / DATA).read_bytes())
        content = Content(data, {name: _array(path / f"{name}.npy") for name in about.arrays})
    except (FileNotFoundError, ValueError, EOFError) as error:
        raise ArtifactDamaged(f"{path} is damaged: {error}") from None
    except OSError as error:
        raise _cannot("read", path, error) from error
    if content.digest() != about.digest:
        raise ArtifactDamaged(
            f"{path} is damaged: its content has the digest {content.digest()}, and had "
            f"{about.digest} when it was written"
        )
    return about, content


def _array(path: Path) -> np.ndarray:
    """A memory-mapped array, so that processes share it in the page cache."""
    return np.load(path, allow_pickle=False, mmap_mode="r")


def _cannot(done: str, path: Path, error: OSError) -> StoreError:
    return StoreError(f"the artifact {path} cannot be {done}: {error.strerror or error}")
