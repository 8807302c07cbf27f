"""The common form of all work: a run hands tasks to workers, and each ends in an outcome.

The scheduler, the pool, retries, caps and progress use only what is defined here. What a kind of
task means is defined in two places: `workers.kinds` runs it, `runner.driver.kinds` processes its
outcome. `sweeps.storage.records` defines the table that commits it.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Task(NamedTuple):
    """One piece of work. Crosses processes; a run creates millions, so it is a small tuple."""

    kind: str
    """A noun with a regular plural, such as `episode`, because messages use it."""
    id: str
    """Unique among all tasks of a run, of any kind, because tables are joined by its attempts."""
    cell: int
    """The position in the plan of the cell whose roles and models are used."""
    spec: Any
    """What its kind needs: a small tuple that can be pickled."""
    attempt: int = 0

    def attempt_id(self, epoch: int) -> str:
        """The name of this attempt, by the driver of `epoch`, in every table."""
        return f"{self.id}.{epoch}.{self.attempt}"

    def again(self) -> Task:
        """The next attempt."""
        return self._replace(attempt=self.attempt + 1)


class Outcome(NamedTuple):
    """How one attempt at a task ended. Crosses processes.

    For a kind with a commit table, the attempt is committed, and `result` has at most what other
    tasks wait for. For any other kind, `result` is the only output.
    """

    task: Task
    status: str
    """`done` or `failed`."""
    blame: str | None = None
    error_class: str | None = None
    error: str | None = None
    result: Any = None
