"""What `sasrec` and `iclrec` share: options, inference and training of the encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from agents.core.plugins import Options, operational
from agents.core.plural import many
from agents.recommenders._sequential.inference import encode_sequence
from agents.recommenders.core import Recommender

__all__ = ["SASRecOptions", "Sequential"]


class SASRecOptions(Options):
    hidden: Annotated[int, Field(ge=1, le=1024)] = 64
    """Units of the embeddings and of every layer."""
    blocks: Annotated[int, Field(ge=1, le=16)] = 2
    heads: Annotated[int, Field(ge=1, le=64)] = 1
    max_length: Annotated[int, Field(ge=1, le=2048)] = 200
    """The number of latest items that count, in training and inference."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    lr: Annotated[float, Field(gt=0)] = 1e-3
    batch_size: Annotated[int, Field(ge=1)] = 128
    """Users per batch."""
    max_epochs: Annotated[int, Field(ge=1)] = 100
    patience: Annotated[int, Field(ge=1)] = 10
    full_softmax: Annotated[int, Field(ge=0)] = 20_000
    """Up to this many items, the loss is over the whole catalogue."""
    negatives: Annotated[int, Field(ge=1)] = 3000
    """Items sampled as negatives in a larger catalogue."""
    validation_users: Annotated[int, Field(ge=1)] = 10_000
    """The maximum number of users, drawn by the seed, that decide when to stop."""
    device: Literal["cpu", "cuda"] = operational("cpu")
    """`cuda` trains on a GPU, which `run.fit_gpus` must provide on Ray. The last bits of its
    results differ."""
    threads: int = operational(1, ge=1)
    """Threads for training. Another number may change the last bits, and torch's threads busy-wait
    for each other if other processes need the cores; train several seeds in parallel instead."""

    @model_validator(mode="after")
    def _heads_divide(self) -> SASRecOptions:
        if self.hidden % self.heads:
            raise ValueError(f"hidden {self.hidden} cannot be divided among heads {self.heads}")
        return self


class Sequential(Recommender):
    """Scores items by the product of their embeddings and the encoder's output at the last item."""

    Options = SASRecOptions
    packages: ClassVar[tuple[str, ...]] = ("torch",)
    """Packages that training imports and that are not among our dependencies."""

    @staticmethod
    def size(options: SASRecOptions) -> str:
        return f"at most {many(options.max_epochs, 'epoch')}"

    @property
    def item_embeddings(self) -> np.ndarray:
        return self.content.arrays["items"]

    def user_embedding(self, history: Sequence[int]) -> np.ndarray:
        return encode_sequence(self.content.arrays, history, self.content.data["heads"])

    def scores(self, history: Sequence[int]) -> np.ndarray:
        return self.item_embeddings @ self.user_embedding(history)
