"""What backends share: how one is made, and the interface it serves."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

from agents.core.calls import Call, Completion, Embedded
from agents.core.items import Catalogue
from agents.core.plugins import Options
from workers.core.concurrency import Load
from workers.core.environment import Variables
from workers.core.retry import Throttle


@dataclass(frozen=True)
class EngineSpec:
    """An engine that a run must start, and all that decides it. Crosses processes.

    `key` is a digest of what distinguishes engines; models that differ only in sampling share it.
    `label` is a name for messages. `gpus` is a replica's share: a fraction, or whole GPUs of one
    node (CPU slots where there are none).
    """

    key: str
    label: str
    kind: str
    arguments: Mapping[str, Any]
    max_inflight: int
    start_timeout: float
    replicas: int
    gpus: float
    weights: Mapping[str, str] = field(default_factory=dict)
    """Commit of the Hub, or content of a folder."""
    elastic: bool = False
    """Whether further replicas fill GPUs that are free; `replicas` are then the least."""
    notes: tuple[str, ...] = ()
    """What was chosen for the machine it runs on, for `plan`."""


class ClusterNode(NamedTuple):
    """A machine of the cluster: its GPUs, and its CPU cores."""

    node_id: str
    gpus: int
    cpus: int
    gpu_type: str = ""
    """As Ray names it; empty without a GPU, or where Ray does not know."""
    leaving: bool = False
    """Whether it has announced its end, as spot machines do."""


@dataclass(frozen=True)
class BackendContext:
    """What a backend may know of where it runs.

    `name` is the model's name in the sweep file; `run_id` is one per run of a driver, the same
    in all its workers; `catalogue` loads the items of the domain spoken about; `engines` reaches
    the engines of the run.
    """

    name: str
    executor: Literal["ray", "local"]
    run_id: str
    log_folder: Path | None
    catalogue: Callable[[], Catalogue]
    engines: Any = None


class Workload(NamedTuple):
    """What a model will be asked for, as far as rehearsed dialogues show."""

    prompts: Sequence[Sequence[Mapping[str, str]]]
    """The messages of each call."""
    schemas: Mapping[str, Mapping[str, Any]]
    """JSON schema of each step's reply."""
    gpu_memory: float | None = None
    """GiB of the smallest GPU of this machine, if it has one."""
    calls: Sequence[Call] = ()
    """Rehearsed calls, as they would be sent."""


class Backend(ABC):
    """Serves one model of the sweep file to one process. Made once there, closed at its end."""

    Options: ClassVar[type[Options]]
    version: ClassVar[int] = 1
    wants_shown: ClassVar[bool] = False
    """Whether calls must carry the pairs that their template used (only `rules` reads them)."""
    cacheable: ClassVar[bool] = True
    """Whether completed calls are kept: not where answering costs less than looking up."""
    greedy: bool = False
    """Whether it always takes the likeliest token, so that seeds do not matter."""
    guided: bool = True
    """Whether decoding keeps to the reply's schema; else a reply is free text, to be read."""
    max_wait: float = 600.0
    """Seconds that a call waits in all where `EngineOverloaded.retry_after` asks for it."""
    watermark: ClassVar[bool] = False
    """Whether results are not of a real language model, and tables must say so."""

    @abstractmethod
    def __init__(self, options: Options, context: BackendContext) -> None: ...

    @classmethod
    def is_greedy(cls, options: Any) -> bool:
        """Whether `greedy` holds with these options."""
        return False

    @classmethod
    def engine(cls, options: Any, label: str, cpu: bool) -> EngineSpec | None:
        """The engine that the run must start for these options, if it needs one.

        `cpu` says that the cluster has no GPU.
        """
        return None

    @abstractmethod
    async def complete(self, call: Call) -> Completion:
        """One completion. Raises the engine errors of `agents.core.errors`; never retries."""

    async def embed(self, texts: Sequence[str]) -> Embedded:
        """Embeddings, in the order of `texts`. A backend that gives none leaves this as it is."""
        raise NotImplementedError

    @classmethod
    def environment(cls, options: Any) -> Variables:
        """The environment variables that it reads, wherever it runs."""
        return Variables()

    @classmethod
    def engine_version(cls) -> str:
        """Of the software that answers, if it runs here: another may give other words."""
        return ""

    @property
    def up_since(self) -> float:
        """When the engine that answers came up, by `time.monotonic`; 0 where it always was."""
        return 0.0

    @cached_property
    def throttle(self) -> Throttle:
        """How its calls obey its server. Models that share a server may share it."""
        return Throttle(self.max_wait)

    @property
    def load(self) -> tuple[str, Load] | None:
        """What its server does with the calls of this process, by a name that models share if they
        share the server; None if there is none, or if the engines of the run report it.
        """
        return None

    async def fingerprints(self) -> frozenset[str]:
        """What serves now, as `Completion.fingerprint` has it, for `cache.match: strict`.

        Waits until something serves. A backend that cannot know leaves this as it is.
        """
        raise NotImplementedError

    async def check(self, work: Workload) -> str:
        """One line on what is served, for `doctor`; raises if it cannot serve `work`."""
        return "nothing to check"

    async def close(self) -> None:  # noqa: B027  (most backends hold nothing open)
        """Let go of connections and actors."""
