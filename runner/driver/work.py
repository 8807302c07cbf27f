"""What a command runs in a sweep folder, and how much of it is left.

A command finds its work while it opens the folder (`runner.driver.opening`), in one pass over the
plan, and keeps it until the run ends.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from rich.console import Console

from agents.core.errors import UsageError
from agents.core.plural import many
from runner.driver.artifacts import Preparation
from runner.driver.failures import to_run_again
from runner.driver.progress import Tally
from runner.driver.repair import refusing_foreign
from sweeps.plan import Plan
from sweeps.storage.folder import Folder
from sweeps.storage.parts import PartDamaged
from sweeps.storage.records import EPISODE
from sweeps.tasks import Task
from workers.results.bundles import committed


class Work(Protocol):
    """The tasks of one command, all of one kind, and the artifacts that they need."""

    noun: str
    """The word for one of its tasks."""

    @property
    def completes(self) -> bool:
        """Whether the sweep is complete once all of it is done."""
        ...

    @property
    def preparation(self) -> Preparation: ...

    @property
    def artifacts(self) -> Sequence[str]:
        """The keys of the artifacts that the tasks need."""
        ...

    @property
    def planned(self) -> int: ...

    @property
    def left(self) -> int:
        """How many of the planned tasks are left."""
        ...

    @property
    def totals(self) -> Mapping[str, int]:
        """Kind -> number of tasks in `tasks` for all cells."""
        ...

    @property
    def cells(self) -> frozenset[int]:
        """The cells with something left."""
        ...

    @property
    def speaking(self) -> Plan:
        """The plan, reduced to the roles that this work needs."""
        ...

    def tasks(self, cells: Collection[int]) -> Iterator[Task]:
        """The remaining tasks of some cells, in running order."""
        ...

    def needs(self, task: Task) -> Collection[str]:
        """The keys of the artifacts that a task needs."""
        ...

    def left_after(self, tally: Tally, *, whole: bool) -> int:
        """How many are left after a run, which committed everything in its `tally` unless not
        `whole`."""
        ...

    def summary(self) -> str:
        """How many are planned, done and left, in words."""
        ...

    def nothing_left(self) -> str:
        """A message that nothing is left."""
        ...


FindWork = Callable[[Plan], Work]
"""Finds the work in the plan's folder. Raises PartDamaged for a part that must be set aside."""


class Remaining(NamedTuple):
    """What is left of a plan."""

    episodes: int
    cells: frozenset[int]
    """The cells with an episode left."""
    artifacts: Sequence[str]
    """The keys of the artifacts that these episodes need, in the plan's order."""


def remaining(plan: Plan, done: Set[str]) -> Remaining:
    """What is left of a plan without the episodes in `done`, found in one pass."""
    if not done:
        cells = (n for n, cell in enumerate(plan.cells) if cell.profiles is None)
        wanted = [key for key in plan.artifacts if key not in plan.pending]
        return Remaining(plan.episodes, frozenset(cells), wanted)
    count, found = 0, set()
    for task in plan.episode_tasks(done):
        count += 1
        found.add((task.cell, task.spec.seeds))
    needed = {key for cell, seeds in found for key in plan.cells[cell].artifacts(seeds).values()}
    artifacts = [key for key in plan.artifacts if key in needed]
    return Remaining(count, frozenset(cell for cell, _ in found), artifacts)


def settled_episodes(folder: Folder) -> set[str]:
    """The ids of the episodes in `folder` that need no further attempt. Raises UsageError if it is
    damaged."""
    try:
        return find_settled(folder)
    except PartDamaged as error:
        raise UsageError(error.message) from None


def find_settled(folder: Folder, retry: Sequence[str] = (), kind: str = EPISODE) -> set[str]:
    """The same for any kind of task, but raises PartDamaged for what a run sets aside."""
    with refusing_foreign():
        return committed(folder, kind) - to_run_again(folder, retry, kind)


@dataclass(frozen=True)
class EpisodeWork:
    """The work of `crsweep run`: unfinished episodes, and the artifacts that they need."""

    plan: Plan
    done: Set[str]
    remaining: Remaining
    preparation: Preparation
    noun = "episode"

    @classmethod
    def find(
        cls, plan: Plan, *, retry: Sequence[str], accept_artifacts: bool, console: Console
    ) -> EpisodeWork:
        """Finds it. `retry` names error classes and blames whose failed episodes are rerun."""
        done = find_settled(plan.loaded.out, retry)
        left = remaining(plan, done)
        preparation = Preparation(plan, left.artifacts, console, accept=accept_artifacts)
        return cls(plan, done, left, preparation)

    @property
    def completes(self) -> bool:
        """False if judgements follow: until those are done, the journal serves a resumed run."""
        return not self.plan.judges

    @property
    def artifacts(self) -> Sequence[str]:
        return self.remaining.artifacts

    @property
    def planned(self) -> int:
        return self.plan.episodes

    @property
    def left(self) -> int:
        return self.remaining.episodes

    @property
    def totals(self) -> Mapping[str, int]:
        return {EPISODE: self.remaining.episodes}

    @property
    def cells(self) -> frozenset[int]:
        return self.remaining.cells

    @property
    def speaking(self) -> Plan:
        return self.plan

    def tasks(self, cells: Collection[int]) -> Iterator[Task]:
        """Tasks outside of streams; `runner.driver.streams` provides the others."""
        return self.plan.single_tasks(self.done, cells)

    def needs(self, task: Task) -> Collection[str]:
        return self.plan.cells[task.cell].artifacts(task.spec.seeds).values()

    def left_after(self, tally: Tally, *, whole: bool) -> int:
        if whole:
            return tally.left
        return remaining(self.plan, find_settled(self.plan.loaded.out)).episodes

    def summary(self) -> str:
        done = self.planned - self.left
        some = f", {done:,} done" if done else ""
        return f"{many(self.planned, self.noun)}{some}, {self.left:,} to run"

    def nothing_left(self) -> str:
        return f"nothing to do: all {self.planned:,} episodes are settled"


@dataclass(frozen=True)
class ArtifactWork:
    """The work of `crsweep prepare`: artifacts of the plan, no episodes."""

    plan: Plan
    preparation: Preparation
    keys: Sequence[str]
    noun = "artifact"
    completes = False

    @classmethod
    def find(
        cls,
        plan: Plan,
        *,
        accept_artifacts: bool,
        console: Console,
        keys: Sequence[str] | None = None,
    ) -> ArtifactWork:
        """Finds it; with `keys`, only those artifacts."""
        keys = list(plan.artifacts) if keys is None else keys
        return cls(plan, Preparation(plan, keys, console, accept=accept_artifacts), keys)

    @property
    def artifacts(self) -> Sequence[str]:
        return self.keys

    @property
    def planned(self) -> int:
        return len(self.keys)

    @property
    def left(self) -> int:
        return self.preparation.missing

    @property
    def totals(self) -> Mapping[str, int]:
        return {EPISODE: 0}

    @property
    def cells(self) -> frozenset[int]:
        return frozenset(range(len(self.plan.cells)))

    @property
    def speaking(self) -> Plan:
        return self.preparation.engines_only()

    def tasks(self, cells: Collection[int]) -> Iterator[Task]:
        return iter(())

    def needs(self, task: Task) -> Collection[str]:
        return ()

    def left_after(self, tally: Tally, *, whole: bool) -> int:
        return self.left

    def summary(self) -> str:
        return f"{many(self.planned, 'artifact')}, {self.left:,} to make"

    def nothing_left(self) -> str:
        if not self.planned:
            return "nothing to prepare: the sweep needs no artifacts"
        return f"nothing to prepare: all {self.planned:,} artifacts are ready"
