"""`manifest.json`: describes a sweep folder for readers without the sweep file."""

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
"""Backends with a watermark, for manifests that did not record it."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore")


class CellEntry(_Part):
    """One cell of the plan. `axes` has the labels of the grid's axes, without the seed."""

    cell_id: str
    source_id: str
    axes: dict[str, str]
    backends: dict[str, str]  # role -> backend of its model
    seeds: list[list[int]]  # (sampling, training, order) of each repetition
    fixed_sentences: bool = False
    """Whether its agent says the same sentences whatever it recommends, so that how convincing they
    are says nothing about it."""
    settings: dict[str, Any] = {}
    """The settings of its dialogues, with defaults, and environment variables unexpanded: the parts
    of a sweep file that make up a cell, and under `models` the model of each role."""


class SourceEntry(_Part):
    """Where a group of cells takes its cases from: domain, split and sample."""

    source_id: str
    domain: str
    split: str
    sample: int  # cases of the plan, the first of the permutation
    fingerprint: str
    dataset: str = ""  # the recorded data set by its own name, such as ML-1M
    profiles: str = ""
    """The digest of its users' profiles, if a model has written them; part of `fingerprint`."""


class ConcurrencyEntry(_Part):
    """How many dialogues ran at once, if that was adapted."""

    now: int
    moves: list[tuple[float, int, str]] = []
    """(seconds since the start, new limit, reason) of the first and latest changes."""


class RunEntry(_Part):
    """One run of a driver, with its usage as far as that driver saw it."""

    driver_epoch: int
    started: float
    stopped: str | None = None
    """Why the run was stopped by a limit of the sweep file (failures or a cap), if so."""
    tokens: dict[str, list[int]] = {}
    """Model -> input and output tokens paid for, including interrupted dialogues."""
    gpu_seconds: float = 0.0
    caps: Caps = Caps()
    prices: dict[str, Price] = {}
    command: str = ""
    """The command that ran the sweep, without `--retry`, if any."""
    typed_in: str = ""
    """The working folder of the command."""
    concurrency: ConcurrencyEntry | None = None
    """With `run.concurrency: auto`."""
    unprepared: dict[str, str] = {}
    """Titles of artifacts that could not be made, and why."""


class ArtifactEntry(_Part):
    """An artifact that the plan needs; the store knows whether it exists."""

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
    """A dimension that a judge scores, and its scale."""

    name: str
    kind: str
    low: float
    high: float


class PairEntry(_Part):
    """The dialogues that a judge compares (`sweeps.judges.PairChoice`)."""

    of: str
    axis: str
    baseline: str
    against: list[str]


class JudgeEntry(_Part):
    """A judge of the plan. Its judgements are found by their `judge_digest`."""

    title: str
    name: str
    digest: str
    samples: int
    dimensions: list[DimensionEntry]
    models: dict[str, str]  # role -> model
    options: dict[str, Any] = {}
    pairs: PairEntry | None = None
    """None for a judge of single dialogues."""


class Manifest(_Part):
    """The plan last run in this folder, and its environment.

    `config` is the resolved sweep with environment variables unexpanded.
    """

    schema_version: int
    oldest_parts: int = min(READABLE)
    """The oldest schema version that parts may have; parts of a single version are read faster."""
    recipe: int = 1
    """The recipe of cell ids (`sweeps.identity.RECIPE`); the first manifests lack it."""
    name: str
    driver_epoch: int
    cells: list[CellEntry]
    sources: list[SourceEntry]
    watermark: list[str] = []
    """Backends of `cells` that are not language models. Tables name them and are never compared
    with published numbers. Derived from `cells` for manifests of earlier versions."""
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
    """One entry per engine and run: what served, its tokens, prefix-cache hits, and deaths."""
    runs: list[RunEntry] = []
    artifacts: list[ArtifactEntry] = []

    @model_validator(mode="after")
    def _derive_watermark(self) -> Self:
        if "watermark" not in self.model_fields_set:
            used = dict.fromkeys(b for cell in self.cells for b in cell.backends.values())
            self.watermark = [backend for backend in used if backend in _NO_LANGUAGE_MODELS]
        return self


def read(where: Folder | Path) -> Manifest | None:
    """The manifest of a folder; None if there is none. Raises UsageError for an unknown format."""
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
    """Replaces the manifest atomically."""
    folders.write(folder, FILE, manifest.model_dump_json(indent=1).encode())
