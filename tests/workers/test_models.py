"""Models bound to backends: what they embed, and what they refuse."""

import asyncio

import numpy as np
import pytest

from agents.core.calls import Embedded
from agents.core.errors import EngineRefused, ReplicaLost
from agents.core.plugins import Options
from sweeps.schema import ModelSpec
from tests.workers.backends.calls import context
from workers.backends.core import Backend
from workers.models import BoundModel


class Embedding(Backend):
    """Fails as told, then embeds each text as `row`."""

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
        if backend != "rules":
            monkeypatch.setattr("workers.models.plugins.load", lambda *_: Embedding)
        spec = ModelSpec.model_validate({"backend": backend, **options})
        return BoundModel("m", spec, context(), transient=2)

    return bind


def test_embeddings_are_float32_and_retried_at_once(bound):
    found = asyncio.run(bound(lost=2).embed(["a", "b"]))
    assert found.vectors.dtype == np.float32
    assert found.vectors.tolist() == [[1, 2], [1, 2]]
    assert found[1:] == (3, False, 2, "f")


def test_retries_of_embeddings_end(bound):
    with pytest.raises(ReplicaLost) as caught:
        asyncio.run(bound(lost=3).embed(["a"]))
    assert caught.value.retries == 2


def test_a_backend_that_gives_no_embeddings_is_named(bound):
    with pytest.raises(EngineRefused, match="'m': the backend 'rules' gives no embeddings"):
        asyncio.run(bound("rules").embed(["a"]))


def test_embeddings_of_another_shape_are_refused(bound, monkeypatch):
    async def flat(self, texts):
        return Embedded(np.ones(3))

    monkeypatch.setattr(Embedding, "embed", flat)
    with pytest.raises(EngineRefused, match=r"shape \(3,\) for 1 texts"):
        asyncio.run(bound().embed(["a"]))
