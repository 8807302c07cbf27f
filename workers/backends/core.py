"""What backends share: how one is made, and the interface it serves."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from agents.core.calls import Call, Completion
from agents.core.items import Catalogue
from agents.core.plugins import Options


@dataclass(frozen=True)
class BackendContext:
    """What a backend may know of where it runs.

    `name` is the model's name in the sweep file; `run_id` is one per run of a driver, the same
    in all its workers; `catalogue` loads the items of the domain spoken about.
    """

    name: str
    executor: Literal["ray", "local"]
    run_id: str
    log_folder: Path | None
    catalogue: Callable[[], Catalogue]


class Backend(ABC):
    """Serves one model of the sweep file to one process. Made once there, closed at its end."""

    Options: ClassVar[type[Options]]
    version: ClassVar[int] = 1
    wants_shown: ClassVar[bool] = False
    """Whether calls must carry the pairs that their template used (only `rules` reads them)."""
    watermark: ClassVar[bool] = False
    """Whether results are not of a real language model, and tables must say so."""

    @abstractmethod
    def __init__(self, options: Options, context: BackendContext) -> None: ...

    @abstractmethod
    async def complete(self, call: Call) -> Completion:
        """One completion. Raises the engine errors of `agents.core.errors`; never retries."""

    async def check(self) -> str:
        """One line on the health of what is served, for `doctor`; raises if it cannot serve."""
        return "nothing to check"

    async def close(self) -> None:  # noqa: B027  (most backends hold nothing open)
        """Let go of connections and actors."""
