"""`manifest.json`: what a sweep folder holds, for readers without the sweep file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from agents.core.errors import UsageError
from sweeps.schema import Caps, Price
from sweeps.storage import folder as folders
from sweeps.storage.folder import Folder, folder_at
from sweeps.storage.records import READABLE, SCHEMA_VERSION

FILE = "manifest.json"

_NO_LANGUAGE_MODELS = ("rules", "latency")
"""Backends that left a watermark before manifests recorded it."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore")


class CellEntry(_Part):
    """One cell of the plan. `axes` holds the labels of the grid's axes, seed left out."""

    cell_id: str
    source_id: str
    axes: dict[str, str]
    backends: dict[str, str]  # role -> backend of its model
    seeds: list[list[int]]  # (sampling, training, order) of each repetition
    settings: dict[str, Any] = {}
    """What its dialogues ran with, defaults filled in, environment variables unexpanded: the
    parts of a sweep file that make up a cell, and under `models` the model of each role."""


class SourceEntry(_Part):
    """Where a group of cells takes its cases from: one domain, split and sample."""

    source_id: str
    domain: str
    split: str
    sample: int  # cases of the plan, the first of the permutation
    fingerprint: str
    dataset: str = ""  # the recorded data set by its own name, such as ML-1M


class ConcurrencyEntry(_Part):
    """How many dialogues ran at once, where that was adapted."""

    now: int
    moves: list[tuple[float, int, str]] = []
    """(seconds since the start, the new limit, why) of changes, the first and the latest."""


class RunEntry(_Part):
    """One run of a driver, and what it has used as far as that driver saw."""

    driver_epoch: int
    started: float
    stopped: str | None = None
    """Why the run was stopped, if the sweep file says so: failures, or a cap."""
    tokens: dict[str, list[int]] = {}
    """Model -> input and output tokens paid for, also in dialogues that were broken off."""
    gpu_seconds: float = 0.0
    caps: Caps = Caps()
    prices: dict[str, Price] = {}
    command: str = ""
    """What was typed to run the sweep, without `--retry`; empty where nothing was."""
    typed_in: str = ""
    """The working folder that it was typed in."""
    concurrency: ConcurrencyEntry | None = None
    """With `run.concurrency: auto`."""


class ArtifactEntry(_Part):
    """One artifact that the plan needs; the store knows whether it is there."""

    key: str
    title: str
    kind: str
    name: str = ""
    """Its title without the seed."""
    seed: int = 0
    """The training seed."""
    cells: list[int] = []
    """Positions of the cells that need it."""


class DimensionEntry(_Part):
    """What a judge scores, and on which scale."""

    name: str
    kind: str
    low: float
    high: float


class PairEntry(_Part):
    """Which dialogues a judge compares (`sweeps.judges.PairChoice`)."""

    of: str
    axis: str
    baseline: str
    against: list[str]


class JudgeEntry(_Part):
    """A judge of the plan. Judgements of the table are its own by their `judge_digest`."""

    title: str
    name: str
    digest: str
    samples: int
    dimensions: list[DimensionEntry]
    models: dict[str, str]  # role -> model
    options: dict[str, Any] = {}
    pairs: PairEntry | None = None
    """None of a judge of single dialogues."""


class Manifest(_Part):
    """The plan that was last run in this folder, and what it ran with.

    `config` is the resolved sweep with environment variables unexpanded.
    """

    schema_version: int
    oldest_parts: int = min(READABLE)
    """The oldest schema version that parts may have: those of one version are read quicker."""
    recipe: int = 1
    """Of the ids of cells (`sweeps.identity.RECIPE`); the first manifests do not name it."""
    name: str
    driver_epoch: int
    cells: list[CellEntry]
    sources: list[SourceEntry]
    watermark: list[str] = []
    """Backends of `cells` that are not language models: tables name them, and are never compared
    with published figures. Derived from `cells` if an earlier crsweep wrote the manifest."""
    judges: list[JudgeEntry] = []
    seeds: list[int]  # sampling seeds, as in the episodes' column `seed`
    seed_varies: str  # what changes with the seed, in words, for tables
    metrics: list[str]
    cases_file: str  # the newest file under cases/
    plugin_sources: dict[str, dict[str, Any]]  # plug-in -> {version, hash}
    versions: dict[str, str]
    host: dict[str, Any]
    revision: str | None
    dirty: bool | None
    config: dict[str, Any]
    started: float
    ended: float | None = None
    engines: list[dict[str, Any]] = []
    """One entry an engine and run: what served, its tokens, prefix-cache hits, and its deaths."""
    runs: list[RunEntry] = []
    artifacts: list[ArtifactEntry] = []

    @model_validator(mode="after")
    def _derive_watermark(self) -> Self:
        if "watermark" not in self.model_fields_set:
            used = dict.fromkeys(b for cell in self.cells for b in cell.backends.values())
            self.watermark = [backend for backend in used if backend in _NO_LANGUAGE_MODELS]
        return self


def read(where: Folder | Path) -> Manifest | None:
    """The manifest of a folder, None if there is none. UsageError for one of another kind."""
    folder = folder_at(where)
    try:
        data = json.loads(folders.read(folder, FILE))
        version = data.get("schema_version")
        if version not in READABLE:
            raise UsageError(
                f"{folder} has schema version {version}; this crsweep reads {SCHEMA_VERSION}"
            )
        return Manifest.model_validate(data)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UsageError(f"{folder}/{FILE} cannot be read: {error.strerror or error}") from None
    except (ValueError, AttributeError, ValidationError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(
            f"{folder}/{FILE} is not a manifest of crsweep ({reason}); delete it, and the next "
            "`crsweep run` writes it again"
        ) from None


def write(folder: Folder, manifest: Manifest) -> None:
    """Replaces the manifest in one step."""
    folders.write(folder, FILE, manifest.model_dump_json(indent=1).encode())
