"""What the `rules` backend knows without being shown: a share of the catalogue."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache

import numpy as np

from agents.core.items import Catalogue
from agents.core.phrases import Phrases
from workers.backends.core.model_free import unit_hash

_HISTORY_WEIGHT = 0.02  # taste from the past only orders what the words leave equal


class Knowledge:
    """The share of a catalogue that a model remembers, and how it matches text.

    Which items are remembered depends only on the title, so a model with more knowledge remembers
    everything that one with less does.
    """

    def __init__(self, catalogue: Catalogue, share: float) -> None:
        self.titles = [item.title for item in catalogue.items]
        self.attribute_names = catalogue.attributes
        self._position = {title: i for i, title in enumerate(self.titles)}
        self._forgotten = np.array([_obscurity(t) >= share for t in self.titles])
        phrases = Phrases(catalogue.items)
        self._phrases = phrases.places
        size = len(self.titles)
        # Two copies, so that every offset gives one jitter a title: ties break by the call's seed.
        jitter = np.random.Generator(np.random.PCG64(0)).permutation(size) / size * 1e-6
        self._jitter = np.concatenate([jitter, jitter])
        self.phrases_in = lru_cache(maxsize=16384)(phrases.named_in)
        self._scores = lru_cache(maxsize=256)(self._score)
        self._taste = lru_cache(maxsize=256)(self._taste_of)

    def rank(
        self,
        stated: tuple[str, ...],
        liked: tuple[str, ...],
        never: Iterable[str],
        seed: int,
        k: int,
    ) -> list[str]:
        """The `k` remembered titles that best match what was `stated`, then what was `liked`."""
        offset = seed % len(self.titles)
        scores = self._scores(stated)[0] + self._taste(liked)
        scores += self._jitter[offset : offset + len(self.titles)]
        for title in (*never, *liked):
            if title in self._position:
                scores[self._position[title]] = -np.inf
        k = min(k, len(scores))
        best = np.argpartition(scores, len(scores) - k)[len(scores) - k :]
        best = best[np.argsort(-scores[best])]
        return [self.titles[i] for i in best if scores[i] > -np.inf]

    def fitting(self, stated: tuple[str, ...]) -> int:
        """How many remembered items match what was stated as well as the best one."""
        return self._scores(stated)[1]

    def _score(self, stated: tuple[str, ...]) -> tuple[np.ndarray, int]:
        scores = np.where(self._forgotten, -np.inf, 0.0)
        for phrase in stated:
            where = self._phrases[phrase]
            scores[where] += math.log(1 + len(self.titles) / len(where))
        top = scores.max()
        fit = 0 if top == -np.inf else int(np.count_nonzero(scores >= top - 1e-9))
        return scores, fit

    def _taste_of(self, liked: tuple[str, ...]) -> np.ndarray:
        taste = np.zeros(len(self.titles))
        known = {self._position[t] for t in liked if t in self._position}
        known -= set(np.flatnonzero(self._forgotten).tolist())
        for where in self._phrases.values() if known else ():
            share = len(known.intersection(where.tolist())) / len(known)
            if share:
                taste[where] += _HISTORY_WEIGHT * share
        return taste


@lru_cache(maxsize=262144)
def _obscurity(title: str) -> float:
    """In [0, 1): who knows a share of all titles remembers those below it."""
    return unit_hash(title.encode())
