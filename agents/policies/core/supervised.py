"""Supervised fine-tuning of a policy (RSO eq. 6), in torch.

AdamW with a linear decay of the learning rate to 0 (section IV-D). Nothing is chosen on the
held-out part. It is only measured, after every epoch, and two baselines on it at the end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from agents.core.artifacts import Content, Progress
from agents.core.errors import DataError
from agents.policies.core.baselines import (
    ClassifierScores,
    majority_class,
    scores,
    tf_idf_regression,
)
from agents.policies.core.dialogues import Example
from agents.policies.core.labels import LabelSet, labels_of, merged
from agents.policies.core.network import NetworkRef, Trainable
from agents.policies.core.trained import log_softmax
from agents.training.weights import Weights, adam_arrays, device_of, restore_adam, seeded

_AT_ONCE = 64  # texts of the held-out part
_NETWORK = "network_"
_SERIES = {
    "loss": "loss",
    "held_out_loss": "held-out loss",
    "accuracy": "held-out accuracy",
    "macro_f1": "held-out macro-F1",
}


class FineTuning:
    """One fine-tuning run, resumed from `state` if there is one.

    `sft` are the options of `agents.policies.core.options.SftOptions`. DataError for data without
    labels in one of the parts.
    """

    def __init__(
        self,
        ref: NetworkRef,
        labels: LabelSet,
        train: Sequence[Example],
        held_out: Sequence[Example],
        sft: Mapping[str, Any],
        seed: int,
        state: Content | None,
        *,
        device: str,
        threads: int,
    ) -> None:
        if not train or not held_out:
            raise DataError("fine-tuning needs labelled utterances in both parts, train and valid")
        names = labels_of(labels)
        place = {name: at for at, name in enumerate(names)}
        self._names = names
        self._train, self._held_out = train, held_out
        self._wanted = np.array([place[merged(e.label, labels)] for e in train])
        self._true = np.array([place[merged(e.label, labels)] for e in held_out])
        self._sft, self._seed, self._threads = sft, seed, threads
        self._device = device_of(f"the policy {ref.name!r}", device)
        start = state
        if state is None:
            texts = [each.state.rpartition("\n")[2] for each in train]
            start = ref.network.fresh(ref.options, texts, len(names), seed)
        else:
            start = network_of(state)
        self._network: Trainable = ref.network.trainable(start, self._device)
        weights: Weights = self._network.weights
        self._adam = torch.optim.AdamW(
            weights.values(), lr=sft["lr"], weight_decay=sft["weight_decay"]
        )
        self._epoch, self._report = 0, []
        if state is not None:
            self._epoch, self._report = state.data["epoch"], list(state.data["epochs"])
            restore_adam(self._adam, weights, state.data["step"], state, self._device)

    def epochs(self) -> Iterator[Progress]:
        """A state after every epoch; the last step has the result.

        Its data have `report`: the numbers of each epoch, and those of the baselines.
        """
        wanted = self._sft["epochs"]
        while self._epoch < wanted:
            self._one_epoch()
            measured = {name: self._last[key] for key, name in _SERIES.items()}
            yield Progress(self._epoch, wanted, self._note, state=self._state(), measured=measured)
        result = self._result()
        note = _compared(self._note, result.data["report"])
        yield Progress(self._epoch, wanted, note, result=result)

    @property
    def _note(self) -> str:
        return (
            f"epoch {self._epoch}, held-out accuracy {self._last['accuracy']:.3f}, "
            f"macro-F1 {self._last['macro_f1']:.3f}"
        )

    @property
    def _last(self) -> Mapping[str, float]:
        """What the last epoch came to."""
        return self._report[-1]

    def _one_epoch(self) -> None:
        size, count = self._sft["batch_size"], len(self._train)
        with seeded(self._seed, self._epoch, self._threads, self._device):
            order = torch.randperm(count).tolist()
            batches = -(-count // size)
            total = 0.0
            for number in range(batches):
                rows = order[number * size : (number + 1) * size]
                step = self._epoch * batches + number
                for group in self._adam.param_groups:
                    group["lr"] = self._sft["lr"] * (1 - step / (batches * self._sft["epochs"]))
                logits = self._network.logits([self._train[r].state for r in rows], dropout=True)
                wanted = torch.from_numpy(self._wanted[rows]).to(self._device)
                loss = F.cross_entropy(logits, wanted)
                self._adam.zero_grad()
                loss.backward()
                self._adam.step()
                total += loss.item() * len(rows)
            self._epoch += 1
            found, nats = self._measured()
        numbers = {"loss": total / count, "held_out_loss": nats, **found._asdict()}
        self._report.append({"epoch": self._epoch, **numbers})

    @torch.inference_mode()
    def _measured(self) -> tuple[ClassifierScores, float]:
        texts = [each.state for each in self._held_out]
        parts = range(0, len(texts), _AT_ONCE)
        found = [self._network.logits(texts[p : p + _AT_ONCE], dropout=False) for p in parts]
        logits = log_softmax(torch.cat(found).double().cpu().numpy())
        nats = float(-logits[np.arange(len(texts)), self._true].mean())
        return scores(self._true, logits.argmax(axis=1), len(self._names)), nats

    def _state(self) -> Content:
        network = self._network.content()
        step, arrays = adam_arrays(self._adam, self._network.weights)
        data = {"network": network.data, "epoch": self._epoch, "epochs": list(self._report)}
        data["step"] = step
        return Content(data, prefixed(network.arrays) | arrays)

    def _result(self) -> Content:
        network, true, size = self._network.content(), self._true, len(self._names)
        texts = [each.state for each in self._train], [each.state for each in self._held_out]
        by_words = tf_idf_regression(texts[0], self._wanted, texts[1])
        report = {
            "train": len(self._train),
            "held_out": len(self._held_out),
            "labels": dict(Counter(self._names[at] for at in self._wanted.tolist())),
            "epochs": self._report,
            "majority": scores(true, majority_class(self._wanted, len(true)), size)._asdict(),
            "tf_idf_regression": scores(true, by_words, size)._asdict(),
        }
        return Content({**network.data, "report": report}, network.arrays)


def _compared(note: str, report: Mapping[str, Any]) -> str:
    """A note with the baselines of the report behind it."""
    names = {"majority": "the most frequent label", "tf_idf_regression": "TF-IDF regression"}
    found = [
        f"{words} {report[name]['accuracy']:.3f}, {report[name]['macro_f1']:.3f}"
        for name, words in names.items()
    ]
    return f"{note} ({'; '.join(found)})"


def prefixed(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays of a network, as a state has them."""
    return {_NETWORK + name: array for name, array in arrays.items()}


def network_of(state: Content) -> Content:
    """The network in a state."""
    arrays = {
        name.removeprefix(_NETWORK): array
        for name, array in state.arrays.items()
        if name.startswith(_NETWORK)
    }
    return Content(state.data["network"], arrays)
