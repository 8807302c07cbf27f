"""An encoder of Hugging Face with a layer for the labels, in torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from agents.core.artifacts import Content
from agents.core.errors import UsageError
from agents.policies.core.network import Trainable
from agents.training.weights import array_of, seeded

_AT_ONCE = 32


def from_checkpoint(
    checkpoint: str, revision: str, context: int, labels: int, seed: int
) -> Content:
    """The checkpoint with a layer for `labels` that is drawn by the seed. UsageError."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(checkpoint, revision=revision)
        with seeded(seed, 7, torch.get_num_threads(), torch.device("cpu")):
            model = AutoModelForSequenceClassification.from_pretrained(
                checkpoint, revision=revision, num_labels=labels
            )
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UsageError(f"the checkpoint {checkpoint!r} cannot be loaded: {reason}") from None
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise UsageError(f"the checkpoint {checkpoint!r} has no fast tokenizer")
    most = min(context, tokenizer.model_max_length)
    padding = {"id": tokenizer.pad_token_id or 0, "token": tokenizer.pad_token or "[PAD]"}
    config = json.loads(json.dumps(model.config.to_dict(), default=str))
    data = {
        "config": config,
        "tokenizer": backend.to_str(),
        "context": most,
        "padding": padding,
        "names": sorted(model.state_dict()),
    }
    return Content(data, _arrays(model, data["names"]))


class Encoder(Trainable):
    """The model of a content, on one device."""

    def __init__(self, content: Content, device: torch.device) -> None:
        self._data: Any = content.data
        config = AutoConfig.for_model(**self._data["config"])
        self._model = AutoModelForSequenceClassification.from_config(config)
        state = {
            name: torch.from_numpy(np.array(content.arrays[f"w{place}"]))
            for place, name in enumerate(self._data["names"])
        }
        self._model.load_state_dict(state)
        self._model.to(device).eval()
        self._device = device
        self._tokenizer = Tokenizer.from_str(self._data["tokenizer"])
        self._tokenizer.enable_truncation(self._data["context"], direction="left")
        padding = self._data["padding"]
        self._tokenizer.enable_padding(pad_id=padding["id"], pad_token=padding["token"])
        self.weights = dict(self._model.named_parameters())

    def content(self) -> Content:
        return Content(self._data, _arrays(self._model, self._data["names"]))

    def logits(self, texts: Sequence[str], *, dropout: bool) -> Tensor:
        read = self._tokenizer.encode_batch(list(texts))
        words = torch.tensor([each.ids for each in read], device=self._device)
        mask = torch.tensor([each.attention_mask for each in read], device=self._device)
        self._model.train(dropout)
        return self._model(input_ids=words, attention_mask=mask).logits

    @torch.inference_mode()
    def inference(self, texts: Sequence[str], dropout: Sequence[int] | None) -> np.ndarray:
        """(texts, labels), float64. With seeds, each text alone with its own dropout."""
        if dropout is None:
            parts = range(0, len(texts), _AT_ONCE)
            found = [self.logits(texts[part : part + _AT_ONCE], dropout=False) for part in parts]
        else:
            found = [self._dropped(t, seed) for t, seed in zip(texts, dropout, strict=True)]
        return torch.cat(found).double().cpu().numpy()

    def _dropped(self, text: str, seed: int) -> Tensor:
        with seeded(seed, 0, torch.get_num_threads(), self._device):
            return self.logits([text], dropout=True)


def _arrays(model: Any, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Arrays have names that are identifiers, weights have not: they are numbered."""
    state = model.state_dict()
    return {f"w{place}": array_of(state[name]) for place, name in enumerate(names)}
