"""What every network of a policy is: text in, a number for each label out.

Built-in networks are trained in torch and used in numpy, so that episode workers stay light. A
network gives the same numbers for a text whatever else is in its batch, so that a replay of a
dialogue decides the same; a network that cannot promise this says so.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from agents.core.artifacts import Content
from agents.core.plugin_option import PluginOption
from agents.core.plugins import Options

if TYPE_CHECKING:
    import torch

POLICIES = "agents.policies"


class Trainable(ABC):
    """A network in torch, while it is trained."""

    weights: dict[str, torch.Tensor]
    """Every weight that is trained, by name; leaves that require gradients."""

    @abstractmethod
    def logits(self, texts: Sequence[str], *, dropout: bool) -> torch.Tensor:
        """(texts, labels). With `dropout`, by torch's random numbers."""

    @abstractmethod
    def content(self) -> Content:
        """What the network is made from again."""


class Network(ABC):
    """A network with its weights, read-only, for inference."""

    Options: ClassVar[type[Options]] = Options
    version: ClassVar[int] = 1
    packages: ClassVar[tuple[str, ...]] = ("torch",)
    """Packages outside our dependencies that training imports."""

    def __init__(self, content: Content) -> None:
        self.content = content

    @staticmethod
    @abstractmethod
    def fresh(options: Any, texts: Sequence[str], labels: int, seed: int) -> Content:
        """A network that is not trained yet. What it reads text with may come from `texts`."""

    @staticmethod
    @abstractmethod
    def trainable(content: Content, device: torch.device) -> Trainable:
        """The network in torch."""

    @abstractmethod
    def logits(self, texts: Sequence[str], dropout: Sequence[int] | None = None) -> np.ndarray:
        """(texts, labels), float64. With a seed for each text, its dropout is on."""


class NetworkRef(PluginOption):
    """A network as an option: its name, or `{name: ..., option: ...}`."""

    package = POLICIES
    noun = "network"

    @property
    def network(self) -> type[Network]:
        """The plug-in."""
        return self.plugin
