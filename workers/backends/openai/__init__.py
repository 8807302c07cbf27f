"""The backend `openai`: any server that speaks OpenAI's chat protocol."""

from workers.backends.openai.backend import OpenAIBackend

__all__ = ["OpenAIBackend"]
