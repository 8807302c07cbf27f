"""`manifest.json`: what a sweep folder holds, for whoever reads it without the sweep file."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore")


class CellEntry(_Part):
    """One cell of the plan. `axes` holds the labels of the grid's axes, seed left out."""

    cell_id: str
    source_id: str
    axes: dict[str, str]
    backends: dict[str, str]  # role -> backend of its model
    seeds: list[list[int]]  # (sampling, training, order) of each repetition


class SourceEntry(_Part):
    """Where a group of cells takes its cases from: one domain, split and sample."""

    source_id: str
    domain: str
    split: str
    sample: int  # cases of the plan, the first of the permutation
    fingerprint: str


class Manifest(_Part):
    """The plan that was last run in this folder, and what it ran with.

    `config` is the resolved sweep with environment variables unexpanded.
    """

    schema_version: int
    name: str
    driver_epoch: int
    cells: list[CellEntry]
    sources: list[SourceEntry]
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
