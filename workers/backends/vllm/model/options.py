"""Options of the backend `vllm`: what a model of a sweep file says, and the engine it asks for.

- What can change an answer is identity; how many replicas there are, on how many GPUs and with how
  many requests at once is not.
- Two models that differ only in sampling share one engine: they have the same `engine_key`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from agents.core.paths import expand_users_in
from agents.core.plugins import Options, operational
from sweeps.identity import digest
from workers.backends.core import weights
from workers.backends.core.weights import Resolved
from workers.backends.vllm.model import arguments
from workers.backends.vllm.model.cpu import CpuDtype, cpu_dtype

GUIDED_BACKEND = "guidance"
"""The library that constrains replies to their schema.

With vLLM's own choice (`auto`), the first request that an engine sees determines the library for
all later ones. xgrammar ignores the length bounds of a string with a pattern, as ours have, so
replies might not end, depending on which step came first. (Another library changes answers: raise
the backend's `version` with it.)
"""
COMPACT = ("guidance", "xgrammar")
"""Libraries that can leave out whitespace between JSON tokens, which they then do by default.

A model may write as much of it as it likes, and small models do: it was up to 77 % of the
characters of long lists. (Another default changes answers: raise the backend's `version` with it.)
"""
GPU_SHARE = 0.9
"""The part of a GPU's memory, or of a replica's fraction of it, that vLLM may use."""


class VLLMSampling(Options):
    """Sampling options; a temperature of 0 takes the most likely token. The seed comes with each
    call.

    The recommendations in a checkpoint's generation_config.json are not used: options that are not
    given have the defaults of this class.
    """

    temperature: Annotated[float, Field(ge=0, le=2)] = 0.7
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    top_k: Annotated[int, Field(ge=0)] = 0
    """0: all tokens."""
    min_p: Annotated[float, Field(ge=0, le=1)] = 0.0
    repetition_penalty: Annotated[float, Field(gt=0, le=2)] = 1.0
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    max_tokens: Annotated[int, Field(ge=1)] = 512

    def for_engine(self) -> dict[str, Any]:
        """Keyword arguments of vLLM's SamplingParams, every one of them."""
        return self.model_dump()


class Thinking(Options):
    """The markers around a reasoning model's thoughts."""

    start: Annotated[str, Field(min_length=1)] = "<think>"
    end: Annotated[str, Field(min_length=1)] = "</think>"


def _number_or_auto(value: Any) -> Any:
    if value == "auto" or (type(value) is int and value >= 1):
        return value
    raise ValueError(f"expected auto, or a whole number of at least 1, found {value!r}")


class VLLMOptions(Options):
    """Checked when a sweep is planned, so that mistakes are found before anything starts."""

    model: Annotated[str, Field(min_length=1)]
    """A folder with a checkpoint, or a Hugging Face Hub id."""
    revision: Annotated[str, Field(min_length=1)] = "main"
    """Branch, tag or commit on the Hub. The resolved commit is what counts."""
    kind: Literal["generate", "embed"] = "generate"
    dtype: Literal["auto", "float16", "bfloat16", "float32"] = "auto"
    """`auto`: as in the checkpoint; on a CPU, the dtype that it computes fast (`cpu_dtype`)."""
    quantization: str | None = None
    max_model_len: Annotated[int, Field(ge=1)] | None = None
    """Tokens of prompt and reply together; by default the model's own context."""
    sampling: VLLMSampling = VLLMSampling()
    guided: Literal["json_schema", "none"] = "json_schema"
    """`none`: the reply is free text and parsed afterwards, as reasoning models need it."""
    thinking: Thinking | None = None
    engine: Annotated[dict[str, Any], Field(default_factory=dict)]
    """Further arguments of vLLM's AsyncEngineArgs."""
    replicas: Annotated[
        Annotated[int, Field(ge=1)] | Literal["auto"], BeforeValidator(_number_or_auto)
    ] = operational(1)
    """Engines that share the calls. `auto`: as many as there are GPUs for, including nodes that
    join during the run."""
    tensor_parallel: int = operational(1, ge=1)
    """GPUs per replica."""
    gpus_per_replica: float | None = operational(None, ge=0.001)
    """By default `tensor_parallel`; a fraction lets small models share a GPU."""
    max_inflight: int = operational(256, ge=1)
    """Requests that one replica processes at once."""
    start_timeout: float = operational(600.0, gt=0)
    """Seconds for an engine to load."""

    @field_validator("engine")
    @classmethod
    def _are_arguments(cls, given: dict[str, Any]) -> dict[str, Any]:
        arguments.check(given)
        structured = given.get("structured_outputs_config", {})
        if not isinstance(structured, dict):
            raise ValueError("structured_outputs_config: expected a mapping")
        if structured.get("backend") == "auto":
            raise ValueError(
                "structured_outputs_config: with 'auto', vLLM picks one backend for all steps by "
                f"the first; name one ({GUIDED_BACKEND!r} is the default here)"
            )
        return expand_users_in(given)

    @model_validator(mode="after")
    def _fits_together(self) -> VLLMOptions:
        gpus, parallel = self.gpus_per_replica, self.tensor_parallel
        if gpus is not None and gpus != parallel and (gpus >= 1 or parallel > 1):
            raise ValueError(
                f"gpus_per_replica must be tensor_parallel ({parallel}), or a fraction below 1 of "
                f"one GPU, found {gpus:g}"
            )
        if self.thinking is not None and self.guided != "none":
            raise ValueError("thinking needs `guided: none`: a guided reply has no room for it")
        if self.kind == "embed":
            idle = sorted({"sampling", "guided", "thinking"} & self.model_fields_set)
            if idle:
                raise ValueError(f"{idle[0]} cannot be combined with `kind: embed`")
        elif self.max_model_len is not None and self.sampling.max_tokens >= self.max_model_len:
            raise ValueError(
                f"sampling.max_tokens ({self.sampling.max_tokens}) leaves no room for a prompt in "
                f"max_model_len ({self.max_model_len})"
            )
        return self

    @property
    def gpus(self) -> float:
        """GPUs that one replica takes."""
        gpus = self.gpus_per_replica
        return float(self.tensor_parallel if gpus is None else gpus)

    @property
    def guided_backend(self) -> str:
        """The library that holds replies to their schema."""
        return self.engine.get("structured_outputs_config", {}).get("backend", GUIDED_BACKEND)

    def weights(self) -> Resolved:
        """The weights that `model` and `revision` resolve to. Raises UsageError if
        there are none."""
        return weights.resolve(self.model, self.revision)

    def tokenizer(self) -> Resolved:
        """Where the tokenizer comes from: from the weights, unless `engine` names another."""
        other = self.engine.get("tokenizer")
        if other is None:
            return self.weights()
        revision = self.engine.get("tokenizer_revision") or "main"
        return weights.resolve(str(other), revision, file="")

    def identity(self) -> dict[str, Any]:
        """Options that can change an outcome, with the weights in place of `model` and
        `revision`."""
        found = super().identity()
        for name in ("model", "revision", "engine"):
            found.pop(name, None)
        engine = arguments.identity(self.engine)
        if "tokenizer" in engine:
            engine.pop("tokenizer_revision", None)
            engine["tokenizer"] = self.tokenizer().identity()
        if engine:
            found["engine"] = engine
        return {"weights": self.weights().identity(), **found}

    def engine_arguments(self, cpu: bool = False) -> dict[str, Any]:
        """All arguments of AsyncEngineArgs; `cpu` where the engine has no GPU."""
        model = self.weights()
        chosen: dict[str, Any] = {
            "model": model.name,
            "revision": model.revision,
            "runner": "pooling" if self.kind == "embed" else "generate",
            "dtype": self.dtype,
            "quantization": self.quantization,
            "max_model_len": self.max_model_len,
            "tensor_parallel_size": self.tensor_parallel,
            "max_num_seqs": self.max_inflight,
        }
        if self.gpus < 1:
            chosen["gpu_memory_utilization"] = round(GPU_SHARE * self.gpus, 4)
        if self.tensor_parallel > 1:
            # Inside a Ray actor vLLM would ask Ray for more actors, whose GPUs this one holds.
            chosen["distributed_executor_backend"] = "mp"
        given = {name: value for name, value in chosen.items() if value is not None} | self.engine
        if self.kind == "generate":
            compact = {"disable_any_whitespace": True} if self.guided_backend in COMPACT else {}
            structured = self.engine.get("structured_outputs_config", {})
            given["structured_outputs_config"] = {
                "backend": GUIDED_BACKEND,
                **compact,
                **structured,
            }
        if "tokenizer" in self.engine:
            found = self.tokenizer()
            given |= {"tokenizer": found.name, "tokenizer_revision": found.revision}
        if not cpu:
            return given
        return _for_cpu({**given, "dtype": self.cpu_dtype().name})

    def cpu_dtype(self) -> CpuDtype:
        """What an engine on this machine's CPU computes with.

        It depends on hardware, so the declared model has `auto`, and the fingerprint has the
        resolved dtype.
        """
        if self.dtype != "auto":
            return CpuDtype(self.dtype, "as `dtype` says")
        if self.quantization is not None or self.weights().quantised:
            return CpuDtype("bfloat16", "the weights are quantised")  # their kernels ask for it
        return cpu_dtype()

    def engine_key(self) -> str:
        """Digest of all that decides the engine. Models with one key share its replicas."""
        return digest(
            {
                "kind": self.kind,
                "weights": self.weights().identity(),
                "gpus": self.gpus,
                "arguments": self.engine_arguments(),
            }
        )


def _for_cpu(given: dict[str, Any]) -> dict[str, Any]:
    """`given`, as vLLM's engine for CPUs survives it."""
    changed = {"enforce_eager": True, **given}
    # A seeded prompt that is split over two steps rewinds its generator, which kills the engine.
    changed["enable_chunked_prefill"] = False
    tokens = changed.pop("max_num_batched_tokens", None)
    length = changed.get("max_model_len")
    if tokens is not None and length is not None:
        changed["max_num_batched_tokens"] = max(tokens, length)
    # Otherwise vLLM itself takes at least the whole context, without chunked prefill.
    return changed
