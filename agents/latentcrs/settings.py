"""Settings of LatentCRS's training, without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

GForm = Literal["eq6", "independent"]
HForm = Literal["exp", "softplus"]
Variant = Literal["whole", "no_inference", "direct_kl", "no_rec"]
Phase = Literal["inference", "generative", "alternating", "joint"]


@dataclass(frozen=True)
class Settings:
    """What training depends on. See the options of the agent `latentcrs`."""

    width: int
    negatives: int
    negative_sampling: Literal["uniform", "popularity"]
    kl_weight: float
    generative_rec_weight: float
    inference_rec_weight: float
    g: GForm
    h: HForm
    variant: Variant
    lr: float
    weight_decay: float
    batch_size: int
    warm_up_epochs: int
    max_rounds: int
    patience: int
    device: str = "cpu"
    threads: int = 1

    @property
    def phases(self) -> tuple[Phase, ...]:
        return {
            "whole": ("inference", "generative", "alternating"),
            "no_inference": ("generative",),
            "direct_kl": ("joint",),
            "no_rec": ("generative", "alternating"),
        }[self.variant]

    @property
    def most_epochs(self) -> int:
        limits = [
            self.max_rounds if p == "alternating" else self.warm_up_epochs for p in self.phases
        ]
        return sum(limits)
