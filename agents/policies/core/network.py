"""What every network of a policy is: text in, a number for each label out.

Built-in networks are trained in torch and used in numpy, so that episode workers stay light. A
network gives the same numbers for a text whatever else is in its batch, so that a replay of a
dialogue is the same in other company; one that cannot promise that says so.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError, model_serializer, model_validator

from agents.core import plugins
from agents.core.artifacts import Content
from agents.core.errors import UsageError, near
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


class NetworkRef(BaseModel):
    """A network as an option: its name, or `{name: ..., option: ...}`."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    options: Options

    @model_validator(mode="before")
    @classmethod
    def _checked(cls, given: Any) -> Any:
        if isinstance(given, str):
            given = {"name": given}
        if not isinstance(given, Mapping) or not isinstance(given.get("name"), str):
            raise ValueError("expected a network's name, or a mapping with `name` and options")
        name = given["name"]
        try:
            found: type[Network] = plugins.load(POLICIES, name, "network")
        except UsageError as error:
            raise ValueError(error.message) from None
        options = given.get("options")
        if isinstance(options, Options):
            return {"name": name, "options": options}
        rest = {key: value for key, value in given.items() if key != "name"}
        try:
            return {"name": name, "options": plugins.build_options(found.Options, rest)}
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"]))
            if first["type"] == "extra_forbidden":
                known = sorted(found.Options.model_fields)
                hint = near(where, known) or f" (known: {', '.join(known) or 'none'})"
                raise ValueError(f"{name}: unknown option {where!r}{hint}") from None
            text = first["msg"].removeprefix("Value error, ")
            raise ValueError(f"{name}: {where + ': ' if where else ''}{text}") from None

    @model_serializer
    def identity(self) -> dict[str, Any]:
        """What decides the network before it is trained."""
        return {"name": self.name, **self.options.identity()}

    @property
    def network(self) -> type[Network]:
        """The plug-in."""
        return plugins.load(POLICIES, self.name, "network")
