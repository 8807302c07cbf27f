"""A small transformer encoder, trained from scratch: it needs no download.

Its words come from the text that it is trained on. It is trained in torch and used in numpy. The
paper's planner is RoBERTa; for that, see `encoder`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Self

import numpy as np
from pydantic import Field, model_validator

from agents.core.artifacts import Content
from agents.core.plugins import Options
from agents.policies.core.network import Network, Trainable
from agents.policies.transformer import inference
from agents.policies.transformer.words import size_of, vocabulary_of, word_ids, word_places

if TYPE_CHECKING:
    import torch

__all__ = ["TransformerNetwork"]

_INITIAL_STD = 0.02


class _Options(Options):
    width: Annotated[int, Field(ge=4, le=1024)] = 64
    heads: Annotated[int, Field(ge=1, le=16)] = 4
    blocks: Annotated[int, Field(ge=1, le=12)] = 2
    context: Annotated[int, Field(ge=2, le=1024)] = 128
    """Words of the dialogue's end that it reads."""
    vocabulary: Annotated[int, Field(ge=0, le=100_000)] = 8000
    """At most so many words."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1

    @model_validator(mode="after")
    def _width_divides_among_heads(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width ({self.width}) must be a multiple of heads ({self.heads})")
        return self


class TransformerNetwork(Network):
    """The encoder in numpy. A text is read by itself, so its numbers do not depend on others."""

    Options = _Options

    def __init__(self, content: Content) -> None:
        super().__init__(content)
        self._places = word_places(content.data["vocabulary"])
        # A call reads every array some times: a mapped file would be touched each time.
        self._weights = {name: np.asarray(array) for name, array in content.arrays.items()}

    @staticmethod
    def fresh(options: _Options, texts: Sequence[str], labels: int, seed: int) -> Content:
        vocabulary = vocabulary_of(texts, options.vocabulary)
        drawn = np.random.default_rng(np.random.SeedSequence([seed, 7]))
        width, inner = options.width, 4 * options.width

        def normal(*shape: int) -> np.ndarray:
            return (drawn.standard_normal(shape) * _INITIAL_STD).astype(np.float32)

        def constant(value: float, *shape: int) -> np.ndarray:
            return np.full(shape, value, np.float32)

        arrays = {
            "words": normal(size_of(vocabulary), width),
            "positions": normal(options.context, width),
            "norm": constant(1, width),
            "shift": constant(0, width),
            "labels": normal(width, labels),
            "labels_bias": constant(0, labels),
        }
        for block in range(options.blocks):
            own = {
                "norm1": constant(1, width),
                "shift1": constant(0, width),
                "mix": normal(width, 3 * width),
                "mix_bias": constant(0, 3 * width),
                "out": normal(width, width),
                "out_bias": constant(0, width),
                "norm2": constant(1, width),
                "shift2": constant(0, width),
                "wide": normal(width, inner),
                "wide_bias": constant(0, inner),
                "narrow": normal(inner, width),
                "narrow_bias": constant(0, width),
            }
            arrays |= {f"block{block}_{name}": array for name, array in own.items()}
        shape = {name: getattr(options, name) for name in ("heads", "blocks", "context", "dropout")}
        return Content({**shape, "vocabulary": vocabulary}, arrays)

    @staticmethod
    def trainable(content: Content, device: torch.device) -> Trainable:
        from agents.policies.transformer.training import Transformer

        return Transformer(content, device)

    def logits(self, texts: Sequence[str], dropout: Sequence[int] | None = None) -> np.ndarray:
        data: Any = self.content.data
        found = []
        for row, text in enumerate(texts):
            drop = None
            if dropout is not None:
                drop = data["dropout"], np.random.default_rng(dropout[row])
            words = word_ids(text, self._places, data["context"])
            found.append(
                inference.logits(self._weights, words, data["heads"], data["blocks"], drop)
            )
        return np.array(found, np.float64)
