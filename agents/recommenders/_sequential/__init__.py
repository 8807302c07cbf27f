"""What `sasrec` and `iclrec` share: the options, the encoder at use, and its training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from agents.core.plugins import Options, operational
from agents.recommenders._sequential.inference import encode
from agents.recommenders.core import Recommender

__all__ = ["SASRecOptions", "Sequential"]


class SASRecOptions(Options):
    hidden: Annotated[int, Field(ge=1, le=1024)] = 64
    """Units of the embeddings and of every layer."""
    blocks: Annotated[int, Field(ge=1, le=16)] = 2
    heads: Annotated[int, Field(ge=1, le=64)] = 1
    max_length: Annotated[int, Field(ge=1, le=2048)] = 200
    """The latest items that count, in training and in use."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    lr: Annotated[float, Field(gt=0)] = 1e-3
    batch_size: Annotated[int, Field(ge=1)] = 128
    """Users in a batch."""
    max_epochs: Annotated[int, Field(ge=1)] = 100
    patience: Annotated[int, Field(ge=1)] = 10
    full_softmax: Annotated[int, Field(ge=0)] = 20_000
    """Up to so many items the loss is over the whole catalogue."""
    negatives: Annotated[int, Field(ge=1)] = 3000
    """Items drawn against the next one in a larger catalogue."""
    validation_users: Annotated[int, Field(ge=1)] = 10_000
    """At most so many, drawn by the seed, decide when to stop."""
    device: Literal["cpu", "cuda"] = operational("cpu")
    """`cuda` trains on a GPU, which on Ray `run.fit_gpus` must provide. Its last bits differ."""
    threads: int = operational(1, ge=1)
    """Threads to train with. Another number may give other last bits, and torch's threads wait
    busily for each other where others want the cores too: rather train seeds side by side."""

    @model_validator(mode="after")
    def _heads_divide(self) -> SASRecOptions:
        if self.hidden % self.heads:
            raise ValueError(f"hidden {self.hidden} cannot be divided among heads {self.heads}")
        return self


class Sequential(Recommender):
    """Scores items by the product of their embeddings and the encoder's output at the last item."""

    Options = SASRecOptions
    packages: ClassVar[tuple[str, ...]] = ("torch",)
    """What training imports and our dependencies do not bring."""

    @staticmethod
    def size(options: SASRecOptions) -> str:
        return f"at most {options.max_epochs:,} epochs"

    @property
    def item_embeddings(self) -> np.ndarray:
        return self.content.arrays["items"]

    def user_embedding(self, history: Sequence[int]) -> np.ndarray:
        return encode(self.content.arrays, history, self.content.data["heads"])

    def scores(self, history: Sequence[int]) -> np.ndarray:
        return self.item_embeddings @ self.user_embedding(history)
