"""ICLRec's training: SASRec's, with two contrastive terms."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from agents.core.artifacts import Content, Progress
from agents.core.items import TrainingData
from agents.recommenders._sequential.training import (
    SequentialTraining,
    batches_by_length,
    forward,
    padded,
    steps,
)
from agents.training.k_means import assigned, k_means
from agents.training.weights import Weights, array_of

if TYPE_CHECKING:
    from agents.recommenders.iclrec import _Options

_INITIAL_STD = 0.02
MASK = "mask"
"""The embedding used in place of a hidden item; unused after training."""


def train(
    options: _Options, data: TrainingData, seed: int, state: Content | None
) -> Iterator[Progress]:
    """See `agents.recommenders._sequential.training.train`."""
    return steps(ICLRecTraining(options, data, seed, state))


class ICLRecTraining(SequentialTraining):
    name: ClassVar[str] = "iclrec"
    options: _Options

    def initial(self) -> Weights:
        weights = super().initial()
        return weights | {MASK: torch.randn(self.options.hidden) * _INITIAL_STD}

    @property
    def encoder(self) -> Weights:
        return {name: weight for name, weight in self.weights.items() if name != MASK}

    def begin_epoch(self) -> None:
        """The E-step: centroids of the sequences' representations."""
        with torch.no_grad():
            inputs = [items[:-1] for items in self.sequences]
            found = array_of(self._represented(inputs, dropout=0))
        drawn = int(torch.randint(2**31 - 1, ()))
        centroids = k_means(found, self.options.intents, drawn)
        self.intents = torch.from_numpy(assigned(found, centroids)).to(self.device)
        self.centroids = torch.from_numpy(centroids).to(self.device)

    def add_gradients(self, users: Sequence[int]) -> None:
        options = self.options
        # A view of one item says nothing of its order; a batch of one has no negatives.
        users = [user for user in users if len(self.sequences[user]) > 2]
        if len(users) < 2 or not (options.intent_weight or options.sequence_weight):
            return
        inputs = [self.sequences[user][:-1] for user in users]
        first, second = (
            self._represented(
                [view(items, self.items, options) for items in inputs], options.dropout
            )
            for _ in range(2)
        )
        intents = self.intents[torch.tensor(users, device=self.device)]
        own = self.centroids[intents]
        near = sum(
            intent_contrast(each, own, intents, options.temperature) for each in (first, second)
        )
        loss = options.intent_weight * near / 2
        loss = loss + options.sequence_weight * sequence_contrast(
            first, second, options.temperature
        )
        loss.backward()

    def _represented(self, inputs: Sequence[np.ndarray], dropout: float) -> Tensor:
        """(sequences, d): the mean of the outputs over each sequence's positions."""
        weights = self.encoder
        weights["items"] = torch.cat([weights["items"], self.weights[MASK][None]])
        order, means = [], []
        for part in batches_by_length(inputs, self.device):
            places, real = padded([inputs[one] for one in part], self.device)
            outputs = forward(weights, places, self.options.heads, dropout)
            shares = real[:, :, None].to(outputs.dtype)
            means.append((outputs * shares).sum(dim=1) / shares.sum(dim=1))
            order += part
        back = torch.tensor(order, device=self.device).argsort()
        return torch.cat(means)[back]


def view(items: np.ndarray, mask: int, options: _Options) -> np.ndarray:
    """An augmented copy of a sequence, with `mask` in place of hidden items. Drawn by torch."""
    kind, length = int(torch.randint(3, ())), len(items)
    if kind == 0:
        kept = max(1, int(options.crop * length))
        start = int(torch.randint(length - kept + 1, ()))
        return items[start : start + kept]
    found = items.copy()
    if kind == 1:
        hidden = torch.randperm(length)[: int(options.masked * length)]
        found[hidden.numpy()] = mask
        return found
    moved = int(options.reordered * length)
    start = int(torch.randint(length - moved + 1, ()))
    found[start : start + moved] = items[start + torch.randperm(moved).numpy()]
    return found


def intent_contrast(views: Tensor, own: Tensor, intents: Tensor, temperature: float) -> Tensor:
    """Mean of -log softmax over the batch of each view's similarity to its own centroid.

    `own` (batch, d) are the centroids of the sequences. Others of the same intent are left out.
    """
    similar = views @ own.T / temperature
    same = intents[:, None] == intents[None, :]
    same.fill_diagonal_(False)
    targets = torch.arange(len(views), device=views.device)
    return F.cross_entropy(similar.masked_fill(same, -torch.inf), targets)


def sequence_contrast(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Mean over all views of -log softmax of the similarity to the other view of its sequence."""
    views = torch.cat([first, second])
    similar = views @ views.T / temperature
    itself = torch.eye(len(views), dtype=torch.bool, device=views.device)
    targets = torch.arange(len(views), device=views.device).roll(len(first))
    return F.cross_entropy(similar.masked_fill(itself, -torch.inf), targets)
