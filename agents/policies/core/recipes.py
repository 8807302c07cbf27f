"""How policies are made, as artifacts: untrained, or fine-tuned on labelled dialogues."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from agents.core.artifacts import (
    Content,
    FitRecipe,
    Learner,
    LoopRecipe,
    Progress,
    Recipe,
    importing,
)
from agents.core.items import Catalogue, TrainingData
from agents.core.plural import many
from agents.policies.core.dialogues import examples
from agents.policies.core.labels import LabelSet, labels_of
from agents.policies.core.network import NetworkRef
from agents.policies.core.trained import TrainedPolicy

_SMALL = {"width": 4, "heads": 1, "blocks": 1, "context": 16, "vocabulary": 0}


@dataclass(frozen=True)
class LabelPolicyRecipe(Recipe):
    """A policy: a network over labels."""

    network: NetworkRef
    labels: LabelSet

    @property
    def label(self) -> str:
        return f"policy ({self.network.name})"

    @property
    def packages(self) -> tuple[str, ...]:
        return self.network.network.packages

    def whole_identity(self) -> dict[str, Any]:
        """Its identity with those of its inputs."""
        return dict(self.identity())

    def stand_in(self) -> Untrained:
        """One that is made at once: a small untrained network."""
        return Untrained(NetworkRef.model_validate({"name": "transformer", **_SMALL}), self.labels)

    def load(self, content: Content, catalogue: Catalogue) -> TrainedPolicy:
        network = self.network.network(content)
        return TrainedPolicy(network, labels_of(self.labels), content, self.network.name)

    def _identity(self) -> dict[str, Any]:
        network = self.network.network
        return {
            "policy": self.network.identity(),
            "labels": self.labels,
            "version": [self.version, network.version],
        }


@dataclass(frozen=True)
class Untrained(LabelPolicyRecipe, FitRecipe):
    """Random weights. A built-in network then knows no word, only hashes of words."""

    of_domain = False

    def identity(self) -> Mapping[str, Any]:
        return {"stage": "untrained", **self._identity()}

    def fit(
        self, data: TrainingData, seed: int, state: Content | None = None
    ) -> Iterator[Progress]:
        options, labels = self.network.options, len(labels_of(self.labels))
        with importing(self.packages, self.label):
            content = self.network.network.fresh(options, [], labels, seed)
        yield Progress(1, 1, "random weights", result=content)

    @property
    def packages(self) -> tuple[str, ...]:
        return () if self.network.name == "transformer" else super().packages


@dataclass(frozen=True)
class FineTuned(LabelPolicyRecipe, FitRecipe):
    """Eq. 6: minimises -log p(label | state) over the dialogues of INSPIRED's training part.

    It never opens the test part. `data` is the digest of what it reads; `sft` are options of
    `agents.policies.core.options.SftOptions`.
    """

    of_domain = False
    dialogues: str
    data: str
    sft: Mapping[str, Any]
    device: str = "cpu"
    threads: int = 1

    @property
    def label(self) -> str:
        return f"policy ({self.network.name}, SFT)"

    @property
    def size(self) -> str:
        return many(self.sft["epochs"], "epoch")

    def identity(self) -> Mapping[str, Any]:
        return {"stage": "sft", **self._identity(), "data": self.data, "sft": dict(self.sft)}

    def fit(
        self, data: TrainingData, seed: int, state: Content | None = None
    ) -> Iterator[Progress]:
        with importing(self.packages, f"the {self.label}"):
            from agents.policies.core.supervised import FineTuning
        train, held_out = examples(self.dialogues, "train"), examples(self.dialogues, "valid")
        yield from FineTuning(
            self.network,
            self.labels,
            train,
            held_out,
            self.sft,
            seed,
            state,
            device=self.device,
            threads=self.threads,
        ).epochs()


@dataclass(frozen=True)
class Reinforced(LabelPolicyRecipe, LoopRecipe):
    """Eq. 7 to 9: dialogues of the agent with training users, and updates of its policy.

    `rl` are options of `agents.policies.core.options.RlOptions`.
    """

    start: Untrained | FineTuned
    rl: Mapping[str, Any]
    of_option: str
    device: str = "cpu"
    threads: int = 1

    @property
    def label(self) -> str:
        return f"policy ({self.network.name}, RL)"

    @property
    def dialogues(self) -> int:  # type: ignore[override]
        return self.rl["epochs"] * self.rl["dialogues"]

    @property
    def every(self) -> int:  # type: ignore[override]
        return self.rl["updates"]["every"]

    @property
    def reward(self) -> str:  # type: ignore[override]
        return self.rl["reward"]

    @property
    def option(self) -> str:
        return self.of_option

    def inputs(self) -> Mapping[str, Recipe]:
        return {"start": self.start}

    def identity(self) -> Mapping[str, Any]:
        return {"stage": "rl", **self._identity(), "rl": dict(self.rl)}

    def whole_identity(self) -> dict[str, Any]:
        return {**self.identity(), "start": self.start.identity()}

    def options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        return {**given, self.option: {**given[self.option], "decoding": "sample"}}

    def learner(self, start: Content, seed: int, state: Content | None) -> Learner:
        with importing(self.packages, f"the {self.label}"):
            from agents.policies.core.reinforced import PolicyLearner
        return PolicyLearner(
            self.network,
            self.labels,
            start,
            self.rl,
            self.updates,
            seed,
            state,
            device=self.device,
            threads=self.threads,
        )
