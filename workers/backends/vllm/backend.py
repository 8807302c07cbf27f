"""The backend `vllm`: open models on our own engines, for any role."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from agents.core.calls import Call, Completion, Embedded
from agents.core.errors import EngineRefused
from sweeps.models import Use
from workers.backends.core.backend import BackendContext, EngineSpec, Workload
from workers.backends.core.engines import Request
from workers.backends.core.hosted import HostedBackend
from workers.backends.vllm.model.arguments import installed_version
from workers.backends.vllm.model.options import VLLMOptions
from workers.backends.vllm.model.preflight import auto_dtype, check_model
from workers.backends.vllm.serving.engine import VLLMEngine


class VLLMBackend(HostedBackend):
    """Sends calls to the replicas of one engine. `output_tokens` includes thinking."""

    Options = VLLMOptions
    version = 2  # 2: fields in the schema's order, no whitespace between JSON tokens

    @classmethod
    def is_greedy(cls, options: Any) -> bool:
        return options.sampling.temperature == 0

    def __init__(self, options: VLLMOptions, context: BackendContext) -> None:
        super().__init__(options, context, options.max_inflight)
        self.guided = options.guided == "json_schema"
        self.greedy = self.is_greedy(options)
        self._sampling = json.dumps(options.sampling.for_engine(), sort_keys=True)
        self._thinking_end = options.thinking.end if options.thinking else ""

    @classmethod
    def uses(cls, options: VLLMOptions) -> frozenset[Use]:
        return frozenset(("embed" if options.kind == "embed" else "complete",))

    @classmethod
    def engine(cls, options: VLLMOptions, label: str, cpu: bool) -> EngineSpec:
        """The engine that serves these options; `cpu` means that there is no GPU."""
        return EngineSpec(
            key=options.engine_key(),
            label=label,
            engine=VLLMEngine,
            kind=options.kind,
            weights=options.weights().identity(),
            arguments=options.engine_arguments(cpu=cpu),
            max_inflight=options.max_inflight,
            start_timeout=options.start_timeout,
            replicas=1 if options.replicas == "auto" else options.replicas,
            elastic=options.replicas == "auto",
            gpus=options.gpus,
            notes=(auto_dtype(options),) if cpu and options.dtype == "auto" else (),
        )

    @classmethod
    def engine_version(cls) -> str:
        return installed_version() or ""

    async def complete(self, call: Call) -> Completion:
        self._must_be("generate")
        schema = call.step.schema_json if self.guided else ""
        sampling = self._sampling
        if call.temperature is not None:
            own = {**self._options.sampling.for_engine(), "temperature": call.temperature}
            sampling = json.dumps(own, sort_keys=True)
        request = Request(call.messages_json, schema, call.seed, sampling, self._thinking_end)
        # All calls of one user and seed go to the same replica, whose cache holds their prefixes.
        return await self._client.ask(f"{call.sampling}/{call.scope}", request)

    async def embed(self, texts: Sequence[str]) -> Embedded:
        self._must_be("embed")
        return await super().embed(texts)

    async def check(self, work: Workload) -> str:
        return "; ".join(check_model(self._options, work.prompts, work.schemas, work.gpu_memory))

    def _must_be(self, kind: str) -> None:
        if self._options.kind != kind:
            raise EngineRefused(
                f"{self._label}: a model with `kind: {self._options.kind}` cannot {kind}"
            )
