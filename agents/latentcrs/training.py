"""LatentCRS's training in torch: Algorithm 1 over examples of history, words and next item.

Phases, each of epochs over all training examples, each ending after `patience` epochs without a
better NDCG@20 on the validation examples (full ranking, the example's history left out), or after
its limit. A phase starts from the best weights of the one before, with a fresh Adam:

1. `inference`: the inference model by eq. 13; items are ranked by eq. 13's scores.
2. `generative`: the generative model by eq. 9, q fixed; items are ranked by the prediction.
3. `alternating`: rounds of an epoch of eq. 14 and an epoch of eq. 9. The weights that it began with
   compete too, so that a round has to be better to be kept.

Ablations of Table 5: `no_inference` has the phase `generative` alone, with eq. 8 as the loss;
`direct_kl` trains both models at once in one phase, `joint`, by eq. 9 plus alpha_E times eq. 13,
the divergence moving both; `no_rec` leaves eq. 8 and 13 out, and with them phase 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from agents.core.artifacts import Content, Progress
from agents.core.errors import DataError
from agents.latentcrs import losses
from agents.latentcrs.losses import GENERATIVE, INFERENCE, Candidates
from agents.latentcrs.settings import Phase, Settings
from agents.recommenders.core import ndcg, recall, target_ranks
from agents.training.weights import (
    Weights,
    adam_arrays,
    copied,
    device_of,
    restore_adam,
    restored_weights,
    seeded,
    trainable,
    weight_arrays,
)

_Loss = Callable[[np.ndarray, Candidates], Tensor]

DEPTH = 20
_NEGATIVE_PLACES = 4_000_000  # entries of g (examples, intents, negatives) in memory at once


@dataclass(frozen=True)
class Examples:
    """Histories, words and next items. Arrays may be mapped files; none is changed."""

    histories: np.ndarray
    """(E, d_s): embeddings."""
    words: np.ndarray
    """(E, d_x): embeddings, of any float type."""
    targets: np.ndarray
    """(E,): positions of items."""
    seen: Sequence[np.ndarray]
    """The items of each history, which are not ranked."""
    validation: np.ndarray
    """(E,), bool: examples that only decide when to stop."""
    anchors: np.ndarray
    items: np.ndarray
    """(N, d_v)."""

    def __post_init__(self) -> None:
        if self.validation.all() or not self.validation.any():
            held = int(self.validation.sum())
            raise DataError(
                f"latentcrs needs examples to train and examples to validate; found "
                f"{len(self.targets) - held} and {held}"
            )


def train(
    settings: Settings, given: Examples, seed: int, state: Content | None
) -> Iterator[Progress]:
    """A Progress with a state after every epoch or round; the last has the result instead."""
    run = _Run(settings, given, seed, state)
    while not run.over:
        run.one_epoch()
        yield Progress(
            run.epochs, settings.most_epochs, run.note, state=run.state(), measured=run.measured
        )
    yield Progress(run.epochs, settings.most_epochs, run.note, result=run.result())


class _Quality(NamedTuple):
    ndcg: float
    recall: float
    elbo: float | None
    """Eq. 4, the mean; None where nothing is inferred or generated."""


class _Run:
    """One training: between epochs, all that the next depends on is in `state`."""

    def __init__(
        self, settings: Settings, given: Examples, seed: int, state: Content | None
    ) -> None:
        self.settings, self.given, self.seed = settings, given, seed
        self.device = device_of("the agent 'latentcrs'", settings.device)
        self.learned = np.flatnonzero(~given.validation)
        self.checked = np.flatnonzero(given.validation)
        self.standard = {
            "history": _standard(given.histories, self.learned),
            "words": _standard(given.words, self.learned),
        }
        # Scales that a weight could take over: with them, one initialisation serves all sizes.
        self.anchors = given.anchors / max(_rms(given.anchors), 1e-8)
        self.items = given.items / max(_rms(given.items), 1e-8)
        self.m = torch.from_numpy(self.anchors).to(self.device)
        self.v = torch.from_numpy(self.items).to(self.device)
        counts = np.bincount(given.targets[self.learned], minlength=len(given.items))
        self.popular = torch.from_numpy(counts + 1.0)
        self.place = self.epochs = 0
        self.measured: Mapping[str, float] = {}
        """Of the validation examples after the last epoch, by metric and phase."""
        if state is None:
            with self._torch():
                self.weights = trainable(self._initial(), self.device)
            self._begin_phase()
        else:
            self._resume(state)

    @property
    def phase(self) -> Phase:
        return self.settings.phases[min(self.place, len(self.settings.phases) - 1)]

    @property
    def over(self) -> bool:
        return self.place == len(self.settings.phases)

    @property
    def note(self) -> str:
        return (
            f"{self.phase} {self.epoch}, NDCG@{DEPTH} {self.now:.4f} "
            f"(best {self.best:.4f} at {self.best_epoch})"
        )

    def one_epoch(self) -> None:
        self.epochs += 1
        self.epoch += 1
        with self._torch():
            if self.phase == "alternating":
                self._over_all(self._inference_step)
                self._over_all(self._generative_step)
            elif self.phase == "inference":
                self._over_all(self._inference_step)
            elif self.phase == "joint":
                self._over_all(self._joint_step)
            else:
                self._over_all(self._generative_step)
            found = self._quality()
        self.now = found.ndcg
        values = {f"NDCG@{DEPTH}": found.ndcg, f"Recall@{DEPTH}": found.recall, "ELBO": found.elbo}
        self.measured = {
            f"{name} ({self.phase})": value for name, value in values.items() if value is not None
        }
        first = self.epoch == 1 and self.phase != "alternating"
        if self.now > self.best or first:
            self.best, self.best_epoch = self.now, self.epoch
            self.best_weights = copied(self.weights)
        limit = self.settings.max_rounds
        if self.phase != "alternating":
            limit = self.settings.warm_up_epochs
        if self.epoch >= limit or self.epoch - self.best_epoch >= self.settings.patience:
            self._end_phase()

    def state(self) -> Content:
        arrays = weight_arrays(self.weights, self.best_weights)
        steps = {}
        for name, adam in self.adams.items():
            steps[name], memory = adam_arrays(adam, self.weights)
            arrays |= memory
        data = {
            "place": self.place,
            "epochs": self.epochs,
            "epoch": self.epoch,
            "best_epoch": self.best_epoch,
            "now": self.now,
            "best": self.best,
            "steps": steps,
        }
        return Content(data, arrays)

    def result(self) -> Content:
        """The generative model, and how training went. The weights are those of the best round."""
        with self._torch():
            self.weights = trainable(
                {name: torch.from_numpy(array) for name, array in self.best_weights.items()},
                self.device,
            )
            found = self._quality()
        arrays = {name: self.best_weights[name] for name in GENERATIVE}
        arrays |= {"anchors": self.anchors, "items": self.items}
        for name, (mean, scale) in self.standard.items():
            arrays |= {f"{name}_mean": mean, f"{name}_scale": scale}
        data = {
            "g": self.settings.g,
            "examples": len(self.learned),
            f"validation_ndcg@{DEPTH}": found.ndcg,
            f"validation_recall@{DEPTH}": found.recall,
        }
        return Content(data, arrays)

    def _torch(self) -> AbstractContextManager[None]:
        return seeded(self.seed, self.epochs, self.settings.threads, self.device)

    def _begin_phase(self) -> None:
        self.epoch = self.best_epoch = 0
        if self.phase != "alternating":
            self.best = self.now = 0.0
            self.best_weights = copied(self.weights)
        self._make_adams()

    def _end_phase(self) -> None:
        self.place += 1
        if self.over:
            return
        best = {name: torch.from_numpy(array.copy()) for name, array in self.best_weights.items()}
        self.weights = trainable(best, self.device)
        self._begin_phase()

    def _make_adams(self) -> None:
        def adam(names: Sequence[str]) -> torch.optim.Adam:
            chosen = [self.weights[name] for name in names]
            decay = self.settings.weight_decay
            return torch.optim.Adam(chosen, lr=self.settings.lr, weight_decay=decay)

        self.adams = {"inference": adam(INFERENCE), "generative": adam(GENERATIVE)}

    def _resume(self, state: Content) -> None:
        data = state.data
        self.place, self.epochs, self.epoch = data["place"], data["epochs"], data["epoch"]
        self.best_epoch, self.now, self.best = data["best_epoch"], data["now"], data["best"]
        self.weights, self.best_weights = restored_weights(state, self.device)
        self._make_adams()
        for name, names in (("inference", INFERENCE), ("generative", GENERATIVE)):
            own = {each: self.weights[each] for each in names}
            restore_adam(self.adams[name], own, data["steps"][name], state, self.device)

    def _initial(self) -> Weights:
        """Normal draws of a variance of 1 / inputs; the factors of products smaller, so that g
        begins near 1."""
        d, small = self.settings.width, self.settings.width**-0.25
        d_m, d_v = self.m.shape[1], self.v.shape[1]
        d_s, d_x = self.given.histories.shape[1], self.given.words.shape[1]
        shapes = {
            "history_weight": (d, d_s, 1.0),
            "words_weight": (d, d_x, 1.0),
            "inner_weight": (2 * d, 2 * d, 2**0.5),
            "outer_weight": (d, 2 * d, small),
            "anchor_weight": (d, d_m, small),
            "intent_weight": (d, d_m, small),
            "item_weight": (d, d_v, small),
            "query_weight": (d, d_s, small),
            "key_weight": (d, d_m, small),
            "match_weight": (d_m, d_v, d_m**-0.5),
        }
        found = {
            name: torch.randn(rows, columns) * (scale * columns**-0.5)
            for name, (rows, columns, scale) in shapes.items()
        }
        widths = {"history_bias": d, "words_bias": d, "inner_bias": 2 * d, "outer_bias": d}
        return found | {name: torch.zeros(width) for name, width in widths.items()}

    def _over_all(self, step: Callable[[np.ndarray], None]) -> None:
        order = self.learned[torch.randperm(len(self.learned)).numpy()]
        for start in range(0, len(order), self.settings.batch_size):
            step(np.sort(order[start : start + self.settings.batch_size]))

    def _inputs(self, places: np.ndarray) -> tuple[Tensor, Tensor]:
        found = []
        for name, array in (("history", self.given.histories), ("words", self.given.words)):
            mean, scale = self.standard[name]
            standard = (np.asarray(array[places], np.float32) - mean) / scale
            found.append(torch.from_numpy(standard).to(self.device))
        return found[0], found[1]

    def _candidates(self, places: np.ndarray) -> Candidates:
        items, wanted = len(self.items), self.settings.negatives
        targets = torch.from_numpy(self.given.targets[places].astype(np.int64)).to(self.device)
        if wanted >= items:
            drawn = torch.arange(items)
        elif self.settings.negative_sampling == "uniform":
            drawn = torch.randperm(items)[:wanted]
        else:
            drawn = torch.multinomial(self.popular, wanted)
        drawn = drawn.to(self.device)
        return Candidates(self.v[targets], self.v[drawn], targets[:, None] == drawn[None])

    def _parts(self, places: np.ndarray, size: int) -> Iterator[np.ndarray]:
        """The examples of a batch in parts of which g fits into memory."""
        at_once = max(1, _NEGATIVE_PLACES // (len(self.m) * size))
        for start in range(0, len(places), at_once):
            yield places[start : start + at_once]

    def _generated(
        self, places: np.ndarray, given: Candidates
    ) -> tuple[Tensor, losses.RelevanceScores]:
        s, x = self._inputs(places)
        logits = losses.intent_logits(self.weights, s, x, self.m)
        g = losses.relevance_scores(self.weights, logits, self.m, given, self.settings.g)
        return logits.log_softmax(dim=-1), g

    def _log_q(self, places: np.ndarray) -> Tensor:
        return losses.log_inferred(self.weights, self._inputs(places)[0], self.m)

    def _step(self, adams: Sequence[str], places: np.ndarray, loss_of: _Loss) -> None:
        """One step of Adam; a batch is shared out to parts, whose gradients add up to its own."""
        for name in self.adams:
            self.adams[name].zero_grad()
        whole = self._candidates(places)
        at = 0
        for part in self._parts(places, len(whole.others)):
            rows = slice(at, at + len(part))
            given = Candidates(whole.own[rows], whole.others, whole.clash[rows])
            at += len(part)
            (loss_of(part, given) * (len(part) / len(places))).backward()
        for name in adams:
            self.adams[name].step()

    def _inference_step(self, places: np.ndarray) -> None:
        warm_up = self.phase == "inference"

        def loss_of(part: np.ndarray, given: Candidates) -> Tensor:
            log_q = self._log_q(part)
            weight = (
                0.0 if self.settings.variant == "no_rec" else self.settings.inference_rec_weight
            )
            if warm_up:
                return losses.inference_recommendation(self.weights, log_q, self.m, given)
            with torch.no_grad():
                log_p, g = self._generated(part, given)
                choice = losses.log_choice(g, given.clash)
            loss = losses.inference_elbo(log_q, log_p, choice)
            if not weight:
                return loss
            rec = losses.inference_recommendation(self.weights, log_q, self.m, given)
            return loss + weight * rec

        self._step(["inference"], places, loss_of)

    def _generative_step(self, places: np.ndarray) -> None:
        own = self.settings

        def loss_of(part: np.ndarray, given: Candidates) -> Tensor:
            log_p, g = self._generated(part, given)
            if own.variant == "no_inference":
                return losses.recommendation_loss(log_p, g, given.clash, own.h)
            with torch.no_grad():
                log_q = self._log_q(part)
            return self._eq_9(log_q, log_p, g, given)

        self._step(["generative"], places, loss_of)

    def _joint_step(self, places: np.ndarray) -> None:
        def loss_of(part: np.ndarray, given: Candidates) -> Tensor:
            log_p, g = self._generated(part, given)
            log_q = self._log_q(part)
            rec = losses.inference_recommendation(self.weights, log_q, self.m, given)
            loss = self._eq_9(log_q, log_p, g, given)
            return loss + self.settings.inference_rec_weight * rec

        self._step(["inference", "generative"], places, loss_of)

    def _eq_9(
        self, log_q: Tensor, log_p: Tensor, g: losses.RelevanceScores, given: Candidates
    ) -> Tensor:
        own = self.settings
        weight = 0.0 if own.variant == "no_rec" else own.generative_rec_weight
        return losses.generative_loss(
            log_q, log_p, g, given.clash, kl_weight=own.kl_weight, rec_weight=weight, h=own.h
        )

    @torch.no_grad()
    def _quality(self) -> _Quality:
        """Of the validation examples, all items being ranked."""
        ranks, bounds = [], []
        for places in self._parts(self.checked, len(self.items)):
            scores, bound = self._ranked(places)
            targets = self.given.targets[places].astype(np.int64)
            seen = [self.given.seen[place] for place in places]
            ranks.append(target_ranks(scores.cpu().numpy(), targets, seen))
            if bound is not None:
                bounds.append(bound * len(places))
        found = np.concatenate(ranks)
        elbo = sum(bounds) / len(self.checked) if bounds else None
        return _Quality(ndcg(found, DEPTH), recall(found, DEPTH), elbo)

    def _ranked(self, places: np.ndarray) -> tuple[Tensor, float | None]:
        """Scores of all items (B, N), and the mean of eq. 4 where there are both of its models."""
        if self.phase == "inference":
            r = self._log_q(places).exp() @ self.m
            return r @ self.weights["match_weight"] @ self.v.T, None
        own = torch.from_numpy(self.given.targets[places].astype(np.int64)).to(self.device)
        clash = own[:, None] == torch.arange(len(self.items), device=self.device)
        log_p, g = self._generated(places, Candidates(self.v[own], self.v, clash))
        scores = losses.predicted(log_p, g.others)
        if self.settings.variant == "no_inference":
            return scores, None
        bound = losses.elbo(self._log_q(places), log_p, losses.log_choice(g, clash))
        return scores, bound.item()


def _standard(array: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each column over these rows, read in blocks."""
    total = np.zeros(array.shape[1])
    squares = np.zeros(array.shape[1])
    for start in range(0, len(places), 4096):
        block = np.asarray(array[places[start : start + 4096]], np.float64)
        total += block.sum(axis=0)
        squares += (block * block).sum(axis=0)
    mean = total / len(places)
    scale = np.sqrt(np.maximum(squares / len(places) - mean * mean, 0))
    return mean.astype(np.float32), np.where(scale > 1e-6, scale, 1).astype(np.float32)


def _rms(array: np.ndarray) -> np.float32:
    return np.sqrt(np.mean(np.square(array, dtype=np.float64))).astype(np.float32)
