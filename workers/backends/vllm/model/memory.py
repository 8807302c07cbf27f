"""How much GPU memory a model will need."""

from __future__ import annotations

import json
import logging
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents.core.errors import UsageError
from workers.backends.vllm.model.options import GPU_SHARE, VLLMOptions

log = logging.getLogger(__name__)

_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
_HEADER_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
_OVERHEAD = 1.5  # GiB per GPU besides weights and KV cache: context, activations, graphs. A guess.
_GIB = 2**30


@dataclass(frozen=True)
class PromptLengths:
    """Tokens of prompts. `per_token` is the mean number of characters of a token."""

    longest: int
    mean: float
    per_token: float


def is_encoder(config: Any) -> bool:
    """Whether every token of this kind of model sees the whole text, as in BERT."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    return config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES


def memory_line(
    options: VLLMOptions,
    config: Any,
    context: int | None,
    lengths: PromptLengths,
    gpu_memory: float | None,
) -> str:
    """The estimate for one GPU; UsageError if the weights or one full context cannot fit."""
    parallel = options.tensor_parallel
    size = _weight_bytes(options, config)
    if size is None:
        return "memory: unknown, because the weights are not on this machine"
    encoder = options.kind == "embed" and is_encoder(config)
    token = 0.0 if encoder else _cache_bytes(options, config)
    typical = lengths.mean + (options.sampling.max_tokens if options.kind == "generate" else 0)
    line = f"memory: weights {size / parallel / _GIB:,.2f} GiB per GPU"
    if token is None:
        return f"{line}; KV cache unknown for this kind of model"
    line += f", KV cache {token / 1024:,.1f} KiB per token" if token else ", no KV cache"
    if typical and token:
        wanted = token * typical * options.max_inflight / _GIB
        line += f", {wanted:,.2f} GiB for {options.max_inflight} of {typical:,.0f} tokens"
    if gpu_memory is None:
        return line
    default = GPU_SHARE * min(options.gpus, 1.0)
    usable = gpu_memory * float(options.engine.get("gpu_memory_utilization", default))
    room = usable * _GIB - size / parallel - _OVERHEAD * _GIB
    if room <= 0:
        raise UsageError(
            f"model {options.model!r}: weights of {size / parallel / _GIB:,.1f} GiB per GPU and "
            f"about {_OVERHEAD} GiB of overhead do not fit in the {usable:,.1f} GiB that the "
            f"engine may use of {gpu_memory:,.0f}; raise tensor_parallel ({parallel}) or "
            "gpus_per_replica, or use a quantised checkpoint"
        )
    if options.kind == "embed":
        return f"{line}; {room / _GIB:,.1f} GiB left"
    if context is not None and room < token * context:
        raise UsageError(
            f"model {options.model!r}: the KV cache of one full context ({context:,} tokens, "
            f"{token * context / _GIB:,.1f} GiB) does not fit in the {room / _GIB:,.1f} GiB "
            f"that the weights leave; set max_model_len to at most {int(room / token):,}"
        )
    if not typical:
        return f"{line}; room for {int(room / token):,} tokens"
    at_once = int(room / (token * typical))
    waits = ", fewer than max_inflight: the others wait" if at_once < options.max_inflight else ""
    return f"{line}; room for {at_once:,} at once{waits}"


def _weight_bytes(options: VLLMOptions, config: Any) -> float | None:
    """Bytes of all weights as the engine holds them."""
    held = _held_bytes(options, config)
    quantised = bool(options.quantization or getattr(config, "quantization_config", None))
    folder = options.weights().path
    if folder is not None:
        found = [path for path in sorted(folder.glob("*.safetensors")) if path.exists()]
        shards = _shards(folder)
        if found and shards <= {path.name for path in found}:
            # A folder may also have the weights in Mistral's own form; only one form is loaded.
            named = [path for path in found if path.name in shards] or found
            return sum(_header_bytes(path, None if quantised else held) for path in named)
    if quantised:
        return None
    count = _parameters(config)
    return None if count is None else count * held


def _held_bytes(options: VLLMOptions, config: Any) -> int:
    """Bytes of one weight."""
    name = options.dtype
    if name == "auto":
        said = getattr(config, "dtype", None) or getattr(config, "torch_dtype", None)
        name = str(said or "bfloat16").removeprefix("torch.")
        if name == "float32":
            name = "bfloat16"  # what vLLM makes of it unless asked otherwise
    return _BYTES.get(name, 2)


def _shards(folder: Path) -> set[str]:
    """Names of the files that the index of a checkpoint lists."""
    try:
        index = json.loads((folder / "model.safetensors.index.json").read_text("utf-8"))
        return set(index["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return set()


def _header_bytes(path: Path, held: int | None) -> float:
    """Bytes of one safetensors file's tensors, with each float as `held` bytes, if given."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > path.stat().st_size:
                raise ValueError("its header is longer than the file")
            header = json.loads(file.read(length))
        total = 0.0
        end = 0
        for name, tensor in header.items():
            if name == "__metadata__":
                continue
            begin, stop = tensor["data_offsets"]
            end = max(end, stop)
            own = _HEADER_BYTES.get(tensor["dtype"])
            total += (stop - begin) * (held / own if held and own else 1)
        if path.stat().st_size < 8 + length + end:
            raise ValueError("it is shorter than its header says")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise UsageError(
            f"{path} is not a complete safetensors file: {error_line(error)}"
        ) from None
    return total


def _parameters(config: Any) -> int | None:
    """Number of parameters, from a model without memory; None if transformers does not know it."""
    import torch
    from transformers import AutoModel, AutoModelForCausalLM

    kind = AutoModel if is_encoder(config) else AutoModelForCausalLM
    try:
        with torch.device("meta"):
            return kind.from_config(config).num_parameters()
    except Exception as error:  # noqa: BLE001  (an estimate only, over code of many models)
        log.info("parameters cannot be counted: %s", error)
        return None


def _cache_bytes(options: VLLMOptions, config: Any) -> float | None:
    """Bytes that one token takes in the KV cache of one GPU; sliding windows take less."""
    layers = getattr(config, "num_hidden_layers", None)
    if not layers:
        return None
    kind = str(options.engine.get("kv_cache_dtype", "auto"))
    size = 1 if kind.startswith("fp8") else _BYTES.get(kind, _held_bytes(options, config))
    latent = getattr(config, "kv_lora_rank", None)
    if latent:
        # One latent vector a token, which every GPU holds whole.
        return float(layers * (latent + (getattr(config, "qk_rope_head_dim", 0) or 0)) * size)
    heads = getattr(config, "num_attention_heads", None)
    width = getattr(config, "hidden_size", None)
    if not heads or not width:
        return None
    cached = getattr(config, "num_key_value_heads", None) or heads
    per_head = getattr(config, "head_dim", None) or width // heads
    # With fewer heads than GPUs each GPU holds one of them.
    return float(2 * layers * max(1, math.ceil(cached / options.tensor_parallel)) * per_head * size)


def error_line(error: BaseException) -> str:
    """The first words of an error, as one line."""
    words = " ".join(str(error).split())
    return f"{type(error).__name__}: {words}"[:300]
