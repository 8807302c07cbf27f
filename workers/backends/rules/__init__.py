"""The `rules` backend: deterministic generic rules in place of a language model."""

from workers.backends.rules.backend import RulesBackend

__all__ = ["RulesBackend"]
