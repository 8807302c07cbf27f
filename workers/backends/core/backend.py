"""What backends share: their construction, and the interface they implement."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from agents.core.calls import Call, Completion, Embedded
from agents.core.items import Catalogue
from agents.core.plugins import Options
from sweeps.models import Use
from workers.core.concurrency import Load
from workers.core.environment import Variables
from workers.core.retry import Throttle

if TYPE_CHECKING:
    from workers.backends.core.engines import Engine


@dataclass(frozen=True)
class EngineSpec:
    """An engine that a run must start, with everything that defines it. Crosses processes.

    `key` is a digest of what distinguishes engines; models that differ only in sampling share it.
    `label` is a name for messages, `engine` the class that runs it. `gpus` is the share of one
    replica: a fraction, or whole GPUs of one node (CPU slots if there are none); 0 if it never
    uses any.
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
    """A commit on the Hub, or a digest of a folder's content."""
    elastic: bool = False
    """Whether further replicas fill free GPUs; `replicas` is then the minimum."""
    notes: tuple[str, ...] = ()
    """Choices that depend on the machine, for `plan`."""
    engine: type[Engine] = field(kw_only=True)


class ClusterNode(NamedTuple):
    """A machine of the cluster: its GPUs and CPU cores."""

    node_id: str
    gpus: int
    cpus: int
    gpu_type: str = ""
    """Ray's name of the type; empty without a GPU, or if Ray does not know it."""
    leaving: bool = False
    """Whether it is draining, as spot machines do before they are removed."""


@dataclass(frozen=True)
class BackendContext:
    """What a backend knows about its environment.

    `name` is the model's name in the sweep file; `run_id` is unique to a run of a driver and the
    same in all its workers; `catalogue` loads the items of the domain; `engines` gives access to
    the engines of the run.
    """

    name: str
    executor: Literal["ray", "local"]
    run_id: str
    log_folder: Path | None
    catalogue: Callable[[], Catalogue]
    engines: Any = None


class Workload(NamedTuple):
    """What a model will be asked, as far as rehearsed dialogues show."""

    prompts: Sequence[Sequence[Mapping[str, str]]]
    """The messages of each call."""
    schemas: Mapping[str, Mapping[str, Any]]
    """JSON schema of each step's reply."""
    gpu_memory: float | None = None
    """GiB of this machine's smallest GPU, if it has one."""
    calls: Sequence[Call] = ()
    """Rehearsed calls, as they would be sent."""


class Backend(ABC):
    """Serves one model of the sweep file in one process. Created once there, closed at its end."""

    Options: ClassVar[type[Options]]
    version: ClassVar[int] = 1
    wants_shown: ClassVar[bool] = False
    """Whether calls must carry what their template used (only `rules` reads that)."""
    cacheable: ClassVar[bool] = True
    """Whether completed calls are cached; False if answering is cheaper than a lookup."""
    greedy: bool = False
    """Whether it always takes the most likely token, so that seeds do not matter."""
    guided: bool = True
    """Whether decoding follows the reply's schema; otherwise replies are free text to be parsed."""
    max_wait: float = 600.0
    """Total seconds that a call waits because `EngineOverloaded.retry_after` asks for it."""
    watermark: ClassVar[bool] = False
    """Whether results do not come from a real language model, which tables must say."""

    @abstractmethod
    def __init__(self, options: Options, context: BackendContext) -> None: ...

    @classmethod
    def is_greedy(cls, options: Any) -> bool:
        """Whether `greedy` holds with these options."""
        return False

    @classmethod
    def uses(cls, options: Any) -> frozenset[Use]:
        """What a model with these options can be asked for."""
        return frozenset(("complete",) if cls.embed is Backend.embed else ("complete", "embed"))

    @classmethod
    def engine(cls, options: Any, label: str, cpu: bool) -> EngineSpec | None:
        """The engine that the run must start for these options, if any. `cpu` means that the
        cluster has no GPU."""
        return None

    @abstractmethod
    async def complete(self, call: Call) -> Completion:
        """Completes one call. Raises the engine errors of `agents.core.errors`; never retries."""

    async def embed(self, texts: Sequence[str]) -> Embedded:
        """Embeds texts, in order. Backends without embeddings do not override this."""
        raise NotImplementedError

    @classmethod
    def environment(cls, options: Any) -> Variables:
        """The environment variables that it reads on whatever machine it runs."""
        return Variables()

    @classmethod
    def engine_version(cls) -> str:
        """The version of the software that answers, if it runs here: another version may reply
        differently."""
        return ""

    @property
    def up_since(self) -> float:
        """When the engine came up, by `time.monotonic`; 0 if it was always up."""
        return 0.0

    @cached_property
    def throttle(self) -> Throttle:
        """How its calls obey the server's limits. Models on the same server may share it."""
        return Throttle(self.max_wait)

    @property
    def load(self) -> tuple[str, Load] | None:
        """The load that this process puts on its server, under a name that models on the same
        server share.

        None if there is no server, or if the engines of the run report it.
        """
        return None

    async def fingerprints(self) -> frozenset[str]:
        """The fingerprints of what serves now (`Completion.fingerprint`), for `cache.match:
        strict`.

        Waits until something serves. Backends that cannot know do not override this.
        """
        raise NotImplementedError

    async def check(self, work: Workload) -> str:
        """One line on what is served, for `doctor`; raises if it cannot serve `work`."""
        return "nothing to check"

    async def close(self) -> None:  # noqa: B027  (most backends hold nothing open)
        """Releases connections and actors."""
