"""Engines in the driver's own process: started once, and started again after a death."""

import asyncio

import pytest

from agents.core.calls import Completion
from agents.core.errors import EngineRefused, ReplicaLost
from tests import virtual_time
from workers.backends.core.backend import EngineSpec
from workers.backends.core.engines import EmbedRequest, EngineStopped, Request, Vector
from workers.engines import local


class FakeEngine:
    """Serves after a second; `start` takes ten."""

    made: list["FakeEngine"]
    broken: Exception | None

    def __init__(self, on_death):
        self.on_death, self.closed, self.running, self.peak = on_death, 0, 0, 0

    @staticmethod
    def without_gpu():
        return True

    @staticmethod
    def prepare_process(offline, *, cpu, cores=None):
        assert (offline, cpu, cores) == (False, True, None)

    @classmethod
    async def start(cls, spec, on_death):
        await asyncio.sleep(10)
        if cls.broken is not None:
            raise cls.broken
        cls.made.append(cls(on_death))
        return cls.made[-1]

    def fingerprint(self):
        return {"device": "fake"}

    async def generate(self, request):
        self.running += 1
        self.peak = max(self.peak, self.running)
        await (asyncio.sleep(1) if request.messages_json != "forever" else asyncio.Event().wait())
        self.running -= 1
        if request.messages_json == "broken off":
            raise EngineStopped("the engine aborted a request")
        return Completion("hi", "stop", 1, 1)

    async def embed(self, request):
        return Vector(b"", 1)

    def close(self):
        self.closed += 1


@pytest.fixture
def engines(monkeypatch, tmp_path):
    (tmp_path / "engine.log").touch()
    # The real one takes over the output of this process for good.
    monkeypatch.setattr(local.LocalEngines, "_output", lambda self: tmp_path / "engine.log")
    FakeEngine.made, FakeEngine.broken = [], None
    monkeypatch.setattr(local, "time", virtual_time.TIME)
    return FakeEngine.made


def client_of(max_inflight=4, start_timeout=60.0):
    spec = EngineSpec(
        "m",
        "tiny",
        "generate",
        {"model": "/m"},
        max_inflight,
        start_timeout,
        1,
        1,
        engine=FakeEngine,
    )
    return local.LocalEngines().of("m", "tiny", max_inflight, lambda cpu: spec)


def request(words="hello"):
    return Request(words, "", 1, "{}", "")


def test_the_engine_starts_once_for_all_who_ask_and_takes_no_more_than_its_slots(engines):
    async def main():
        client = client_of(3)
        found = await asyncio.gather(*(client.ask("r", request()) for _ in range(10)))
        assert {one.text for one in found} == {"hi"}
        assert all(one.fingerprint for one in found)
        assert isinstance(await client.ask("r", EmbedRequest("x")), Vector)
        assert (len(engines), engines[0].peak) == (1, 3)

    virtual_time.run(main())


def test_since_when_an_engine_is_up_is_known_also_after_a_death(engines):
    async def main():
        client = client_of(1)
        assert client.up_since == 0
        await asyncio.gather(client.ask("r", request()), client.ask("r", EmbedRequest("x")))
        assert client.up_since == 10
        engines[0].on_death("x")
        began = asyncio.get_running_loop().time()
        await client.ask("r", request())
        assert client.up_since == began + 10

    virtual_time.run(main())


def test_a_caller_that_gives_up_does_not_stop_the_loading_for_others(engines):
    async def main():
        client = client_of()
        first = asyncio.create_task(client.ask("r", request()))
        second = asyncio.create_task(client.ask("r", request()))
        await asyncio.sleep(5)
        first.cancel()
        assert (await second).text == "hi"
        assert len(engines) == 1

    virtual_time.run(main())


def test_a_hung_engine_lets_go_of_its_calls_and_another_takes_its_place(engines):
    async def main():
        client = client_of()
        hung = [asyncio.create_task(client.ask("r", request("forever"))) for _ in range(3)]
        await asyncio.sleep(30)
        engines[0].on_death("it hangs")  # vLLM says nothing to its callers
        for task in hung:
            with pytest.raises(ReplicaLost, match="tiny: it hangs"):
                await task
        assert engines[0].closed == 1
        assert (client.losses.calls, client.losses.seconds) == (3, pytest.approx(60))
        assert (await client.ask("r", request())).text == "hi"
        assert len(engines) == 2

    virtual_time.run(main())


def test_an_engine_that_dies_three_times_without_a_reply_is_given_up(engines):
    async def main():
        client = client_of()
        for number in range(3):
            task = asyncio.create_task(client.ask("r", request("forever")))
            await asyncio.sleep(11)
            engines[number].on_death("no memory")
            with pytest.raises(ReplicaLost):
                await task
        with pytest.raises(EngineRefused, match="died 3 times without one reply: no memory"):
            await client.ask("r", request())
        assert len(engines) == 3

    virtual_time.run(main())


def test_a_reply_in_between_gives_it_another_chance(engines):
    async def main():
        client = client_of()
        for number in range(6):
            await client.ask("r", request())
            engines[number].on_death("x")
        await client.ask("r", request())

    virtual_time.run(main())


def test_a_request_that_is_broken_off_is_a_loss_and_frees_its_slot(engines):
    async def main():
        client = client_of(1)
        with pytest.raises(ReplicaLost, match="aborted a request"):
            await client.ask("r", request("broken off"))
        assert (await client.ask("r", request())).text == "hi"

    virtual_time.run(main())


@pytest.mark.parametrize(("broken", "limit", "words"), [
    (OSError("no such file"), 60, "the model cannot be served: OSError: no such file"),
    (None, 5, "it was not ready within 5 s"),
])  # fmt: skip
def test_a_model_that_does_not_start_is_refused_and_not_tried_again(engines, broken, limit, words):
    async def main():
        FakeEngine.broken = broken
        client = client_of(start_timeout=limit)
        tasks = [asyncio.create_task(client.ask("r", request())) for _ in range(3)]
        for task in tasks:
            with pytest.raises(EngineRefused, match=words):
                await task
        FakeEngine.broken = None
        with pytest.raises(EngineRefused, match=words):
            await client.ask("r", request())
        assert asyncio.get_running_loop().time() <= 10

    virtual_time.run(main())


def test_closing_ends_the_engine_once(engines):
    async def main():
        found = local.LocalEngines()
        await found.close()
        spec = EngineSpec("m", "tiny", "generate", {"model": "/m"}, 4, 60, 1, 1, engine=FakeEngine)
        client = found.of("m", "tiny", 4, lambda cpu: spec)
        assert found.of("m", "tiny", 4, lambda cpu: spec) is client
        await client.ask("r", request())
        await found.close()
        await found.close()
        assert engines[0].closed == 1

    virtual_time.run(main())
