"""How a command that runs a sweep ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from runner.core.exit_codes import ExitCode
from runner.driver.progress import Tally
from sweeps.storage.folder import Folder


@dataclass(frozen=True)
class RunResult:
    """How a run ended. `left` of the `planned` tasks are still to do."""

    folder: Folder
    noun: str
    """The word for one of its tasks."""
    planned: int
    left: int
    tally: Tally | None
    stopped: str | None = None
    """Why the run was stopped early by a limit of the sweep file, if so."""
    unprepared: Mapping[str, str] = field(default_factory=dict)
    """Artifact -> why it could not be made."""
    needs: Sequence[str] = ()
    """The overrides that the next run needs to continue, for caps that are reached."""
    unavailable: bool = False
    """Whether it stopped because a model serves no call."""
    unfinished: Sequence[str] = ()
    """Errors after everything was committed; the next run catches up on them."""

    @property
    def exit_code(self) -> ExitCode:
        return ExitCode.COMPLETE if self.left == 0 else ExitCode.INCOMPLETE
