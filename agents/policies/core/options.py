"""Options of a policy, as an agent has them: network, labels, stages, decoding."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_serializer, model_validator

from agents.core.artifacts import Recipe
from agents.core.paths import PathText
from agents.core.plugins import Options, operational
from agents.core.policy import Decoding
from agents.policies.core.dialogues import PARTS, data_digest, file_of
from agents.policies.core.labels import LabelSet
from agents.policies.core.network import NetworkRef
from agents.policies.core.recipes import FineTuned, Untrained

Stage = Literal["untrained", "sft"]


class SftOptions(Options):
    """Supervised fine-tuning (RSO eq. 6). Defaults are the paper's (section IV-D)."""

    epochs: Annotated[int, Field(ge=1, le=10_000)] = 10
    lr: Annotated[float, Field(gt=0)] = 6e-6
    """Of AdamW. It decays linearly to 0."""
    batch_size: Annotated[int, Field(ge=1)] = 16
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """The paper has none; AdamW's own default."""


class PolicyOptions(Options):
    """A policy. Where its dialogues are and where it is trained changes no outcome."""

    network: NetworkRef = Field(
        default_factory=lambda: NetworkRef.model_validate("transformer"), validate_default=True
    )
    """`transformer`, or `{name: encoder, checkpoint: ...}` for a checkpoint such as RoBERTa."""
    labels: LabelSet = "inspired"
    """The data's 14 labels, or with `table1` the 13 of the paper's Table I."""
    stage: Stage = "sft"
    """What the policy has been through; `untrained` has random weights."""
    dialogues: PathText | None = None
    """The folder of INSPIRED's dialogues, for `sft`."""
    sft: SftOptions = Field(default_factory=SftOptions)
    decoding: Decoding = "sample"
    """How dialogues draw from it."""
    device: Literal["cpu", "cuda"] = operational("cpu")
    """What it is trained on."""
    threads: int = operational(1, ge=1)

    @model_validator(mode="after")
    def _has_data(self) -> Self:
        if self.stage == "untrained":
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

    @model_serializer
    def identity(self) -> dict[str, Any]:
        """What decides its dialogues. The content of the data counts, not its place."""
        return {**self.recipe().identity(), "decoding": self.decoding}

    def recipe(self) -> Recipe:
        """How it is made."""
        if self.stage == "untrained":
            return Untrained(self.network, self.labels)
        assert self.dialogues is not None
        return FineTuned(
            self.network,
            self.labels,
            self.dialogues,
            data_digest(self.dialogues),
            self.sft.model_dump(),
            self.device,
            self.threads,
        )
