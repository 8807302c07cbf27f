"""Policies that are trained in dialogues with users in numpy, as artifacts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field

from agents.core.artifacts import Content, FitRecipe, Progress, Recipe, importing
from agents.core.items import Catalogue, TrainingData
from agents.core.plugins import operational
from agents.multi_round.agent import VECTORS, MultiRound, MultiRoundOptions
from agents.multi_round.embeddings import EmbeddingRecipe, vectors_of
from agents.multi_round.policy import Policy
from agents.multi_round.practice import Clock, DialogueRules, Game, Practice, Rewards
from agents.multi_round.space import AttributeSpace

POLICY = "policy"


class TrainedOptions(MultiRoundOptions):
    """Options of every agent with a trained policy."""

    turns: Annotated[int, Field(ge=1, le=100)] = 15
    """The longest training dialogue. Episodes follow the sweep's `limits.max_turns`."""
    shown: Annotated[int, Field(ge=1, le=100)] = 10
    """The number of items in one turn of a training dialogue."""
    at_once: Annotated[int, Field(ge=1, le=10_000)] = 128
    """The number of training dialogues that are played at once."""
    device: Literal["cpu", "cuda"] = operational("cpu")
    threads: int = operational(1, ge=1)

    def rules(self) -> DialogueRules:
        return DialogueRules(
            self.turns, self.shown, self.questions, self.repeat, self.refused_facts == "exclude"
        )


_OF_DIALOGUES = ("prompts", "history_turns", "actions")  # they do not affect training


@dataclass(frozen=True)
class PolicyRecipe(FitRecipe):
    """Trains the policy of an agent. Subclasses say how."""

    options: Any
    is_short: bool = False
    """A stand-in: its vectors and its policy are hardly trained, in one go."""
    contents: Mapping[str, Content] = field(default_factory=dict, compare=False)

    name: ClassVar[str]
    version = 1

    @property
    def label(self) -> str:
        return f"policy of {self.name}"

    @property
    def packages(self) -> tuple[str, ...]:
        return ("torch",)

    def inputs(self) -> Mapping[str, Recipe]:
        return {} if self.is_short else {VECTORS: EmbeddingRecipe(self.options.vectors)}

    def given(self, inputs: Mapping[str, Content]) -> Self:
        return replace(self, contents=inputs)

    def identity(self) -> Mapping[str, Any]:
        found = {k: v for k, v in self.options.identity().items() if k not in _OF_DIALOGUES}
        short = {"short": True} if self.is_short else {}
        return {"policy": self.name, "options": found, "version": self.version, **short}

    def stand_in(self) -> Self:
        return replace(self, options=self.short(), is_short=True)

    def fit(
        self, data: TrainingData, seed: int, state: Content | None = None
    ) -> Iterator[Progress]:
        if self.is_short:
            *_, last = EmbeddingRecipe(self.options.vectors).stand_in().fit(data, seed)
            assert last.result is not None
            vectors = last.result
        else:
            vectors = self.contents[VECTORS]
        assert data.catalogue is not None  # or the vectors could not have been trained
        found = vectors_of(vectors, AttributeSpace.of(data.catalogue))
        practice = Practice(data, found, self.options.rules())
        with importing(self.packages, f"the agent {self.name!r}"):
            yield from self.train(practice, seed, state)

    @abstractmethod
    def short(self) -> Any:
        """The options of a stand-in, which trains in a second or two."""

    def train(self, practice: Practice, seed: int, state: Content | None) -> Iterator[Progress]:
        """As `FitRecipe.fit`."""
        run = self.training(practice, seed, state)
        while run.done < run.most:
            run.one_round()
            yield Progress(run.done, run.most, run.note, state=run.state(), measured=run.curve[-1])
        yield Progress(run.done, run.most, run.note, result=run.result())

    @abstractmethod
    def training(self, practice: Practice, seed: int, state: Content | None) -> PolicyTraining:
        """A new training, or one continued from its `state`. Imports torch."""

    @abstractmethod
    def load(self, content: Content, catalogue: Catalogue) -> Policy: ...


class PolicyTraining(ABC):
    """One training. Between rounds of dialogues, `state` has all that the next one depends on."""

    options: Any
    most: int
    """The value of `done` at the end."""

    def __init__(self, practice: Practice, seed: int) -> None:
        self.practice, self.seed = practice, seed
        self.clock = Clock()
        self.curve: list[dict[str, float]] = []
        """The success rate, average turns and loss of every round."""

    @property
    @abstractmethod
    def done(self) -> int:
        """How much of `most` is done."""

    @abstractmethod
    def one_round(self) -> None:
        """Plays `at_once` dialogues to their ends, and learns from them."""

    @abstractmethod
    def state(self) -> Content: ...

    @abstractmethod
    def result(self) -> Content: ...

    def begin(self, rng: np.random.Generator, rewards: Rewards) -> Game:
        """Starts new dialogues."""
        with self.clock.on("state"):
            rounds, users, draws = self.practice.deal(rng, self.options.at_once)
        return Game(self.practice, rounds, users, draws, rewards, self.clock)

    def record(self, game: Game, loss: float, **more: float) -> None:
        """Adds a round to the curve."""
        turns = np.where(game.won > 0, game.won, self.options.turns)
        success = float((game.won > 0).mean())
        self.curve.append(
            {"success": success, "turns": float(turns.mean()), "loss": loss, **more}
        )  # fmt: skip

    @property
    def note(self) -> str:
        if not self.curve:
            return "no dialogue yet"
        last = self.curve[-1]
        numbers = f"SR@{self.options.turns} {last['success']:.3f}, {last['turns']:.2f} turns"
        return f"{self.phase}, {numbers}, loss {last['loss']:.4f}"

    @property
    @abstractmethod
    def phase(self) -> str:
        """The phase of the training, in words."""


class TrainedAgent(MultiRound):
    """An agent whose policy is an artifact."""

    Options = TrainedOptions
    recipe: ClassVar[type[PolicyRecipe]]

    @classmethod
    def needs(cls, options: Any) -> Mapping[str, Recipe]:
        return {**super().needs(options), POLICY: cls.recipe(options)}

    def policy(self) -> Policy:
        return self.context.artifacts[POLICY]
