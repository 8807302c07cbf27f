"""One vLLM engine in this process: requests in, completions out, with liveness checks.

Independent of Ray. An actor (`replica`) or the process of a local run owns one.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Callable, Sequence
from copy import copy
from functools import lru_cache
from typing import Any

from agents.core.calls import Completion, FinishReason
from agents.core.errors import ContextOverflow, EngineRefused
from workers.backends.core.backend import EngineSpec
from workers.backends.core.engines import EmbedRequest, EngineStopped, Request, Vector
from workers.backends.core.watchdog import LOOK_EVERY, Watchdog
from workers.backends.vllm.serving.sockets import own_sockets

log = logging.getLogger(__name__)

_WARM_UP_TOKENS = 256
_PROBE_AFTER = 30.0  # seconds without work after which a tiny generation asks whether it lives
_PROMPTS_KEPT = 512  # token ids of recent prompts: draws of one step share theirs
_NOT_INHERITED = ("VLLM_PORT", "MASTER_ADDR", "MASTER_PORT", "RANK", "LOCAL_RANK", "WORLD_SIZE")
_FINISHED: dict[str, FinishReason] = {"stop": "stop", "length": "length"}


class VLLMEngine:
    """An AsyncLLM, created by `start`. `on_death` is called once, with the cause."""

    def __init__(
        self, llm: Any, spec: EngineSpec, pulse: Watchdog, on_death: Callable[[str], None]
    ) -> None:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

        self._llm, self._spec = llm, spec
        self._on_death = on_death
        self._dead = False
        self._count = 0
        self.pulse = pulse
        self.context: int = llm.model_config.max_model_len
        self._tokenizer: Any = llm.get_tokenizer()
        self._encode = _encoder(self._tokenizer)
        self._structured = StructuredOutputsParams

        @lru_cache(maxsize=64)
        def sampling(text: str) -> Any:
            return SamplingParams(output_kind=RequestOutputKind.FINAL_ONLY, **json.loads(text))

        self._sampling = sampling
        self._prompt = lru_cache(maxsize=_PROMPTS_KEPT)(self._chat_ids)
        self._watch: asyncio.Task[None] | None = None

    @staticmethod
    def without_gpu() -> bool:
        from vllm.platforms import current_platform

        return current_platform.is_cpu()

    @staticmethod
    def prepare_process(offline: bool, *, cpu: bool, cores: int | None = None) -> None:
        clean_environment(offline, (cores or 1) if cpu else None)

    @classmethod
    async def start(cls, spec: EngineSpec, on_death: Callable[[str], None]) -> VLLMEngine:
        """Loads the model and generates a few tokens with it. Raises what vLLM raises."""
        from vllm import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        pulse = Watchdog()
        arguments = AsyncEngineArgs(**spec.arguments)
        loop = asyncio.get_running_loop()
        # In a thread, because loading takes minutes, and the owner must stay responsive.
        config = await asyncio.to_thread(arguments.create_engine_config)
        pulse.most_tokens = config.scheduler_config.max_num_batched_tokens

        def make() -> Any:
            from vllm.v1.executor import Executor

            return AsyncLLM(
                vllm_config=config,
                executor_class=Executor.get_class(config),
                log_stats=False,
                log_requests=False,
                stat_loggers=[pulse.logger],
            )

        with own_sockets():
            llm = await loop.run_in_executor(None, make)
            # Statistics for every token cost a tenth of this process's time. The scheduler's own,
            # which the watchdog needs, stay on.
            llm.log_stats = False
            _count_preemptions(llm.output_processor, pulse)
            engine = cls(llm, spec, pulse, on_death)
            try:
                await engine._warm_up()
            except BaseException:
                engine.close()
                raise
        engine._watch = asyncio.create_task(engine._keep_watch())
        return engine

    async def generate(self, request: Request) -> Completion:
        """One completion. Raises ContextOverflow, EngineRefused, and EngineStopped."""
        ids = self._prompt(request.messages_json)
        params = copy(self._sampling(request.sampling_json))  # vLLM makes its own deep copy
        longest = params.max_tokens
        if len(ids) + longest > self.context:
            raise ContextOverflow(
                f"a prompt of {len(ids):,} tokens and a reply of up to {longest:,} do not fit the "
                f"context of {self.context:,} tokens of {self._spec.label}"
            )
        params.seed = request.seed
        if request.schema_json:
            params.structured_outputs = self._structured(json=request.schema_json)
        done = self._completion(await self._run(ids, params), request.thinking_end)
        self.pulse.served(len(ids), done.output_tokens or 0)
        return done

    async def embed(self, request: EmbedRequest) -> Vector:
        """The embedding of one text, pooled as the model's files specify."""
        from vllm import PoolingParams

        ids = self._tokenizer.encode(request.text)
        if len(ids) > self.context:
            raise ContextOverflow(
                f"a text of {len(ids):,} tokens does not fit the context of {self.context:,} "
                f"tokens of {self._spec.label}"
            )
        output = await self._run(ids, PoolingParams(task="embed"))
        data = output.outputs.data.float().cpu().numpy().tobytes()
        self.pulse.served(len(ids), 0)
        return Vector(data, len(ids))

    def fingerprint(self) -> dict[str, Any]:
        """What served the requests, as far as it can change the last bits of results."""
        import torch
        from vllm import __version__
        from vllm.platforms import current_platform

        config = self._llm.vllm_config
        return {
            "weights": dict(self._spec.weights),
            "vllm": __version__,
            "torch": torch.__version__,
            "device": current_platform.get_device_name(),
            "dtype": str(self._llm.model_config.dtype).removeprefix("torch."),
            "quantization": self._llm.model_config.quantization,
            "context": self.context,
            "tensor_parallel": config.parallel_config.tensor_parallel_size,
            "max_num_seqs": config.scheduler_config.max_num_seqs,
            "max_num_batched_tokens": config.scheduler_config.max_num_batched_tokens,
            "chunked_prefill": config.scheduler_config.enable_chunked_prefill,
            "prefix_caching": config.cache_config.enable_prefix_caching,
            "enforce_eager": self._llm.model_config.enforce_eager,
        }

    async def reset_prefix_cache(self) -> None:
        """Clears the prefix cache (for measurements)."""
        await self._llm.reset_prefix_cache()

    def close(self) -> None:
        """Ends the engine's processes."""
        self._dead = True
        if self._watch is not None:
            self._watch.cancel()
        self._llm.shutdown()

    async def _warm_up(self) -> None:
        """Reads a real prompt and generates real tokens, to measure this machine's speed."""
        length = max(1, min(_WARM_UP_TOKENS, self.context - 8))
        ids = [1 + n % (len(self._tokenizer) - 1) for n in range(length)]
        if self._spec.kind == "embed":
            from vllm import PoolingParams

            await self._run(ids, PoolingParams(task="embed"))
            return
        params = copy(self._sampling('{"temperature":0,"max_tokens":4}'))
        params.seed = 0  # a batch that mixes seeded and unseeded requests loses the seeds
        await self._run(ids, params)

    async def _run(self, ids: list[int], params: Any) -> Any:
        """The engine's last output. Engine errors become EngineStopped, request errors refusals."""
        from vllm.exceptions import VLLMValidationError
        from vllm.v1.engine.exceptions import EngineDeadError

        self._count += 1
        name = str(self._count)
        act = self._llm.encode if self._spec.kind == "embed" else self._llm.generate
        self.pulse.begin(name, len(ids))
        output = None
        try:
            async for each in act({"prompt_token_ids": ids}, params, name):
                output = each
        except EngineDeadError as error:
            self._die("the engine's process has ended")
            raise EngineStopped("the engine's process has ended") from error
        except (VLLMValidationError, ValueError) as error:
            raise EngineRefused(f"{self._spec.label}: vLLM refuses the request: {error}") from error
        finally:
            self.pulse.end(name)
        assert output is not None
        return output

    def _completion(self, output: Any, thinking_end: str) -> Completion:
        choice = output.outputs[0]
        reason = choice.finish_reason
        if reason not in _FINISHED:
            raise EngineStopped(f"the engine aborted a request ({reason})")
        text, thinking, thought = choice.text, None, None
        if thinking_end:
            thinking, text, thought = self._split(choice, thinking_end)
        return Completion(
            text,
            _FINISHED[reason],
            len(output.prompt_token_ids),
            len(choice.token_ids),
            thought,
            thinking=thinking,
        )

    def _split(self, choice: Any, end: str) -> tuple[str | None, str, int]:
        """Splits a reasoning model's output into (thinking, reply, tokens of the thinking)."""
        thinking, found, reply = choice.text.partition(end)
        if found:
            count = len(self._tokenizer.encode(thinking + end, add_special_tokens=False))
            return thinking, reply.lstrip(), min(count, len(choice.token_ids))
        if choice.finish_reason == "length":
            return choice.text, "", len(choice.token_ids)  # it never began its reply
        return None, choice.text, 0

    def _chat_ids(self, messages_json: str) -> list[int]:
        try:
            found = self._tokenizer.apply_chat_template(
                json.loads(messages_json), add_generation_prompt=True, tokenize=False
            )
            return self._encode(found)
        except Exception as error:  # the template is the model's own code
            raise EngineRefused(
                f"{self._spec.label}: its chat template fails: {type(error).__name__}: {error}"
            ) from error

    async def _keep_watch(self) -> None:
        """Returns when the engine is dead, or takes no step within its deadline."""
        while not self._dead:
            await asyncio.sleep(LOOK_EVERY)
            if self._llm.errored:
                self._die("the engine's process has ended")
                return
            stalled = self.pulse.stalled()
            if stalled:
                self._die(stalled)
                return
            if self.pulse.idle_for() > _PROBE_AFTER:
                probe = asyncio.create_task(self._warm_up())
                probe.add_done_callback(_forget)

    def _die(self, cause: str) -> None:
        if not self._dead:
            self._dead = True
            log.error("%s: %s", self._spec.label, cause)
            self._on_death(cause)


def _count_preemptions(processor: Any, pulse: Watchdog) -> None:
    """Counts the pre-emptions mentioned in the engine's outputs.

    vLLM's statistics count them too, but at the cost of those for every token.
    """
    from vllm.v1.engine import EngineCoreEventType

    process = processor.process_outputs

    def counting(outputs: Sequence[Any], *more: Any, **named: Any) -> Any:
        lost = sum(
            event.type == EngineCoreEventType.PREEMPTED
            for output in outputs
            if output.events
            for event in output.events
        )
        if lost:
            pulse.note_preempted(lost)
        return process(outputs, *more, **named)

    processor.process_outputs = counting


def _encoder(tokenizer: Any) -> Callable[[str], list[int]]:
    """Token ids of a rendered chat. Fast tokenizers are called directly, which is twice as fast."""
    fast = getattr(tokenizer, "backend_tokenizer", None)
    if fast is None:
        return lambda text: tokenizer.encode(text, add_special_tokens=False)
    return lambda text: fast.encode(text, add_special_tokens=False).ids


def _forget(task: asyncio.Task[None]) -> None:
    """Ignores the error of a failed probe: it is a death, which the watchdog reports."""
    if not task.cancelled() and task.exception() is not None:
        log.warning("probe: %r", task.exception())


def clean_environment(offline: bool, cpu_share: int | None) -> None:
    """Removes variables that an engine must not inherit, and sets those that it needs.

    Call it before vLLM is imported. `cpu_share` is the number of cores for an engine on the CPU;
    None with a GPU.
    """
    for name in list(os.environ):
        if name.startswith("VLLM_DP_") or name in _NOT_INHERITED:
            del os.environ[name]
    os.environ["VLLM_NO_USAGE_STATS"] = "1"
    if offline:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    if cpu_share is not None:
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
        os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
        # The engine computes in its own process. vLLM would start another one only to set its
        # number of threads, which is set below; that costs 0.7 GB and the imports at each start.
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        os.environ["OMP_NUM_THREADS"] = str(cpu_share)  # Ray has set 1: it knows of no CPU here
