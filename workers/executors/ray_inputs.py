"""Inputs of fits in Ray's object store, where every node can read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import ray

from agents.core.artifacts import Content
from workers.artifacts.fits import Input


class SharedInput(NamedTuple):
    """One shared input."""

    reference: ray.ObjectRef

    def content(self) -> Content:
        return ray.get(self.reference)


def shared(inputs: Mapping[str, Input]) -> dict[str, Input]:
    """Puts the inputs into the object store."""
    return {name: SharedInput(ray.put(each.content())) for name, each in inputs.items()}
