"""Simulated sweeps of which the truth is known, for the tests of the statistics.

Successes follow a probit model: P = Phi(mean + case + agent x case + agent x seed), all effects
normal, so that the rate over all cases and seeds is Phi(mean / sqrt(1 + variances)). Turns are
log-normal. The effects of a case are the same for all agents, but for the interplay.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from analysis.statistics.estimates import Estimate, estimate
from analysis.statistics.scores import Sides


@dataclass(frozen=True)
class Design:
    """`agent_seed` is what training does to an agent in one seed; it is shared by its dialogues."""

    cases: int
    seeds: int
    means: tuple[float, ...] = (0.3, 0.0)  # by agent, on the scale of the model
    case: float = 0.8
    agent_case: float = 0.4
    agent_seed: float = 0.0
    rates: bool = True

    @property
    def truth(self) -> float:
        """The difference of the first two agents."""
        first, second = (self._mean(mean) for mean in self.means[:2])
        return first - second

    def _mean(self, mean: float) -> float:
        spread = self.case**2 + self.agent_case**2 + self.agent_seed**2
        if self.rates:
            return float(norm.cdf(mean / np.sqrt(1 + spread)))
        return float(np.exp(mean + spread / 2 + 0.5**2 / 2))

    def values(self, rng: np.random.Generator) -> np.ndarray:
        """One sweep, of shape (agents, cases, seeds)."""
        shape = (len(self.means), self.cases, self.seeds)
        latent = (
            np.array(self.means)[:, None, None]
            + self.case * rng.normal(size=(1, self.cases, 1))
            + self.agent_case * rng.normal(size=(len(self.means), self.cases, 1))
            + self.agent_seed * rng.normal(size=(len(self.means), 1, self.seeds))
        )
        if self.rates:
            return (rng.random(shape) < norm.cdf(latent)).astype(float)
        return np.exp(latent + 0.5 * rng.normal(size=shape))

    def estimates(self, sweeps: int, seed: int, resamples: int) -> Iterator[Estimate]:
        """The difference of the first two agents, as `crsweep compare` computes it."""
        rng = np.random.default_rng(seed)
        for _ in range(sweeps):
            first, second = self.values(rng)[:2]
            yield estimated(self, first, second, resamples)


def estimated(design: Design, first: np.ndarray, second: np.ndarray, resamples: int) -> Estimate:
    """The estimate from the values of two agents, of shape (cases, seeds)."""
    sides = Sides(first.mean(axis=1), second.mean(axis=1), first - second)
    return estimate(
        sides,
        most=1.0 if design.rates else None,
        shared=design.agent_seed > 0,
        resamples=resamples,
    )


def covered(design: Design, sweeps: int, seed: int, resamples: int) -> int:
    """In how many sweeps the 95 % interval has the truth."""
    truth = design.truth
    return sum(
        found.low <= truth <= found.high for found in design.estimates(sweeps, seed, resamples)
    )
