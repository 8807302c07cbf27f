"""Artifacts: what an agent needs before its first dialogue, and how it is made.

A `Recipe` describes how; it is part of every episode's identity. It makes a `Content`: arrays and
JSON, stored once, shared by sweeps, and loaded read-only by the workers that play episodes.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple, Self

import numpy as np

from agents.core.ask import Ask
from agents.core.errors import UsageError
from agents.core.items import Catalogue, Item, TrainingData
from agents.core.memory import Memory
from agents.core.prompts import PromptFolder
from agents.core.steps import Step

RecipeKind = Literal["fit", "model_calls", "rollouts", "loop"]


@dataclass(frozen=True)
class Content:
    """The content of an artifact: `data` is JSON, `arrays` have names that are identifiers."""

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
    """How one artifact is made. Picklable; equal identities with equal data and seeds make the same
    artifact."""

    kind: ClassVar[RecipeKind]
    counts: ClassVar[str] = "calls"
    """The unit in which progress is counted."""
    version: ClassVar[int] = 1
    """Raise it when a code change alters the content, so that it is made again."""
    of_domain: ClassVar[bool] = True
    """Whether the content depends on the domain's data. If not, all domains share the artifact."""

    def data_of(self, domain: str) -> str:
        """The fingerprint of the data that decide what comes out: `domain`, or empty."""
        return domain if self.of_domain else ""

    @property
    def label(self) -> str:
        """A short name for the screen."""
        return type(self).__name__

    def inputs(self) -> Mapping[str, Recipe]:
        """The artifacts it is made from, by the names that `given` uses.

        They are made first; an agent receives them only if it asks for them too.
        """
        return {}

    def given(self, inputs: Mapping[str, Content]) -> Self:
        """The same recipe with the content of its inputs, ready to be made."""
        return self

    @abstractmethod
    def identity(self) -> Mapping[str, Any]:
        """Name, version and every option that changes the content (JSON types)."""

    @abstractmethod
    def load(self, content: Content, catalogue: Catalogue) -> Any:
        """What the agent receives as `context.artifacts[...]`.

        It is made once per process and shared by its episodes, so it must not change.
        """


class CurvePoint(NamedTuple):
    """A point of a training curve."""

    series: str
    """What was measured, under a familiar name such as `NDCG@10`."""
    step: int
    """The value of `Progress.done`: epochs, rounds, updates."""
    value: float


class Progress(NamedTuple):
    """The progress of a fit, which can resume from `state`. The last step has the `result`.

    `note` is a line for the screen ("epoch 3, NDCG@10 0.081").
    """

    done: int
    most: int
    """The maximum of `done`; the fit may stop earlier."""
    note: str
    state: Content | None = None
    result: Content | None = None
    measured: Mapping[str, float] | None = None
    """Measurements at this step, by series of the training curve."""
    seconds: float = 0.0
    """Time since this attempt began, including reading the data. Set by the process that fits."""
    curve: tuple[CurvePoint, ...] = ()
    """Everything measured since the last reported step. Set by the process that fits."""


class FitRecipe(Recipe):
    """Training on interactions, without model calls."""

    kind = "fit"

    @property
    def packages(self) -> tuple[str, ...]:
        """Packages that fitting imports and that are not among our dependencies (`torch`)."""
        return ()

    @property
    def size(self) -> str:
        """An upper bound on its length, in words (`at most 100 epochs`); empty if unknown."""
        return ""

    @abstractmethod
    def fit(
        self, data: TrainingData, seed: int, state: Content | None = None
    ) -> Iterator[Progress]:
        """Trains from `state`, if there is one; the last yielded step has the result.

        On one machine, the same data and seed give the same result, interrupted or not.
        """

    @abstractmethod
    def stand_in(self) -> FitRecipe:
        """A recipe for rehearsals that takes seconds and loads as the same kind of object."""


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


FirstWords = Callable[[int, Sequence[Item], Item], Awaitable[str]]
"""What the simulated user of the cell opens a dialogue with, given the number of an example, the
user's history, oldest first, and its target."""


class CallsRecipe(Recipe):
    """Model calls, made by one of the agent's roles or by the simulated user."""

    kind = "model_calls"
    part: ClassVar[str]
    """The sub-role that makes the calls: `tree` uses `agent.tree`, which the agent lists in
    `roles`."""
    by_user: ClassVar[bool] = False
    """Whether the simulated user of the cell makes the calls (`with_user`), instead of `part`. Its
    options, prompts and models are then part of the artifact's key."""
    steps: ClassVar[tuple[Step[Any], ...]]

    @property
    def role(self) -> str:
        """The role that makes the calls."""
        return "user" if self.by_user else f"agent.{self.part}"

    @property
    def prompts(self) -> PromptFolder | None:
        """Its prompts, if they are not the agent's."""
        return None

    def over(self, domain: Any) -> CallsRecipe:
        """The recipe with access to the domain, if it needs more than the catalogue."""
        return self

    def with_user(self, first_words: FirstWords) -> CallsRecipe:
        """The recipe with the simulated user of the cell, if it is made `by_user`."""
        return self

    def rehearsal(self, domain: Any) -> tuple[CallsRecipe, float]:
        """A recipe for rehearsals, and the factor by which the real one makes more calls.

        Its inputs are given.
        """
        return self, 1.0

    def widest_steps(self) -> tuple[Step[Any], ...]:
        """The same steps, bounded by the longest replies that may be requested."""
        return self.steps

    @abstractmethod
    async def build(
        self, catalogue: Catalogue, ask: Ask, report: Callable[[int, int], None]
    ) -> Content:
        """Makes the content; `report(done, all)` counts calls.

        When it is repeated after a crash, it must make the same calls: those paid for come from the
        cache.
        """


class RolloutsRecipe(Recipe):
    """Dialogues of the agent with training users, from which a memory learns.

    They are played one batch after the other, in an order set by the training seed, until there are
    `size` entries; it fails if there are fewer. Its inputs are the agent's needs besides the
    memory.
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
    """What a loop trains: weights that each update changes. It runs in a separate process."""

    done: int
    """The number of updates made."""

    @abstractmethod
    def weights(self) -> Content:
        """The current weights for agents."""

    @abstractmethod
    def update(self, rollouts: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        """Learns from dialogues, in order. Returns measurements by series. Raises AgentError if it
        cannot."""

    @abstractmethod
    def state(self) -> Content:
        """A state from which another learner can continue."""

    @abstractmethod
    def result(self) -> Content:
        """The artifact, after the last update."""


class LoopRecipe(Recipe):
    """Dialogues of the agent with training users, alternating with updates of weights.

    The dialogues of an update are played at once by the workers of the run, with the weights of the
    previous update. The input `start` has the initial weights.
    """

    kind = "loop"
    counts = "updates"
    dialogues: int
    """The total number of dialogues."""
    every: int
    """The number of dialogues before each update."""
    reward: str
    """The reward of a turn: `critic`, the critic's score, or `success`."""

    @property
    def updates(self) -> int:
        """The number of updates; the last one may have fewer dialogues."""
        return -(-self.dialogues // self.every)

    @property
    def packages(self) -> tuple[str, ...]:
        """Packages that learning imports and that are not among our dependencies."""
        return ()

    @property
    @abstractmethod
    def option(self) -> str:
        """The agent's option that it comes from. All others affect its dialogues."""

    @abstractmethod
    def options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The agent's options in these dialogues."""

    @abstractmethod
    def learner(self, start: Content, seed: int, state: Content | None) -> Learner:
        """A new learner, or one at a state."""

    @abstractmethod
    def stand_in(self) -> FitRecipe:
        """See `FitRecipe.stand_in`."""
