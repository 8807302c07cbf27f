"""Models: a model of the sweep file, bound to its backend, retries and the cache."""

from __future__ import annotations

import hashlib
import logging
import operator
import socket
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar, get_args

import numpy as np

from agents.core import plugins
from agents.core.calls import Call, Completion, Embedded, FinishReason
from agents.core.errors import CrsweepError, EngineRefused, ModelUnavailable, UsageError
from agents.core.plugins import Options
from agents.core.text import repaired
from sweeps.identity import canonical
from sweeps.models import DeclaredModel
from sweeps.origins import Origins, check
from sweeps.schema import ModelSpec
from workers.backends.core.backend import Backend, BackendContext
from workers.cache.client import CallCache
from workers.core.concurrency import Load
from workers.core.environment import check_transport
from workers.core.retry import retrying
from workers.core.usage import with_possible_counts

log = logging.getLogger(__name__)

BACKENDS = "workers.backends"
_FINISHED = get_args(FinishReason)

T = TypeVar("T")
A = TypeVar("A", Completion, Embedded)


def backend_of(
    spec: ModelSpec, origins: Origins, at: Sequence[str]
) -> tuple[type[Backend], Options]:
    """The backend's class and checked options. Raises UsageError with the place in the
    sweep file."""
    try:
        cls: type[Backend] = plugins.load(BACKENDS, spec.backend, "backend")
    except UsageError as error:
        raise origins.refuse((*at, "backend"), error.message) from None
    return cls, check(cls.Options, spec.options, origins, at)


def declare(spec: ModelSpec, origins: Origins, at: Sequence[str]) -> DeclaredModel:
    """Checks a model's options.

    The identity of the result is what decides its answers, as far as the sweep file specifies it.
    """
    cls, options = backend_of(spec, origins, at)

    def identity() -> Mapping[str, Any]:
        try:
            found = options.identity()
        except UsageError as error:  # the options name something that does not exist
            raise origins.refuse(at, error.message) from None
        return {"backend": spec.backend, "version": cls.version, "options": found}

    return DeclaredModel(cache(identity), cls.uses(options))


@contextmanager
def building(model: str) -> Iterator[None]:
    """Turns errors while a model is built into errors of this machine.

    Examples are a key that is not set here, a missing package, or too many open files. They are
    never the fault of the agent that asks for the model.
    """
    try:
        yield
    except UsageError as error:
        raise ModelUnavailable(f"{error.message} (on {socket.gethostname()})") from error
    except CrsweepError:
        raise
    except Exception as error:
        log.info("the model %s cannot be built", model, exc_info=True)
        raise ModelUnavailable(
            f"model {model!r} cannot be built on {socket.gethostname()}: {_cause(error)}"
        ) from error


def _cause(error: Exception) -> str:
    """The cause of an error. A library that meets an unusable proxy or CA file does not say where
    it was set."""
    try:
        check_transport()
    except UsageError as found:
        return found.message
    return f"{type(error).__name__}: {error}"


def embedding_key(identity: str, texts: Sequence[str]) -> bytes:
    """The key of an embedding of `texts`, in the same space as `Call.key`."""
    text = canonical(["embed", identity, list(texts)]).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=16).digest()


class BoundModel:
    """A model as `agents.core.calls.Model`: its backend, with retries and the cache.

    If `strict`, a cached reply counts only if it has the fingerprint of what serves now.
    """

    def __init__(
        self,
        name: str,
        spec: ModelSpec,
        context: BackendContext,
        transient: int,
        cache: CallCache | None = None,
        *,
        strict: bool = False,
    ) -> None:
        cls, options = backend_of(spec, Origins(), ("models", name))
        self.name = name
        self.identity = canonical(
            {**declare(spec, Origins(), ()).identity(), "engine_version": cls.engine_version()}
        )
        self._cache = cache if cls.cacheable else None
        self._strict = strict
        self.wants_shown = cls.wants_shown
        self._backend = cls(options, context)
        self._backend_name = spec.backend
        self._transient = transient
        self._unavailable: str | None = None
        self.guided = self._backend.guided
        self.greedy = self._backend.greedy

    @property
    def load(self) -> tuple[str, Load] | None:
        """The load that this process puts on its server (`Backend.load`)."""
        return self._backend.load

    async def complete(self, call: Call) -> Completion:
        asked = time.monotonic()
        return self._timed(await self._answered(lambda: self._completed(call)), asked)

    async def embed(self, texts: Sequence[str]) -> Embedded:
        asked = time.monotonic()
        return self._timed(await self._answered(lambda: self._embedded(texts)), asked)

    def _timed(self, done: A, asked: float) -> A:
        """`done` with the time it waited for an engine to come up, even if another's call did."""
        waited = self._backend.up_since - asked
        return done._replace(waited=waited) if waited > 0 else done

    async def _answered(self, answer: Callable[[], Awaitable[T]]) -> T:
        """The answer; every error becomes one of ours, never the waiting agent's.

        Once the server has said that it serves no call of this model, none is sent anymore.
        """
        try:
            if self._unavailable is not None:
                raise ModelUnavailable(self._unavailable)
            return await answer()
        except ModelUnavailable as error:
            self._unavailable = error.message
            raise
        except CrsweepError:
            raise
        except Exception as error:
            log.info("a call of the model %s", self.name, exc_info=True)
            message = f"backend of model {self.name!r}: {type(error).__name__}: {error}"
            raise EngineRefused(message) from error

    async def _completed(self, call: Call) -> Completion:
        if self._cache is None:
            return self._usable(await self._complete(call))
        accepted = await self._backend.fingerprints() if self._strict else None
        key = call.key(self)
        return self._usable(await self._cache.reply(key, accepted, lambda: self._complete(call)))

    async def _complete(self, call: Call) -> Completion:
        done, retries = await retrying(
            lambda: self._backend.complete(call), self._transient, self._backend.throttle
        )
        return done._replace(retries=retries) if retries else done

    def _usable(self, done: Completion) -> Completion:
        """`done` in a form that can be shown and stored; an impossible count becomes unknown."""
        if not isinstance(done.text, str) or done.finish_reason not in _FINISHED:
            raise EngineRefused(
                f"model {self.name!r}: the backend {self._backend_name!r} gave a reply of the type "
                f"{type(done.text).__name__} with finish_reason {done.finish_reason!r}"
            )
        found = (done.text, done.thinking, done.fingerprint)
        words = (repaired(done.text), _words(done.thinking), _words(done.fingerprint))
        if not all(map(operator.is_, words, found)):
            text, thinking, fingerprint = words
            done = done._replace(text=text, thinking=thinking, fingerprint=fingerprint)
        return with_possible_counts(done)

    async def _embedded(self, texts: Sequence[str]) -> Embedded:
        if type(self._backend).embed is Backend.embed:
            raise EngineRefused(
                f"model {self.name!r}: the backend {self._backend_name!r} provides no embeddings"
            )
        if self._cache is None:
            done = await self._embed(texts)
        else:
            accepted = await self._backend.fingerprints() if self._strict else None
            key = embedding_key(self.identity, texts)
            done = await self._cache.reply(key, accepted, lambda: self._embed(texts))
        return with_possible_counts(done._replace(fingerprint=_words(done.fingerprint)))

    async def _embed(self, texts: Sequence[str]) -> Embedded:
        done, retries = await retrying(
            lambda: self._backend.embed(texts), self._transient, self._backend.throttle
        )
        vectors = np.asarray(done.vectors, np.float32)
        if vectors.ndim != 2 or len(vectors) != len(texts):
            raise EngineRefused(
                f"model {self.name!r}: expected one embedding for each of {len(texts)} texts, "
                f"found an array of shape {vectors.shape}"
            )
        return done._replace(vectors=vectors, retries=retries)

    async def close(self) -> None:
        await self._backend.close()


def _words(text: object) -> str | None:
    return repaired(text) if isinstance(text, str) else None
