"""Any encoder checkpoint of Hugging Face with a new layer for the labels: the paper's RoBERTa.

`checkpoint` is a folder or an id of the Hub. It is needed where the policy is trained; the artifact
has config, tokenizer and weights of its own. It runs in torch, also on episode workers, which
therefore need the packages `torch` and `transformers`. Texts are read in padded batches, so the
last bits of a probability can depend on the batch; the call cache replays a decision exactly.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field

from agents.core.artifacts import Content, importing
from agents.core.paths import PathText
from agents.core.plugins import Options
from agents.policies.core.network import Network, Trainable

if TYPE_CHECKING:
    import torch

    from agents.policies.encoder.model import Encoder

__all__ = ["EncoderNetwork"]

_MATTERS = (".safetensors", ".bin", ".json", ".txt", ".model")
_PACKAGES = ("torch", "transformers", "tokenizers")


class _Options(Options):
    checkpoint: PathText = "roberta-base"
    """A folder, or an id of the Hub. The content of a folder counts, not its place."""
    revision: str = "main"
    """Of the Hub: a commit, a tag or a branch."""
    context: Annotated[int, Field(ge=8, le=8192)] = 256
    """Tokens of the dialogue's end that it reads."""

    def identity(self) -> dict[str, Any]:
        folder = Path(self.checkpoint)
        if not folder.is_dir():
            return {**super().identity(), "checkpoint": self.checkpoint}
        own = {"content": _content_of(folder)}
        return own if self.context == 256 else {**own, "context": self.context}


class EncoderNetwork(Network):
    """The encoder in torch."""

    Options = _Options
    packages = _PACKAGES

    def __init__(self, content: Content) -> None:
        super().__init__(content)
        self._encoder: Encoder | None = None

    @staticmethod
    def fresh(options: _Options, texts: Sequence[str], labels: int, seed: int) -> Content:
        with importing(_PACKAGES, "the network 'encoder'"):
            from agents.policies.encoder.model import from_checkpoint
        return from_checkpoint(options.checkpoint, options.revision, options.context, labels, seed)

    @staticmethod
    def trainable(content: Content, device: torch.device) -> Trainable:
        from agents.policies.encoder.model import Encoder

        return Encoder(content, device)

    def logits(self, texts: Sequence[str], dropout: Sequence[int] | None = None) -> np.ndarray:
        if self._encoder is None:
            with importing(_PACKAGES, "the network 'encoder'"):
                import torch

                from agents.policies.encoder.model import Encoder
            self._encoder = Encoder(self.content, torch.device("cpu"))
        return self._encoder.inference(texts, dropout)


def _content_of(folder: Path) -> str:
    """Hex BLAKE2b-128 of a checkpoint's files."""
    files = sorted(p for p in folder.iterdir() if p.suffix in _MATTERS and p.is_file())
    stats = [(path, path.stat()) for path in files]
    return _digest(tuple((path, s.st_size, s.st_mtime_ns) for path, s in stats))


@lru_cache(maxsize=8)
def _digest(files: tuple[tuple[Path, int, int], ...]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for path, size, _ in files:
        digest.update(json.dumps([path.name, size]).encode())
        with path.open("rb") as file:
            while part := file.read(1 << 20):
                digest.update(part)
    return digest.hexdigest()
