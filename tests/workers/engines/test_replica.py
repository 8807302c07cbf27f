"""A replica between its clients, its engine and the driver, with a stand-in for the engine."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from agents.core.calls import Completion
from agents.core.errors import ContextOverflow, EngineOverloaded, EngineRefused, ReplicaLost
from tests.conftest import LAST_GUARD_SECONDS
from tests.workers.engines.connections import reply_to, request
from workers.backends.core.backend import EngineSpec
from workers.backends.core.engines import EmbedRequest, EngineStopped, Request, Vector
from workers.backends.core.watchdog import Counts, Watchdog
from workers.backends.vllm.serving.engine import VLLMEngine
from workers.engines import replica as module
from workers.engines.clients import EngineClient, EngineView, ReplicaRef
from workers.engines.replica import ModelReplica, ReplicaStatus
from workers.processes.channel import connect

SPEC = EngineSpec("m", "tiny", "generate", {"model": "m"}, 8, 600.0, 1, 1, engine=VLLMEngine)


class Engine:
    """What `VLLMEngine` is to a replica; the words of a request say what becomes of it."""

    def __init__(self, on_death: Callable[[str], None]) -> None:
        self.on_death = on_death
        self.pulse = Watchdog()

    async def generate(self, request: Request) -> Completion:
        words = request.messages_json
        if words == "death":
            raise EngineStopped("the engine's process has ended")
        if words == "hang":
            self.on_death("the engine hangs")
            await asyncio.Event().wait()
        if words == "wait":
            await asyncio.Event().wait()
        if words == "fault":
            raise KeyError("a fault of vLLM")
        if words == "long":
            raise ContextOverflow("too long")
        if words == "busy":
            raise EngineOverloaded("busy", retry_after=2.0)
        self.pulse.served(3, 2)
        return reply_to(words)

    async def embed(self, request: EmbedRequest) -> Vector:
        return Vector(request.text.encode(), 1)

    def fingerprint(self) -> dict[str, Any]:
        return {"gpu": "none"}


class Host:
    """A replica in this process; `ended` is set where its process would end."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ended = asyncio.Event()
        self.fails: list[Exception] = []
        for name in ("end_with_parent", "log_to", "redirect"):
            monkeypatch.setattr(module, name, lambda *_: None)
        monkeypatch.setattr(module, "own_host", lambda: "127.0.0.1")
        monkeypatch.setattr(module, "end_now", self.ended.set)
        monkeypatch.setattr(VLLMEngine, "prepare_process", lambda *_, **__: None)
        monkeypatch.setattr(VLLMEngine, "start", self._start)
        (folder / "r-engine.log").touch()
        self.replica = ModelReplica(SPEC, "r", folder, None)
        self.client = EngineClient("tiny", 64, connect)

    async def _start(self, spec: EngineSpec, on_death: Callable[[str], None]) -> Engine:
        assert spec is SPEC
        if self.fails:
            raise self.fails.pop()
        return Engine(on_death)

    async def up(self) -> ReplicaStatus:
        """Waits until it is ready, and connects the client."""
        status = await self.replica.hello("loading", LAST_GUARD_SECONDS)
        assert status.state == "ready"
        self.client.update(
            EngineView((ReplicaRef(0, status.incarnation, status.address, status.fingerprint),))
        )
        return status

    async def ask(self, words: str) -> Any:
        return await self.client.ask("r", request(words))


@pytest.fixture
def hosted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Runs a test of a `Host` on an event loop."""

    def call(test: Callable[[Host], Awaitable[None]]) -> None:
        async def go() -> None:
            host = Host(tmp_path, monkeypatch)
            async with asyncio.timeout(LAST_GUARD_SECONDS):
                await test(host)
                await host.client.close()

        asyncio.run(go())

    return call


def test_replies_bear_the_fingerprint_and_are_counted(hosted: Any) -> None:
    async def test(host: Host) -> None:
        status = await host.up()
        assert status.details == {"gpu": "none"}
        assert await host.ask("a") == reply_to("a")._replace(fingerprint=status.fingerprint)
        assert await host.client.ask("r", EmbedRequest("b")) == Vector(b"b", 1)
        assert await host.replica.counts() == Counts(prompt_tokens=3, output_tokens=2)
        assert (await host.replica.hello(None, 0)).replied == 2

    hosted(test)


def test_an_error_of_a_request_is_the_calls_own_and_the_replica_lives_on(hosted: Any) -> None:
    async def test(host: Host) -> None:
        await host.up()
        with pytest.raises(ContextOverflow, match="too long"):
            await host.ask("long")
        with pytest.raises(EngineOverloaded) as busy:
            await host.ask("busy")
        assert busy.value.retry_after == 2.0
        with pytest.raises(EngineRefused, match="tiny: KeyError: 'a fault of vLLM'"):
            await host.ask("fault")
        assert (await host.ask("a")).text == "re: a"
        assert not host.ended.is_set()

    hosted(test)


@pytest.mark.parametrize(
    ("words", "cause"), [("death", "process has ended"), ("hang", "the engine hangs")]
)
def test_an_engine_that_dies_or_hangs_ends_its_process_and_fails_all_calls_with_the_cause(
    hosted: Any, words: str, cause: str
) -> None:
    async def test(host: Host) -> None:
        await host.up()
        others = [asyncio.create_task(host.ask("wait")) for _ in range(3)]
        await asyncio.sleep(0)
        asked = [asyncio.create_task(host.ask(words)), *others]
        for each in asked:
            with pytest.raises(ReplicaLost, match=f"a replica of tiny was lost: .*{cause}"):
                await each
        status = await host.replica.hello("ready", LAST_GUARD_SECONDS)
        assert status.state == "dying"
        assert cause in status.cause
        await host.ended.wait()

    hosted(test)


def test_a_model_that_cannot_load_is_no_death_and_says_why(hosted: Any) -> None:
    async def test(host: Host) -> None:
        host.fails = [ValueError("no such model")]
        status = await host.replica.hello("loading", LAST_GUARD_SECONDS)
        assert (status.state, status.cause) == ("failed", "ValueError: no such model")
        assert status.address is None
        assert not host.ended.is_set()

    hosted(test)


def test_memory_that_another_engine_still_holds_is_waited_for(
    hosted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MEMORY_AGAIN_SECONDS", 0.01)

    async def test(host: Host) -> None:
        host.fails = [ValueError("Free memory on device (1/8 GiB) is less than desired")]
        assert (await host.up()).state == "ready"

    hosted(test)
