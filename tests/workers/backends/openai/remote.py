"""The openai backend as tests call it: options, completions and embeddings of a fake server."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agents.core.errors import CrsweepError
from sweeps.origins import Origins, check
from sweeps.schema import ModelSpec
from tests.workers.backends.calls import call, context
from tests.workers.backends.fake_openai import Answer, FakeOpenAI
from workers.backends.core.backend import Workload
from workers.backends.openai import OpenAIBackend
from workers.models import BoundModel

KEY = "sk-test-0123456789abcdef"
"""What `CRSWEEP_TEST_KEY` holds (`conftest.py`)."""


def options(url: str, **changes: Any) -> Any:
    given = {"base_url": url, "model": "qwen", "api_key_env": "CRSWEEP_TEST_KEY", **changes}
    return check(OpenAIBackend.Options, given, Origins(), ("models", "remote"))


def spec_of(**given: Any) -> ModelSpec:
    return ModelSpec.model_validate({"backend": "openai", "model": "qwen", **given})


async def completions(*calls, url: str, **changes: Any) -> list[Any]:
    """Completions of `calls`, asked at once."""
    backend = OpenAIBackend(options(url, **changes), context())
    try:
        return await asyncio.gather(*map(backend.complete, calls))
    finally:
        await backend.close()


def complete(*calls, url: str, **changes: Any) -> list[Any]:
    return asyncio.run(completions(*calls, url=url, **changes))


def error_of(answer: Answer, **changes: Any) -> CrsweepError:
    with FakeOpenAI(answer) as server, pytest.raises(CrsweepError) as caught:
        complete(call(), url=server.url, **changes)
    assert len(server.asked) == 1, "a backend never retries"
    return caught.value


def check_of(server: FakeOpenAI, **changes: Any) -> str:
    async def ask() -> str:
        backend = OpenAIBackend(options(server.url, **changes), context())
        try:
            return await backend.check(Workload([], {}))
        finally:
            await backend.close()

    return asyncio.run(ask())


def vectors(*rows: tuple[int, list[float]], tokens: int = 9) -> dict[str, Any]:
    data = [{"object": "embedding", "index": i, "embedding": row} for i, row in rows]
    return {"object": "list", "data": data, "model": "qwen", "usage": {"prompt_tokens": tokens}}


def embedded(answer: Answer, *texts: str, **changes: Any):
    with FakeOpenAI(answer) as server:

        async def ask():
            spec = spec_of(base_url=server.url, **changes)
            model = BoundModel("m", spec, context(), transient=0)
            try:
                return await model.embed(texts)
            finally:
                await model.close()

        return asyncio.run(ask()), server.asked
