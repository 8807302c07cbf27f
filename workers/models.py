"""Models: a declared model of the sweep file, bound to its backend and to retries."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from agents.core import plugins
from agents.core.calls import Call, Completion, Embedded
from agents.core.errors import CrsweepError, EngineRefused, UsageError
from agents.core.plugins import Options
from sweeps.identity import canonical
from sweeps.origins import Origins, check
from sweeps.schema import ModelSpec
from workers.backends.core import Backend, BackendContext
from workers.retry import retrying

BACKENDS = "workers.backends"

T = TypeVar("T")


def backend_of(
    spec: ModelSpec, origins: Origins, at: Sequence[str]
) -> tuple[type[Backend], Options]:
    """The backend's class and checked options; UsageError with the place in the sweep file."""
    try:
        cls: type[Backend] = plugins.load(BACKENDS, spec.backend, "backend")
    except UsageError as error:
        raise origins.refuse((*at, "backend"), error.message) from None
    return cls, check(cls.Options, spec.options, origins, at)


def declare(spec: ModelSpec, origins: Origins, at: Sequence[str]) -> Mapping[str, Any]:
    """The identity of a model: what decides its answers, as far as the sweep file says."""
    cls, options = backend_of(spec, origins, at)
    try:
        identity = options.identity()
    except UsageError as error:  # what the options name is not there
        raise origins.refuse(at, error.message) from None
    return {"backend": spec.backend, "version": cls.version, "options": identity}


class BoundModel:
    """A model as `agents.core.calls.Model`: its backend, with retries of transient errors."""

    def __init__(self, name: str, spec: ModelSpec, context: BackendContext, transient: int) -> None:
        cls, options = backend_of(spec, Origins(), ("models", name))
        self.name = name
        self.identity = canonical(declare(spec, Origins(), ()))
        self.wants_shown = cls.wants_shown
        self._backend = cls(options, context)
        self._backend_name = spec.backend
        self._transient = transient
        self.guided = self._backend.guided

    async def complete(self, call: Call) -> Completion:
        done, retries = await retrying(
            lambda: self._guarded(self._backend.complete(call)), self._transient
        )
        return done._replace(retries=retries) if retries else done

    async def embed(self, texts: Sequence[str]) -> Embedded:
        if type(self._backend).embed is Backend.embed:
            raise EngineRefused(
                f"model {self.name!r}: the backend {self._backend_name!r} gives no embeddings"
            )
        done, retries = await retrying(
            lambda: self._guarded(self._backend.embed(texts)), self._transient
        )
        vectors = np.asarray(done.vectors, np.float32)
        if vectors.ndim != 2 or len(vectors) != len(texts):
            raise EngineRefused(
                f"model {self.name!r}: embeddings of the shape {vectors.shape} for "
                f"{len(texts)} texts"
            )
        return done._replace(vectors=vectors, retries=retries)

    async def _guarded(self, answer: Awaitable[T]) -> T:
        try:
            return await answer
        except CrsweepError:
            raise
        except Exception as error:
            # A fault of the backend's own code must not be blamed on the agent that called it.
            message = f"backend of model {self.name!r}: {type(error).__name__}: {error}"
            raise EngineRefused(message) from error

    async def close(self) -> None:
        await self._backend.close()
