"""Models bound to backends: what they embed, and what they refuse."""

import asyncio
import time

import numpy as np
import pytest

from agents.core.calls import Embedded
from agents.core.errors import EngineRefused, ReplicaLost
from agents.core.plugins import Options
from sweeps.schema import ModelSpec
from tests.workers.backends.calls import context
from workers.backends.core.backend import Backend
from workers.models import BoundModel


class Embedding(Backend):
    """Fails as requested, then embeds each text as `row`."""

    class Options(Options):
        lost: int = 0
        row: list[float] = [1, 2]  # noqa: RUF012  (pydantic copies defaults)

    def __init__(self, options, context):
        self.lost, self.row = options.lost, options.row

    async def complete(self, call):
        raise AssertionError

    async def embed(self, texts):
        if self.lost:
            self.lost -= 1
            raise ReplicaLost("gone")
        return Embedded(np.array([self.row] * len(texts)), 3, fingerprint="f")


@pytest.fixture
def bound(monkeypatch):
    def bind(backend="my_lab.embedding", **options) -> BoundModel:
        if backend != "latency":
            monkeypatch.setattr("workers.models.plugins.load", lambda *_: Embedding)
        spec = ModelSpec.model_validate({"backend": backend, **options})
        return BoundModel("m", spec, context(), transient=2)

    return bind


def test_embeddings_are_float32_and_retried_at_once(bound):
    found = asyncio.run(bound(lost=2).embed(["a", "b"]))
    assert found.vectors.dtype == np.float32
    assert found.vectors.tolist() == [[1, 2], [1, 2]]
    assert found[1:] == (3, False, 2, "f", 0.0)


class Loading(Embedding):
    """Has an engine that comes up with the first call."""

    up = 0.0

    @property
    def up_since(self):
        return self.up

    async def embed(self, texts):
        if not self.up:
            await asyncio.sleep(0.01)
            self.up = time.monotonic()
        return Embedded(np.array([[1.0]] * len(texts)))


class OneFlight:
    """A call cache in which equal calls wait for the first of them."""

    def __init__(self):
        self.made = {}

    async def reply(self, key, accepted, make):
        if key in self.made:
            return (await self.made[key])._replace(cached=True)
        self.made[key] = asyncio.get_running_loop().create_future()
        self.made[key].set_result(await make())
        return await self.made[key]


def test_only_those_who_wait_for_an_engine_to_load_know_how_long(monkeypatch):
    monkeypatch.setattr("workers.models.plugins.load", lambda *_: Loading)

    async def main():
        spec = ModelSpec.model_validate({"backend": "my_lab.loading"})
        model = BoundModel("m", spec, context(), transient=2, cache=OneFlight())  # type: ignore
        maker, waiter = await asyncio.gather(model.embed(["a"]), model.embed(["a"]))
        assert waiter.cached and not maker.cached
        assert min(maker.waited, waiter.waited) >= 0.01
        assert (await model.embed(["b"])).waited == (await model.embed(["a"])).waited == 0

    asyncio.run(main())


def test_retries_of_embeddings_end(bound):
    with pytest.raises(ReplicaLost) as caught:
        asyncio.run(bound(lost=3).embed(["a"]))
    assert caught.value.retries == 2


def test_a_backend_that_gives_no_embeddings_is_named(bound):
    with pytest.raises(EngineRefused, match="'m': the backend 'latency' provides no embeddings"):
        asyncio.run(bound("latency").embed(["a"]))


def test_embeddings_of_another_shape_are_refused(bound, monkeypatch):
    async def flat(self, texts):
        return Embedded(np.ones(3))

    monkeypatch.setattr(Embedding, "embed", flat)
    with pytest.raises(EngineRefused, match=r"each of 1 texts, found an array of shape \(3,\)"):
        asyncio.run(bound().embed(["a"]))
