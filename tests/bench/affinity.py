"""How much routing by (seed, case) saves: two real engines, multi-turn dialogues.

    python -m tests.bench.affinity --dialogues 96

The same dialogues run twice through `EngineClient`: once routed as in a sweep, once at random.
Every prompt repeats the conversation so far, so the replica that served the last turn has most of
the next prompt in its KV cache. Prints the prefix-cache hit rates, and the ratio of the times
(random / as in a sweep): the median of 5 pairs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from agents.core.calls import Completion
from tests import tiny_models
from tests.bench.ending import AtLeast, ending
from workers.backends.core.backend import EngineSpec
from workers.backends.core.engines import EmbedRequest, Request
from workers.backends.vllm.backend import VLLMBackend
from workers.backends.vllm.model.options import VLLMOptions
from workers.backends.vllm.serving.engine import VLLMEngine, clean_environment
from workers.engines.clients import EngineClient, EngineView, ReplicaRef
from workers.engines.transport import Clients, ReplicaAnswer
from workers.processes.channel import Server, connect

LIMIT = 1.0  # by chance it must not be faster
TURNS = 8
AT_ONCE = 48
_OPENING = "You recommend films. The user says what they like, and you answer in a few words. "
_SAYS = "I liked the last one, but I would rather see something slower, with fewer people in it. "


class Replica(NamedTuple):
    """An engine in this process, and the address at which clients reach it."""

    engine: VLLMEngine
    server: Server

    @classmethod
    async def start(cls, spec: EngineSpec) -> Replica:
        engine = await VLLMEngine.start(spec, print)

        async def answer(request: Request | EmbedRequest) -> ReplicaAnswer:
            assert isinstance(request, Request)
            return await engine.generate(request)

        return cls(engine, await Server.start("127.0.0.1", Clients(answer).accept))

    def close(self) -> None:
        self.server.close()
        self.engine.close()


async def play(
    replicas: list[Replica], dialogues: int, *, affinity: bool
) -> tuple[float, float, int]:
    """(prefix-cache hit rate, seconds, calls) of all dialogues, starting with empty caches."""
    client = EngineClient("tiny", AT_ONCE, connect)
    client.update(
        EngineView(tuple(ReplicaRef(i, str(i), r.server.address) for i, r in enumerate(replicas)))
    )
    rng = random.Random(0)
    before = []
    for replica in replicas:
        await replica.engine.reset_prefix_cache()
        before.append(replica.engine.pulse.counts)
    slots = asyncio.Semaphore(AT_ONCE)

    async def dialogue(number: int) -> None:
        async with slots:
            said = f"User {number}. {_OPENING}"
            for turn in range(TURNS):
                said += 3 * _SAYS
                route = f"0/{number}" if affinity else str(rng.random())
                request = Request(
                    json.dumps([{"role": "user", "content": said}]),
                    "",
                    number * TURNS + turn,
                    '{"max_tokens":24,"ignore_eos":true,"temperature":0.7}',
                    "",
                )
                reply = await client.ask(route, request)
                assert isinstance(reply, Completion)
                said += reply.text + " "

    started = time.perf_counter()
    await asyncio.gather(*map(dialogue, range(dialogues)))
    seconds = time.perf_counter() - started
    after = [replica.engine.pulse.counts for replica in replicas]
    hits = sum(b.prefix_hits - a.prefix_hits for a, b in zip(before, after, strict=True))
    asked = sum(b.prefix_queries - a.prefix_queries for a, b in zip(before, after, strict=True))
    await client.close()
    return hits / asked, seconds, dialogues * TURNS


async def compare(dialogues: int, rounds: int) -> str:
    with tempfile.TemporaryDirectory() as folder:
        options = VLLMOptions(
            model=str(tiny_models.make(Path(folder), "llama")),
            max_model_len=4096,
            max_inflight=AT_ONCE,
        )
        spec = VLLMBackend.engine(options, "tiny", True)
        assert spec is not None
        replicas = [await Replica.start(spec) for _ in range(2)]
        found: dict[bool, list[tuple[float, float, int]]] = {True: [], False: []}
        try:
            await play(replicas, 8, affinity=True)  # kernels, caches of prompts
            for _ in range(rounds):
                for affinity in (True, False):
                    found[affinity].append(await play(replicas, dialogues, affinity=affinity))
        finally:  # with an engine left this process would not end
            for replica in replicas:
                replica.close()
    ratios = [b[1] / a[1] for a, b in zip(found[True], found[False], strict=True)]
    return ending(
        "affinity",
        {"ratio": AtLeast(round(statistics.median(ratios), 2), LIMIT)},
        dialogues=dialogues,
        turns=TURNS,
        calls=found[True][0][2],
        hit_rate_affinity=round(found[True][0][0], 3),
        hit_rate_random=round(found[False][0][0], 3),
        seconds_affinity=[round(one[1], 2) for one in found[True]],
        seconds_random=[round(one[1], 2) for one in found[False]],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dialogues", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    clean_environment(True, 1)
    print(asyncio.run(compare(given.dialogues, given.rounds)))


if __name__ == "__main__":
    main()
