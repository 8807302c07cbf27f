"""SASRec's training: the same model as in `inference`, in batches, in torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from agents.core.artifacts import Content, Progress
from agents.core.errors import DataError
from agents.core.items import TrainingData
from agents.recommenders._sequential.inference import EPSILON
from agents.recommenders.core import histories, ndcg, target_ranks
from agents.training.weights import (
    Weights,
    adam_arrays,
    array_of,
    copied,
    device_of,
    restore_adam,
    restored_weights,
    seeded,
    trainable,
    weight_arrays,
)

if TYPE_CHECKING:
    from agents.recommenders._sequential import SASRecOptions

_INITIAL_STD = 0.02
_BEST_OF = 10
_VALIDATED_AT_ONCE = 256
# Little parts keep caches warm, large ones a GPU busy.
_PLACES_AT_ONCE = {"cpu": 2048, "cuda": 65_536}
_LOGITS_AT_ONCE = {"cpu": 2**19, "cuda": 2**27}


def train(
    options: SASRecOptions, data: TrainingData, seed: int, state: Content | None
) -> Iterator[Progress]:
    """Yields a Progress with a state after every epoch; the last has the result instead."""
    return steps(SequentialTraining(options, data, seed, state))


def steps(run: SequentialTraining) -> Iterator[Progress]:
    """Runs a training to its end."""
    while not run.over:
        run.one_epoch()
        measured = {f"NDCG@{_BEST_OF}": run.now}
        yield Progress(
            run.epoch, run.options.max_epochs, run.note, state=run.state(), measured=measured
        )
    yield Progress(run.epoch, run.options.max_epochs, run.note, result=run.result())


class SequentialTraining:
    """One training: between epochs, all that the next depends on is in `state`.

    Recommenders with the same encoder (`iclrec`) add to its loss and to its weights.
    """

    name: ClassVar[str] = "sasrec"

    def __init__(
        self, options: SASRecOptions, data: TrainingData, seed: int, state: Content | None
    ) -> None:
        self.options = options
        self.items = data.items
        self.seed = seed
        self.device = device_of(f"the recommender {self.name!r}", options.device)
        seen = histories(data)
        # A user's first item is never a target, so there must be a second to learn from.
        self.sequences = [items[-options.max_length - 1 :] for items in seen if len(items) > 1]
        if not self.sequences:
            raise DataError(f"{self.name} cannot be trained: no user has two training interactions")
        self.checked = _Validation(seen, data.validation, options, seed, self.name)
        self.epoch = self.best_epoch = 0
        if state is None:
            self._start()
        else:
            self._resume(state)

    def _start(self) -> None:
        with self._torch():
            weights = self.initial()
        self.weights = trainable(weights, self.device)
        self.adam = torch.optim.Adam(self.weights.values(), lr=self.options.lr)
        self.best_weights = copied(self.weights)
        self.now = self.best = 0.0

    def _resume(self, state: Content) -> None:
        self.weights, self.best_weights = restored_weights(state, self.device)
        self.adam = torch.optim.Adam(self.weights.values(), lr=self.options.lr)
        restore_adam(self.adam, self.weights, float(state.data["step"]), state, self.device)
        self.epoch, self.best_epoch = state.data["epoch"], state.data["best_epoch"]
        self.now, self.best = state.data["now"], state.data["best"]

    def _torch(self) -> AbstractContextManager[None]:
        return seeded(self.seed, self.epoch, self.options.threads, self.device)

    def initial(self) -> Weights:
        """Weights to begin with, drawn by the seed."""
        return initial(self.options, self.items)

    @property
    def encoder(self) -> Weights:
        """The weights of the encoder: all, unless a subclass has others."""
        return self.weights

    def begin_epoch(self) -> None:
        """What an epoch needs before its first batch."""

    def add_gradients(self, users: Sequence[int]) -> None:
        """Adds the gradients of further terms of the loss of a batch."""

    @property
    def over(self) -> bool:
        waited = self.epoch - self.best_epoch
        return self.epoch >= self.options.max_epochs or waited >= self.options.patience

    @property
    def note(self) -> str:
        return (
            f"epoch {self.epoch}, NDCG@{_BEST_OF} {self.now:.4f} "
            f"(best {self.best:.4f} at {self.best_epoch})"
        )

    def one_epoch(self) -> None:
        self.epoch += 1
        with self._torch():
            self.begin_epoch()
            order = torch.randperm(len(self.sequences)).tolist()
            for start in range(0, len(order), self.options.batch_size):
                self.learn(order[start : start + self.options.batch_size])
            self.now = self.checked.ndcg(self.encoder)
        if self.now > self.best or self.epoch == 1:
            self.best, self.best_epoch = self.now, self.epoch
            self.best_weights = copied(self.weights)

    def learn(self, users: Sequence[int]) -> None:
        """One step of Adam on the sequences of these users."""
        sequences = [self.sequences[user] for user in users]
        drawn = _draw(self.items, self.options, self.device)
        steps = sum(len(items) - 1 for items in sequences)
        self.adam.zero_grad()
        for part in batches_by_length(sequences, self.device):
            inputs, real = padded([sequences[user][:-1] for user in part], self.device)
            targets, _ = padded([sequences[user][1:] for user in part], self.device)
            outputs = forward(self.encoder, inputs, self.options.heads, self.options.dropout)
            loss = _loss(outputs[real], targets[real], self.weights["items"], drawn)
            (loss / steps).backward()
        self.add_gradients(users)
        self.adam.step()

    def state(self) -> Content:
        arrays = weight_arrays(self.weights, self.best_weights)
        step, memory = adam_arrays(self.adam, self.weights)
        arrays |= memory
        data = {
            "epoch": self.epoch,
            "best_epoch": self.best_epoch,
            "now": self.now,
            "best": self.best,
            "step": step,
        }
        return Content(data, arrays)

    def result(self) -> Content:
        data = {
            "heads": self.options.heads,
            "epochs": self.epoch,
            "best_epoch": self.best_epoch,
            f"validation_ndcg@{_BEST_OF}": self.best,
        }
        return Content(data, {name: self.best_weights[name] for name in self.encoder})


class _Validation:
    """NDCG of held-out items under full ranking; the seed draws the users, where there are many."""

    def __init__(
        self,
        seen: Sequence[np.ndarray],
        targets: np.ndarray,
        options: SASRecOptions,
        seed: int,
        name: str = SequentialTraining.name,
    ) -> None:
        able = [user for user, target in enumerate(targets) if target >= 0 and len(seen[user])]
        if not able:
            raise DataError(f"{name} cannot tell when to stop: no user has a validation item")
        if len(able) > options.validation_users:
            drawn = torch.randperm(len(able), generator=torch.Generator().manual_seed(seed))
            able = sorted(able[place] for place in drawn[: options.validation_users].tolist())
        # Users with histories of the same length share a batch without padding.
        able.sort(key=lambda user: len(seen[user]))
        self.seen = [seen[user] for user in able]
        self.targets = np.asarray(targets)[able]
        self.options = options

    @torch.no_grad()
    def ndcg(self, weights: Mapping[str, Tensor]) -> float:
        ranks = []
        for start in range(0, len(self.seen), _VALIDATED_AT_ONCE):
            part = slice(start, start + _VALIDATED_AT_ONCE)
            seen = self.seen[part]
            users = last_outputs(weights, seen, self.options)
            scores = array_of(users @ weights["items"].T)
            ranks.append(target_ranks(scores, self.targets[part], seen))
        return ndcg(np.concatenate(ranks), _BEST_OF)


def last_outputs(
    weights: Mapping[str, Tensor], seen: Sequence[np.ndarray], options: SASRecOptions
) -> Tensor:
    """(users, d): the embeddings of users with these histories, none of them empty."""
    device = weights["items"].device
    found = weights["items"].new_empty(len(seen), options.hidden)
    latest = [items[-options.max_length :] for items in seen]
    for part in batches_by_length(latest, device):
        inputs, real = padded([latest[user] for user in part], device)
        outputs = forward(weights, inputs, options.heads, dropout=0)
        found[part] = outputs[torch.arange(len(part), device=device), real.sum(dim=1) - 1]
    return found


def batches_by_length(sequences: Sequence[np.ndarray], device: torch.device) -> Iterator[list[int]]:
    """The places of sequences, in parts that fit in memory together with little padding."""
    places = _PLACES_AT_ONCE[device.type]
    part: list[int] = []
    for place in sorted(range(len(sequences)), key=lambda place: len(sequences[place])):
        if part and (len(part) + 1) * len(sequences[place]) > places:
            yield part
            part = []
        part.append(place)
    yield part


def padded(sequences: Sequence[np.ndarray], device: torch.device) -> tuple[Tensor, Tensor]:
    """(users, longest) positions and a mask of the real ones, which come first.

    Padding is item 0: nothing before it attends to it, and no loss is taken of it.
    """
    longest = max(map(len, sequences))
    found = np.zeros((len(sequences), longest), np.int64)
    for row, items in zip(found, sequences, strict=True):
        row[: len(items)] = items
    lengths = np.array([len(items) for items in sequences])
    real = np.arange(longest) < lengths[:, None]
    return torch.from_numpy(found).to(device), torch.from_numpy(real).to(device)


def forward(weights: Mapping[str, Tensor], inputs: Tensor, heads: int, dropout: float) -> Tensor:
    """(users, length, d): the outputs at every position of `inputs` (users, length)."""
    width = weights["items"].shape[1]
    x = F.embedding(inputs, weights["items"]) * width**0.5
    x = dropped(x + weights["positions"][: inputs.shape[1]], dropout)
    later = x.new_full((inputs.shape[1],) * 2, -torch.inf).triu(1)
    for block in range(len(weights["query_weight"])):
        own = {name: stack[block] for name, stack in weights.items()}
        query = _normal(x, own["attention_scale"], own["attention_shift"])
        x = query + _attention(query, x, own, heads, later, dropout)
        x = _normal(x, own["forward_scale"], own["forward_shift"])
        inner = F.relu(dropped(_linear(x, own, "inner"), dropout))
        x = x + dropped(_linear(inner, own, "outer"), dropout)
    return _normal(x, weights["last_scale"], weights["last_shift"])


def _attention(
    query: Tensor, x: Tensor, own: Mapping[str, Tensor], heads: int, later: Tensor, dropout: float
) -> Tensor:
    """torch's scaled_dot_product_attention takes half as long again on a CPU, with dropout."""
    q, k, v = (
        _linear(given, own, name).unflatten(-1, (heads, -1)).transpose(1, 2).flatten(0, 1)
        for given, name in ((query, "query"), (x, "key"), (x, "value"))
    )
    products = torch.baddbmm(later, q, k.mT, alpha=q.shape[-1] ** -0.5)
    found = dropped(products.softmax(dim=-1), dropout) @ v
    return _linear(found.unflatten(0, (-1, heads)).transpose(1, 2).flatten(-2), own, "output")


def dropped(x: Tensor, rate: float) -> Tensor:
    """Dropout that draws 16 bits for a number: torch's own takes most of its time to draw.

    So the rate is rounded to a 65,536th, and the scale goes with it.
    """
    if not (out := min(round(rate * 2**16), 2**16 - 1)):
        return x
    words = torch.empty(-(-x.numel() // 4), dtype=torch.int64, device=x.device)
    drawn = words.random_(-(2**63), None).view(torch.int16)[: x.numel()].view(x.shape)
    kept = (drawn >= out - 2**15).to(x.dtype)
    return x * kept.mul_(2**16 / (2**16 - out))


def _linear(x: Tensor, own: Mapping[str, Tensor], name: str) -> Tensor:
    return F.linear(x, own[f"{name}_weight"], own[f"{name}_bias"])


def _normal(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return F.layer_norm(x, scale.shape, scale, shift, EPSILON)


def _draw(items: int, options: SASRecOptions, device: torch.device) -> Tensor | None:
    """Positions of `negatives` different items; None for all of the catalogue."""
    if items <= options.full_softmax or items <= options.negatives:
        return None
    return torch.randperm(items)[: options.negatives].to(device)


def _loss(outputs: Tensor, targets: Tensor, items: Tensor, drawn: Tensor | None) -> Tensor:
    """Summed cross-entropy of the next items: over the catalogue, or against those drawn."""
    own = F.embedding(targets, items)
    if drawn is None:
        return _CrossEntropy.apply(outputs, own, items, targets)
    # Where each item is among those drawn; the others have a column of their own, cut off below.
    column = targets.new_full((len(items),), len(drawn))
    column[drawn] = torch.arange(len(drawn), device=drawn.device)
    return _CrossEntropy.apply(outputs, own, F.embedding(drawn, items), column[targets])


class _CrossEntropy(torch.autograd.Function):
    """Summed cross-entropy of each output's own item against others.

    The gradient is calculated with the loss, block by block: logits are in memory for a block
    alone, which on a CPU stays in its cache, and are never calculated again.
    """

    @staticmethod
    def forward(ctx: Any, outputs: Tensor, own: Tensor, others: Tensor, left_out: Tensor) -> Tensor:
        """`outputs` and `own` (B, d), `others` (N, d); `left_out` (B,) is the row of `others`
        that is an output's own item, or N for none."""
        rows = max(1, _LOGITS_AT_ONCE[outputs.device.type] // len(others))
        d_outputs, d_own, d_others = map(torch.zeros_like, (outputs, own, others))
        buffer = outputs.new_empty(min(rows, len(outputs)), len(others) + 1)
        summed = outputs.new_zeros(())
        for start in range(0, len(outputs), rows):
            part = slice(start, start + rows)
            given, wanted = outputs[part], own[part]
            logits = buffer[: len(given)]
            torch.mm(given, others.T, out=logits[:, :-1])
            logits.scatter_(1, left_out[part, None], -torch.inf)
            logits = logits[:, :-1]
            wanted_logits = (given * wanted).sum(dim=1, keepdim=True)
            top = torch.maximum(logits.amax(dim=1, keepdim=True), wanted_logits)
            exps = logits.sub_(top).exp_()
            wanted_logits -= top
            whole = exps.sum(dim=1, keepdim=True) + wanted_logits.exp()
            summed += (whole.log() - wanted_logits).sum()
            short = wanted_logits.exp() / whole - 1
            torch.mm(exps, others, out=d_outputs[part])
            d_outputs[part].div_(whole).addcmul_(short, wanted)
            torch.mul(short, given, out=d_own[part])
            d_others.addmm_(exps.T, given / whole)
        ctx.save_for_backward(d_outputs, d_own, d_others)
        return summed

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        d_outputs, d_own, d_others = ctx.saved_tensors
        [scale] = grad_outputs
        return d_outputs * scale, d_own * scale, d_others * scale, None


def initial(options: SASRecOptions, items: int) -> dict[str, Tensor]:
    width, blocks = options.hidden, options.blocks
    drawn: dict[str, tuple[int, ...]] = {
        "items": (items, width),
        "positions": (options.max_length, width),
    }
    fixed: dict[str, tuple[tuple[int, ...], float]] = {
        "last_scale": ((width,), 1.0),
        "last_shift": ((width,), 0.0),
    }
    for name in ("query", "key", "value", "output", "inner", "outer"):
        drawn[f"{name}_weight"] = (blocks, width, width)
        fixed[f"{name}_bias"] = ((blocks, width), 0.0)
    for name in ("attention", "forward"):
        fixed[f"{name}_scale"] = ((blocks, width), 1.0)
        fixed[f"{name}_shift"] = ((blocks, width), 0.0)
    weights = {name: torch.randn(shape) * _INITIAL_STD for name, shape in drawn.items()}
    return weights | {name: torch.full(shape, value) for name, (shape, value) in fixed.items()}
