"""How a command that runs a sweep ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from runner.core.exit_codes import ExitCode
from runner.driver.progress import Tally
from sweeps.storage.folder import Folder


@dataclass(frozen=True)
class RunResult:
    """How a run ended. `left` tasks of those planned are still to be done."""

    folder: Folder
    noun: str
    """What one of its tasks is called."""
    planned: int
    left: int
    tally: Tally | None
    stopped: str | None = None
    """Why the run was stopped early, if the sweep file says so."""
    unprepared: Mapping[str, str] = field(default_factory=dict)
    """Artifact -> why it could not be made."""
    needs: Sequence[str] = ()
    """The overrides that the next run needs to continue: of caps that are reached."""
    unavailable: bool = False
    """Whether it was stopped because a model serves no call."""
    unfinished: Sequence[str] = ()
    """What failed after everything was committed, and is made up for by the next run."""

    @property
    def exit_code(self) -> ExitCode:
        return ExitCode.COMPLETE if self.left == 0 else ExitCode.INCOMPLETE
