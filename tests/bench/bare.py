"""Bare AsyncLLM serving recorded requests: the baseline of `tests.bench.vllm_throughput`.

    python -m tests.bench.bare REQUESTS.json

No Ray, no storage, no dialogues. It keeps as many requests in flight as the file says, and starts
the next as soon as one ends. Like crsweep, it applies the chat template and makes the sampling
parameters.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

from tests.bench.cpu import CpuClock
from workers.backends.vllm.serving.engine import clean_environment


async def main(given: dict[str, Any]) -> dict[str, float]:
    clean_environment(True, given["threads"])
    from vllm import AsyncEngineArgs, SamplingParams
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams
    from vllm.v1.engine.async_llm import AsyncLLM

    llm = AsyncLLM.from_engine_args(AsyncEngineArgs(**given["arguments"], disable_log_stats=True))
    tokenizer = llm.get_tokenizer()
    work = []
    for request in given["requests"]:
        params = SamplingParams(
            **given["sampling"],
            seed=request["seed"],
            output_kind=RequestOutputKind.FINAL_ONLY,
            structured_outputs=StructuredOutputsParams(json=request["schema"]),
        )
        work.append((request["messages"], params))

    tokens = 0
    ends: list[float] = []

    async def one(number: int, messages: Any, params: Any) -> None:
        nonlocal tokens
        prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        async for output in llm.generate(prompt, params, str(number)):
            tokens += len(output.outputs[0].token_ids) + len(output.prompt_token_ids)
        ends.append(time.time())

    params = work[0][1].clone()
    params.max_tokens = 4
    await one(-1, [{"role": "user", "content": "warm up"}], params)
    tokens = 0
    ends.clear()
    left = iter(enumerate(work))

    async def slot() -> None:
        for number, (messages, params) in left:
            await one(number, messages, params)

    with CpuClock() as clock:
        await asyncio.gather(*(slot() for _ in range(given["concurrency"])))
    llm.shutdown()
    seconds = ends[-1] - ends[0]  # from the first answer on, as in `vllm_throughput`
    cpu = clock.between(ends[0], ends[-1])
    return {
        "requests_per_s": len(work) / seconds,
        "tokens_per_s": tokens / seconds,
        "cpu_ms_per_call": sum(cpu.values()) / len(work) * 1000,
        "cpu_ms_by_process": {k: v / len(work) * 1000 for k, v in cpu.items()},
        "seconds": seconds,
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(json.loads(Path(sys.argv[1]).read_text())))))
