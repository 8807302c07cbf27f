"""Artifacts: what an agent needs prepared before its first dialogue, and how it is made.

A `Recipe` says how; it is part of every episode's identity. What it makes is a `Content`: arrays
and JSON, stored once, shared by sweeps, and loaded read-only by the workers that play episodes.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple, Self

import numpy as np

from agents.core.ask import Ask
from agents.core.errors import UsageError
from agents.core.items import Catalogue, TrainingData
from agents.core.memory import Memory
from agents.core.prompts import PromptFolder
from agents.core.steps import Step

Kind = Literal["fit", "model_calls", "rollouts", "loop"]


@dataclass(frozen=True)
class Content:
    """What an artifact holds: `data` is JSON, `arrays` have names that are identifiers."""

    data: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)

    def digest(self) -> str:
        """Hex BLAKE2b-128 of everything in it."""
        text = json.dumps(self.data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16)
        for name in sorted(self.arrays):
            array = np.ascontiguousarray(self.arrays[name])
            digest.update(f"\0{name}\0{array.dtype.str}\0{array.shape}\0".encode())
            digest.update(array.data)
        return digest.hexdigest()


class Recipe(ABC):
    """How one artifact is made. Picklable; equal identities on equal data and seeds make one."""

    kind: ClassVar[Kind]
    counts: ClassVar[str] = "calls"
    """What its progress counts."""
    version: ClassVar[int] = 1
    """Raised when the code changes what comes out: it is made again."""
    of_domain: ClassVar[bool] = True
    """Whether the domain's data decide what comes out. If not, all domains share the artifact."""

    @property
    def label(self) -> str:
        """What it makes, in a word, for the screen."""
        return type(self).__name__

    def inputs(self) -> Mapping[str, Recipe]:
        """The artifacts that it is made from, by the names that `given` uses. They are made first,
        and an agent is not given them unless it asks for them too."""
        return {}

    def given(self, inputs: Mapping[str, Content]) -> Self:
        """The same recipe with the content of its inputs, as it is before it is made."""
        return self

    @abstractmethod
    def identity(self) -> Mapping[str, Any]:
        """Name, version and every option that changes the content (JSON types)."""

    @abstractmethod
    def load(self, content: Content, catalogue: Catalogue) -> Any:
        """What the agent gets as `context.artifacts[...]`: made once per process and shared by
        its episodes, so it must not change."""


class CurvePoint(NamedTuple):
    """A point of a training curve."""

    series: str
    """What was measured: a name that readers know, such as `NDCG@10`."""
    step: int
    """What `Progress.done` was: epochs, rounds, updates."""
    value: float


class Progress(NamedTuple):
    """How far a fit is.

    A fit can resume from `state`. The last step has the `result`. `note` is a line for
    the screen ("epoch 3, NDCG@10 0.081").
    """

    done: int
    most: int
    """Of what `done` counts; it may stop earlier."""
    note: str
    state: Content | None = None
    result: Content | None = None
    measured: Mapping[str, float] | None = None
    """What was measured at this step, by series of the training curve."""
    seconds: float = 0.0
    """Since this try began, including the time to read its data. Set by the process that fits."""
    curve: tuple[CurvePoint, ...] = ()
    """All that was measured since the step reported before. Set by the process that fits."""


class FitRecipe(Recipe):
    """Training on interactions, without model calls."""

    kind = "fit"

    @property
    def packages(self) -> tuple[str, ...]:
        """The packages outside our dependencies that fitting imports (`torch`)."""
        return ()

    @property
    def size(self) -> str:
        """The longest that it may run, in words (`at most 100 epochs`); empty if unknown."""
        return ""

    @abstractmethod
    def fit(
        self, data: TrainingData, seed: int, state: Content | None = None
    ) -> Iterator[Progress]:
        """Trains, from `state` on if there is one; the last step yielded has the result.

        The same data and seed give the same result, interrupted or not, on one machine.
        """

    @abstractmethod
    def stand_in(self) -> FitRecipe:
        """A recipe that takes seconds and loads as the same kind of thing, for rehearsals."""


@contextmanager
def importing(packages: Sequence[str], who: str) -> Iterator[None]:
    """Within it, training is imported; UsageError if one of its `packages` is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        lacking = (error.name or "").partition(".")[0]
        if lacking not in packages:
            raise
        raise UsageError(
            f"{who} is trained with {lacking}, which is not installed; "
            "install crsweep with the extra `train` (pip install -e '.[train]')"
        ) from None


class CallsRecipe(Recipe):
    """Model calls, made by one of the agent's roles."""

    kind = "model_calls"
    part: ClassVar[str]
    """The sub-role that speaks: `tree` speaks as `agent.tree`, which the agent lists in `roles`."""
    steps: ClassVar[tuple[Step[Any], ...]]

    @property
    def role(self) -> str:
        """Who speaks while it is made."""
        return f"agent.{self.part}"

    @property
    def prompts(self) -> PromptFolder | None:
        """Its prompts, if they are not the agent's."""
        return None

    def over(self, domain: Any) -> CallsRecipe:
        """The recipe that builds from a domain, for what needs more of it than the catalogue."""
        return self

    def rehearsal(self, domain: Any) -> tuple[CallsRecipe, float]:
        """A recipe for rehearsals, and how many times its calls the real one makes. What it is made
        from is given."""
        return self, 1.0

    def widest_steps(self) -> tuple[Step[Any], ...]:
        """The same steps with the bounds of the longest replies that are asked for."""
        return self.steps

    @abstractmethod
    async def build(
        self, catalogue: Catalogue, ask: Ask, report: Callable[[int, int], None]
    ) -> Content:
        """Makes the content; `report(done, all)` counts calls.

        Tried again after a crash, the same calls are made: those paid for come from the cache.
        """


class RolloutsRecipe(Recipe):
    """Dialogues of the agent with training users, from which a memory learns.

    They are played one batch after the other, in an order that the training seed decides, until
    `size` entries are there. Without as many, it fails. Its inputs are what the agent itself needs
    besides the memory.
    """

    kind = "rollouts"
    counts = "entries"
    size: int

    @property
    @abstractmethod
    def memory(self) -> Memory:
        """How it learns; its `batch` dialogues run at once."""

    @abstractmethod
    def options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The agent's options in these dialogues: those of the sweep without the memory."""

    def load(self, content: Content, catalogue: Catalogue) -> Sequence[Any]:
        return tuple(content.data["entries"])


class Learner(ABC):
    """What a loop trains: weights that each update changes. It lives in a process of its own."""

    done: int
    """Updates made."""

    @abstractmethod
    def weights(self) -> Content:
        """What agents are given now."""

    @abstractmethod
    def update(self, rollouts: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        """Learns of some dialogues, in their order; what was measured, by series of the curve.
        AgentError where it cannot."""

    @abstractmethod
    def state(self) -> Content:
        """What another learner continues from."""

    @abstractmethod
    def result(self) -> Content:
        """The artifact, after the last update."""


class LoopRecipe(Recipe):
    """Dialogues of the agent with training users, and updates of weights that learn from them.

    The dialogues of an update are played with the weights of the update before it, at once, by the
    workers of the run. `inputs` has `start`, the weights that it begins with.
    """

    kind = "loop"
    counts = "updates"
    dialogues: int
    """How many are played in all."""
    every: int
    """After how many an update follows."""
    reward: str
    """What a turn's reward is: `critic`, the critic's score, or `success`."""

    @property
    def updates(self) -> int:
        """How many there are; the last one may have fewer dialogues."""
        return -(-self.dialogues // self.every)

    @property
    def packages(self) -> tuple[str, ...]:
        """The packages outside our dependencies that learning imports."""
        return ()

    @property
    @abstractmethod
    def option(self) -> str:
        """The agent's option that it comes from. All others decide its dialogues."""

    @abstractmethod
    def options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The agent's options in these dialogues."""

    @abstractmethod
    def learner(self, start: Content, seed: int, state: Content | None) -> Learner:
        """A learner at its beginning, or at a state."""

    @abstractmethod
    def stand_in(self) -> FitRecipe:
        """See `FitRecipe.stand_in`."""
