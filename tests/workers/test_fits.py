"""How a fit tells how far it is."""

import time
from dataclasses import dataclass

from agents.core.artifacts import Content, FitRecipe, Progress
from sweeps.schema import PluginRef
from workers.fits import FitTask, fit_steps

DOMAIN = PluginRef(name="synthetic", items=20, users=10, history=4)


@dataclass(frozen=True)
class Slow(FitRecipe):
    """Three epochs of a tenth of a second."""

    def identity(self):
        return {}

    def stand_in(self):
        return self

    def load(self, content, catalogue):
        return None

    def fit(self, data, seed, state=None):
        for epoch in range(1, 4):
            time.sleep(0.1)
            yield Progress(epoch, 3, "", result=Content() if epoch == 3 else None)


def test_seconds_count_from_before_the_first_epoch():
    told = list(fit_steps(FitTask(Slow(), DOMAIN, 0, state_every=0), None))
    assert told[0].seconds >= 0.1
    assert told[-1].seconds >= 0.3
