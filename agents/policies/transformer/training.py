"""The built-in network in torch, for batches: the same numbers as `inference`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from agents.core.artifacts import Content
from agents.policies.core.network import Trainable
from agents.policies.transformer.inference import EPSILON
from agents.policies.transformer.words import PADDING, word_ids, word_places
from agents.training.weights import copied, trainable


class Transformer(Trainable):
    """See `agents.policies.transformer.inference`."""

    def __init__(self, content: Content, device: torch.device) -> None:
        self._data = content.data
        self._places = word_places(content.data["vocabulary"])
        # Copies: arrays of artifacts are read-only.
        arrays = {name: torch.from_numpy(array.copy()) for name, array in content.arrays.items()}
        self.weights = trainable(arrays, device)
        self._device = device

    def content(self) -> Content:
        return Content(self._data, copied(self.weights))

    def logits(self, texts: Sequence[str], *, dropout: bool) -> Tensor:
        context, blocks, heads = (self._data[name] for name in ("context", "blocks", "heads"))
        rate = self._data["dropout"] if dropout else 0.0
        read_in = [word_ids(text, self._places, context) for text in texts]
        length, weights = max(map(len, read_in)), self.weights
        words = torch.full((len(texts), length), PADDING)
        for row, found in enumerate(read_in):  # padded at the front: positions count from the end
            words[row, length - len(found) :] = torch.from_numpy(found)
        words = words.to(self._device)
        hidden = (words == PADDING)[:, None, None, :]
        positions = torch.arange(length - 1, -1, -1, device=self._device)
        x = F.dropout(weights["words"][words] + weights["positions"][positions], rate, dropout)
        width = x.shape[-1]
        for block in range(blocks):
            own = f"block{block}_"
            normal = F.layer_norm(
                x, (width,), weights[own + "norm1"], weights[own + "shift1"], EPSILON
            )
            mixed = normal @ weights[own + "mix"] + weights[own + "mix_bias"]
            parts = mixed.view(len(texts), length, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
            query, key, value = parts.unbind()
            scores = query @ key.transpose(-1, -2) / (width // heads) ** 0.5
            share = scores.masked_fill(hidden, -torch.inf).softmax(-1)
            # A row of padding sees nothing; what it gives is never read.
            seen = (share @ value).nan_to_num().transpose(1, 2).reshape(len(texts), length, width)
            x = x + F.dropout(
                seen @ weights[own + "out"] + weights[own + "out_bias"], rate, dropout
            )
            normal = F.layer_norm(
                x, (width,), weights[own + "norm2"], weights[own + "shift2"], EPSILON
            )
            inner = F.gelu(
                normal @ weights[own + "wide"] + weights[own + "wide_bias"], approximate="tanh"
            )
            x = x + F.dropout(
                inner @ weights[own + "narrow"] + weights[own + "narrow_bias"], rate, dropout
            )
        last = F.layer_norm(x[:, -1], (width,), weights["norm"], weights["shift"], EPSILON)
        return last @ weights["labels"] + weights["labels_bias"]
