"""One kind of work: everything that a run hands to workers is a task, and ends in an outcome.

The scheduler, the pool, retries, caps and progress see no more of a task than what is here. What a
kind of task means is known in two places: `workers.kinds` runs it, `runner.driver.kinds` takes what
became of it. `sweeps.storage.records` says which table commits it.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Task(NamedTuple):
    """One piece of work. Crosses processes; a run makes millions, so it stays a small tuple."""

    kind: str
    """A noun that takes an s, such as `episode`: messages use it."""
    id: str
    """Unique among all tasks of a run, of whatever kind: tables are joined by its attempts."""
    cell: int
    """The position in the plan's cells of the cell whose roles and models are used."""
    spec: Any
    """What its kind needs to know: a small tuple that can be pickled."""
    attempt: int = 0

    def attempt_id(self, epoch: int) -> str:
        """The name of this attempt, by the driver of `epoch`, in every table."""
        return f"{self.id}.{epoch}.{self.attempt}"

    def again(self) -> Task:
        """The next attempt."""
        return self._replace(attempt=self.attempt + 1)


class Outcome(NamedTuple):
    """How one attempt at a task ended. Crosses processes.

    Of a kind with a commit table, the attempt is committed, and `result` is at most what other
    tasks wait for. Of any other kind, `result` is all that there is of it.
    """

    task: Task
    status: str
    """`done` or `failed`."""
    blame: str | None = None
    error_class: str | None = None
    error: str | None = None
    result: Any = None
