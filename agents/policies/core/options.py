"""Options of a policy, as an agent has them: network, labels, stages, decoding."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_serializer, model_validator

from agents.core.paths import PathText
from agents.core.plugins import Options, operational
from agents.core.policy import Decoding
from agents.policies.core.dialogues import PARTS, data_digest, file_of
from agents.policies.core.labels import LabelSet
from agents.policies.core.network import NetworkRef
from agents.policies.core.recipes import FineTuned, LabelPolicyRecipe, Reinforced, Untrained

TrainingStage = Literal["untrained", "sft", "rl"]


class SftOptions(Options):
    """Supervised fine-tuning (RSO eq. 6). Defaults are the paper's (section IV-D)."""

    epochs: Annotated[int, Field(ge=1, le=10_000)] = 10
    lr: Annotated[float, Field(gt=0)] = 6e-6
    """Of AdamW. It decays linearly to 0."""
    batch_size: Annotated[int, Field(ge=1)] = 16
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """The paper has none; AdamW's own default."""


class Updates(Options):
    """When a loop updates the policy."""

    every: Annotated[int, Field(ge=1, le=10_000)] = 1
    """Dialogues of an update, which are played at once. 1 is the paper's "at the end of each
    conversation", and plays one after the other; more is a variant of it."""


class RlOptions(Options):
    """Entropy-regularised policy gradient (RSO eq. 7 to 9). Defaults are the paper's (section
    IV-D), where it has them.

    The released code's differ: `lr: 1e-2`, `gamma: 0.999`, `whiten: true`."""

    epochs: Annotated[int, Field(ge=1, le=10_000)] = 10
    dialogues: Annotated[int, Field(ge=1, le=1_000_000)] = 100
    """Dialogues of an epoch."""
    lr: Annotated[float, Field(gt=0)] = 1e-4
    """Of AdamW. It decays linearly to 0."""
    gamma: Annotated[float, Field(ge=0, le=1)] = 0.99
    """Discount of later rewards (eq. 8)."""
    beta: Annotated[float, Field(ge=0)] = 0.01
    """Weight of the mean entropy (eq. 7). The paper prints none; this is the released code's
    default."""
    whiten: bool = False
    """Whether returns are shifted and scaled to mean 0 and deviation 1 over each update. With
    updates of one dialogue that is over its turns."""
    reward: Literal["critic", "success"] = "critic"
    """The critic's score of each turn (eq. 9), or 1 for the turn that the success rule calls a
    success."""
    updates: Updates = Field(default_factory=Updates)
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """The paper has none; AdamW's own default."""

    def settings(self) -> dict[str, Any]:
        """All of them, as JSON types."""
        return self.model_dump(mode="json")


class PolicyOptions(Options):
    """A policy. Where its dialogues are and where it is trained changes no outcome."""

    network: NetworkRef = Field(
        default_factory=lambda: NetworkRef.model_validate("transformer"), validate_default=True
    )
    """`transformer`, or `{name: encoder, checkpoint: ...}` for a checkpoint such as RoBERTa."""
    labels: LabelSet = "inspired"
    """The data's 14 labels, or with `table1` the 13 of the paper's Table I."""
    stage: TrainingStage = "sft"
    """What the policy has been through: `untrained` has random weights, `rl` follows `sft`."""
    warm_up: bool = True
    """Whether `rl` begins with what `sft` gives, or with random weights."""
    dialogues: PathText | None = None
    """The folder of INSPIRED's dialogues, for `sft`."""
    sft: SftOptions = Field(default_factory=SftOptions)
    rl: RlOptions = Field(default_factory=RlOptions)
    decoding: Decoding = "sample"
    """How dialogues draw from it."""
    device: Literal["cpu", "cuda"] = operational("cpu")
    """What it is trained on."""
    threads: int = operational(1, ge=1)

    @model_validator(mode="after")
    def _has_data(self) -> Self:
        if not self._is_fine_tuned:
            return self
        if self.dialogues is None:
            raise ValueError(
                f"the stage {self.stage!r} needs labelled dialogues: set `dialogues` to the folder "
                "of INSPIRED"
            )
        for part in PARTS:
            path = file_of(self.dialogues, part)
            if not path.is_file():
                raise ValueError(f"dialogues: there is no file {path}")
        return self

    @property
    def _is_fine_tuned(self) -> bool:
        return self.stage == "sft" or (self.stage == "rl" and self.warm_up)

    @model_serializer
    def identity(self) -> dict[str, Any]:
        """What decides its dialogues. The content of the data counts, not its place."""
        return {**self.recipe().whole_identity(), "decoding": self.decoding}

    def recipe(self, option: str = "planner") -> LabelPolicyRecipe:
        """How it is made. `option` is the agent's option that these options are."""
        start = self._start()
        if self.stage != "rl":
            return start
        return Reinforced(
            self.network,
            self.labels,
            start,
            self.rl.settings(),
            option,
            self.device,
            self.threads,
        )

    def _start(self) -> Untrained | FineTuned:
        if not self._is_fine_tuned:
            return Untrained(self.network, self.labels)
        assert self.dialogues is not None
        return FineTuned(
            self.network,
            self.labels,
            self.dialogues,
            data_digest(self.dialogues),
            self.sft.model_dump(mode="json"),
            self.device,
            self.threads,
        )
