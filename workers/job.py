"""What a worker needs to run the tasks of one run of a sweep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from simulators.core.cases import Split
from simulators.core.profiles import WrittenProfiles
from sweeps.cells import Cell
from sweeps.judges import PlannedJudge
from sweeps.plan import Plan
from sweeps.schema import PluginRef
from sweeps.storage.folder import Folder
from workers.backends.core import weights
from workers.cache.store import Places

ExecutorName = Literal["ray", "local"]


@dataclass(frozen=True)
class CaseSource:
    """What a worker needs to know about a source of the plan."""

    source_id: str
    domain: PluginRef
    split: Split
    written: WrittenProfiles | None = None
    """Profiles of its users, if a model has written them."""


@dataclass(frozen=True)
class Job:
    """Everything a worker needs to run the tasks of one run. Crosses processes."""

    cells: tuple[Cell, ...]
    judges: tuple[PlannedJudge, ...]
    sources: tuple[CaseSource, ...]
    probe: bool
    executor: ExecutorName
    folder: Folder
    epoch: int
    run_id: str
    transient_retries: int
    weights: weights.Known
    """The weights that models of the sweep file resolve to, as found by the driver."""
    depth: int = 0
    """How many items of a ranking are stored at least."""
    cache: Places | None = None
    """Where completed calls are kept; None keeps none."""
    strict: bool = False
    """Whether a cached reply counts only if what serves now has made it."""


def job_of(plan: Plan, *, probe: bool, executor: ExecutorName, epoch: int, run_id: str) -> Job:
    """The job for running `plan` in its output folder."""
    return Job(
        cells=tuple(plan.cells),
        judges=tuple(plan.judges),
        sources=tuple(
            CaseSource(s.source_id, s.domain_ref, s.split, s.written) for s in plan.sources
        ),
        probe=probe,
        executor=executor,
        folder=plan.loaded.out.absolute(),
        epoch=epoch,
        run_id=run_id,
        transient_retries=plan.loaded.header.retries.transient,
        weights=weights.known(),
        depth=plan.depth,
    )
