"""The backend `sentence_transformers`: embeddings by any model of that library.

Its engines are replicas like those of vLLM: loaded once, placed and watched by the same fleet, and
shared by all dialogues. Texts that wait at the same time are encoded in one batch.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agents.core.calls import Call, Completion
from agents.core.errors import EngineRefused, UsageError
from sweeps.models import Use
from workers.backends.core.backend import BackendContext, EngineSpec, Workload
from workers.backends.core.hosted import HostedBackend
from workers.backends.sentence_transformers.engine import SentenceEngine, check_hub
from workers.backends.sentence_transformers.options import (
    MODULES,
    SentenceTransformersOptions,
    check_installed,
    installed_version,
)

_NO_LIMIT = 10**6  # tokens: tokenizers without a limit name a huge one
_BATCHES_AT_ONCE = 4  # of texts in a replica, so that one is complete when the last one is done


class SentenceTransformersBackend(HostedBackend):
    """Sends texts to the replicas of one engine."""

    Options = SentenceTransformersOptions

    def __init__(self, options: SentenceTransformersOptions, context: BackendContext) -> None:
        check_installed(context.name)
        super().__init__(options, context, _BATCHES_AT_ONCE * options.max_batch)

    @classmethod
    def uses(cls, options: SentenceTransformersOptions) -> frozenset[Use]:
        return frozenset(("embed",))

    @classmethod
    def engine(cls, options: SentenceTransformersOptions, label: str, cpu: bool) -> EngineSpec:
        """The engine that serves these options; `cpu` means that there is no GPU."""
        weights = options.weights()
        device = options.device
        if device == "auto":
            device = "cpu" if cpu else "cuda"
        return EngineSpec(
            key=options.engine_key(),
            label=label,
            engine=SentenceEngine,
            kind="embed",
            weights=weights.identity(),
            arguments={
                "model": weights.name,
                "revision": weights.revision,
                "device": device,
                "max_batch": options.max_batch,
            },
            max_inflight=_BATCHES_AT_ONCE * options.max_batch,
            start_timeout=options.start_timeout,
            replicas=options.replicas,
            gpus=options.gpus,
        )

    @classmethod
    def engine_version(cls) -> str:
        return installed_version() or ""

    async def complete(self, call: Call) -> Completion:
        raise EngineRefused(f"{self._label}: a model of sentence_transformers only embeds")

    async def check(self, work: Workload) -> str:
        """What the model's files say. Raises UsageError if they cannot be read."""
        weights = self._options.weights()
        lines = [f"weights: {weights.name} at {weights.version[:12]}"]
        if weights.path is None:
            check_hub(weights.name, weights.version)
            lines.append("its files are not here yet")
        else:
            lines += _said_by_files(weights.path, self._options.model)
        return "; ".join(lines)


def _said_by_files(folder: Path, model: str) -> list[str]:
    """The steps from text to vector, and how much of a text is read."""
    try:
        steps = json.loads((folder / MODULES).read_text("utf-8"))
        names = [str(step["type"]).rpartition(".")[2] for step in steps]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"model {model!r}: {MODULES} cannot be read: {error!r}") from None
    lines = [f"modules: {', '.join(names)}"]
    longest = _longest(folder, steps)
    if longest is not None:
        lines.append(f"of a text, the first {longest:,} tokens are read")
    return lines


def _longest(folder: Path, steps: Sequence[dict[str, Any]]) -> int | None:
    """The tokens of a text that the model reads, if its files say so."""
    first = folder / str(steps[0].get("path", "")) if steps else folder
    said = [*sorted(first.glob("sentence_*_config.json")), first / "tokenizer_config.json"]
    for path in said:
        if path.is_file():
            settings = json.loads(path.read_text("utf-8"))
            found = settings.get("max_seq_length", settings.get("model_max_length"))
            if isinstance(found, int) and found < _NO_LIMIT:
                return found
    return None
