"""How a fit reports how far it is."""

from dataclasses import dataclass
from types import SimpleNamespace

from agents.core.artifacts import Content, FitRecipe, Progress
from sweeps.schema import PluginRef
from workers.artifacts import fits
from workers.artifacts.fits import FitSpec, fit_steps

DOMAIN = PluginRef(name="synthetic", items=20, users=10, history=4)


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@dataclass(frozen=True)
class Slow(FitRecipe):
    """Three epochs of ten seconds."""

    clock: Clock

    def identity(self):
        return {}

    def stand_in(self):
        return self

    def load(self, content, catalogue):
        return None

    def fit(self, data, seed, state=None):
        for epoch in range(1, 4):
            self.clock.now += 10
            yield Progress(epoch, 3, "", result=Content() if epoch == 3 else None)


def test_seconds_count_from_before_the_first_epoch(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(fits, "time", SimpleNamespace(monotonic=clock))
    heard = list(fit_steps(FitSpec(Slow(clock), DOMAIN, 0, state_every=0), None))
    assert [each.seconds for each in heard] == [10, 20, 30]
