"""The backend `vllm`: open models (LLaMA, Qwen) served by engines of ours, as Ray actors."""

from workers.backends.vllm.backend import VLLMBackend

__all__ = ["VLLMBackend"]
