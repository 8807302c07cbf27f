"""One SentenceTransformer in this process: texts in, vectors out, in batches.

An actor (`workers.engines.replica`) or the process of a local run owns it, as it does a vLLM
engine. Encoding runs in a thread of its own, so that the owner's loop stays responsive.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from agents.core.calls import Completion
from agents.core.errors import CrsweepError, EngineRefused, UsageError
from workers.backends.core.backend import EngineSpec
from workers.backends.core.engines import EmbedRequest, EngineStopped, Request, Vector
from workers.backends.core.watchdog import LOOK_EVERY, Watchdog
from workers.backends.sentence_transformers.options import MODULES, check_installed

log = logging.getLogger(__name__)

_WARM_UP = "The quick brown fox jumps over the lazy dog. " * 64
_UNBOUNDED = 512  # tokens that a text counts at most, where the model reads all of it


class _Waiting(NamedTuple):
    text: str
    vector: asyncio.Future[Vector]


class SentenceEngine:
    """A loaded model, created by `start`. `on_death` is called once, with the cause."""

    def __init__(self, model: Any, spec: EngineSpec, on_death: Callable[[str], None]) -> None:
        self._model, self._spec, self._on_death = model, spec, on_death
        self._device: str = spec.arguments["device"]
        self._max_batch: int = spec.arguments["max_batch"]
        read = model.max_seq_length
        self._context = read if isinstance(read, int) else None
        longest = self._context or _UNBOUNDED
        self._thread = ThreadPoolExecutor(1, "encode")
        self._waiting: deque[_Waiting] = deque()
        self._news = asyncio.Event()
        self._count = self._running = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._longest = longest
        self.pulse = Watchdog()
        self.pulse.most_tokens = self._max_batch * longest

    @staticmethod
    def without_gpu() -> bool:
        import torch

        return not torch.cuda.is_available()

    @staticmethod
    def prepare_process(offline: bool, *, cpu: bool, cores: int | None = None) -> None:
        if offline:
            os.environ.setdefault("HF_HUB_OFFLINE", "1")
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # the encoding thread is one
        if cpu and cores is not None:
            os.environ["OMP_NUM_THREADS"] = str(cores)  # Ray has set 1: it knows of no CPU here

    @classmethod
    async def start(cls, spec: EngineSpec, on_death: Callable[[str], None]) -> SentenceEngine:
        """Loads the model and encodes a text with it."""
        model = await asyncio.to_thread(_load, spec)
        engine = cls(model, spec, on_death)
        engine._tasks = [asyncio.create_task(engine._serve())]
        try:
            # It measures this machine's speed, which decides when a batch counts as hung.
            await engine.embed(EmbedRequest(_WARM_UP))
        except BaseException:
            engine.close()
            raise
        engine._tasks.append(asyncio.create_task(engine._keep_watch()))
        return engine

    async def generate(self, request: Request) -> Completion:
        raise EngineRefused(f"{self._spec.label}: a model of sentence_transformers only embeds")

    async def embed(self, request: EmbedRequest) -> Vector:
        """The vector of one text, of which the model reads as much as its files say."""
        self._count += 1
        name = str(self._count)
        self.pulse.begin(name, min(self._longest, 1 + len(request.text)))
        waiting = _Waiting(request.text, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self.pulse.note_load(self._running, len(self._waiting), 0.0)
        self._news.set()
        try:
            return await waiting.vector
        finally:
            self.pulse.end(name)

    def fingerprint(self) -> dict[str, Any]:
        import sentence_transformers
        import torch
        import transformers

        parameter = next(self._model.parameters(), None)
        on_gpu = self._device == "cuda"
        return {
            "weights": dict(self._spec.weights),
            "sentence_transformers": sentence_transformers.__version__,
            "transformers": transformers.__version__,
            "torch": torch.__version__,
            "device": torch.cuda.get_device_name() if on_gpu else "cpu",
            "dtype": "" if parameter is None else str(parameter.dtype).removeprefix("torch."),
            "context": self._context,
            "max_batch": self._max_batch,
        }

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _serve(self) -> None:
        """Encodes what waits, as many texts at once as allowed."""
        while True:
            await self._news.wait()
            self._news.clear()
            while batch := self._next_batch():
                self._running = len(batch)
                self.pulse.note_load(self._running, len(self._waiting), 0.0)
                await self._answer(batch)
                self._running = 0

    def _next_batch(self) -> list[_Waiting]:
        """Texts that still wait for their vector, as many as are encoded at once."""
        batch: list[_Waiting] = []
        while self._waiting and len(batch) < self._max_batch:
            one = self._waiting.popleft()
            if not one.vector.done():  # otherwise its dialogue has ended
                batch.append(one)
        return batch

    async def _answer(self, batch: Sequence[_Waiting]) -> None:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.run_in_executor(self._thread, self._encode, [b.text for b in batch])
        except Exception as error:  # noqa: BLE001  (modules of a model raise anything)
            failure = self._failure(error)
            if isinstance(failure, EngineStopped):
                self._on_death(str(failure))
            elif len(batch) > 1:  # one text must not fail those of other dialogues
                for one in batch:
                    await self._answer([one])
                return
            for one in batch:
                if not one.vector.done():
                    one.vector.set_exception(failure)
            return
        tokens = sum(vector.input_tokens for vector in found)
        self.pulse.step(tokens, 0)
        self.pulse.served(tokens, 0)
        for one, vector in zip(batch, found, strict=True):
            if not one.vector.done():
                one.vector.set_result(vector)

    def _failure(self, error: Exception) -> CrsweepError | EngineStopped:
        """What a failed batch means: after an error of the GPU, the process cannot use it again."""
        import torch

        said = f"{type(error).__name__}: {error}"
        if isinstance(error, torch.OutOfMemoryError):
            return EngineRefused(
                f"{self._spec.label}: {said}; lower max_batch, or raise gpus_per_replica"
            )
        if self._device == "cuda" and isinstance(error, RuntimeError):
            return EngineStopped(said)
        log.warning("a batch failed", exc_info=error)
        return EngineRefused(f"{self._spec.label}: {said}")

    def _encode(self, texts: list[str]) -> list[Vector]:
        vectors = self._model.encode(
            texts, batch_size=self._max_batch, show_progress_bar=False, convert_to_numpy=True
        )
        rows = np.asarray(vectors, np.float32)
        counts = _token_counts(self._model, texts)
        return [Vector(row.tobytes(), count) for row, count in zip(rows, counts, strict=True)]

    async def _keep_watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY)
            stalled = self.pulse.stalled()
            if stalled:
                log.error("%s: %s", self._spec.label, stalled)
                self._on_death(stalled)
                return


def _load(spec: EngineSpec) -> Any:
    """The model. UsageError, in one line, for what keeps it from being loaded."""
    check_installed(spec.label)
    import torch
    from huggingface_hub.utils import disable_progress_bars
    from sentence_transformers import SentenceTransformer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bars()  # of downloads, and of reading weights: a local run has the screen
    disable_progress_bar()
    name, device = spec.arguments["model"], spec.arguments["device"]
    revision: str | None = spec.arguments["revision"]
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"model {spec.label!r}: `device: cuda`, but torch finds no GPU here")
    if device == "cuda" and spec.gpus < 1:
        torch.cuda.set_per_process_memory_fraction(spec.gpus)
    if revision is not None:
        check_hub(name, revision)
    return SentenceTransformer(name, revision=revision, device=device)


def check_hub(name: str, revision: str) -> None:
    """Raises UsageError for a model of the Hub that cannot be had here, or is of another kind.

    The library would make one of any transformer, with a pooling that its files do not name.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError

    at = f"model {name!r} at {revision[:12]}"
    try:
        hf_hub_download(name, MODULES, revision=revision)
    except LocalEntryNotFoundError as error:
        raise UsageError(
            f"{at} is not in the Hub's cache on this machine, and the Hub cannot be reached; "
            "download it where there is a network, or give a folder"
        ) from error
    except EntryNotFoundError as error:
        raise UsageError(
            f"{at} is not a sentence-transformers model: it has no {MODULES}"
        ) from error
    except HfHubHTTPError as error:
        raise UsageError(f"{at}: {' '.join(str(error).split())}") from error


def _token_counts(model: Any, texts: list[str]) -> list[int]:
    """Tokens that the model reads of each text; 0 where its first module does not say."""
    prepare = getattr(model, "preprocess", None) or model.tokenize  # the name until version 5
    mask = prepare(texts).get("attention_mask")
    if mask is None:
        return [0] * len(texts)
    return [int(count) for count in mask.sum(dim=1)]
