"""The base class of recommenders, which are trained on interactions and score items for a history.

Recommenders are tools of agents. Training may need torch; using one needs only numpy, so that
episode workers stay light.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from agents.core.agent import AgentContext
from agents.core.artifacts import Content, FitRecipe, Progress
from agents.core.dialogue import Dialogue
from agents.core.items import Catalogue, Item, TrainingData
from agents.core.plugin_option import PluginOption
from agents.core.plugins import Options

RECOMMENDERS = "agents.recommenders"


class Recommender(ABC):
    """A trained recommender, read-only. Positions refer to items in the catalogue."""

    Options: ClassVar[type[Options]] = Options
    version: ClassVar[int] = 1
    packages: ClassVar[tuple[str, ...]] = ()
    """Packages that only `fit` imports and that are not among our dependencies (`torch`)."""

    @staticmethod
    @abstractmethod
    def fit(
        options: Any, data: TrainingData, seed: int, state: Content | None
    ) -> Iterator[Progress]:
        """See `agents.core.artifacts.FitRecipe.fit`."""

    @staticmethod
    def size(options: Any) -> str:
        """See `agents.core.artifacts.FitRecipe.size`."""
        return ""

    def __init__(self, content: Content) -> None:
        self.content = content

    @property
    @abstractmethod
    def item_embeddings(self) -> np.ndarray:
        """(items, d), float32."""

    @abstractmethod
    def user_embedding(self, history: Sequence[int]) -> np.ndarray:
        """(d,), float32, of a user with the items at these positions in the history,
        oldest first."""

    @abstractmethod
    def scores(self, history: Sequence[int]) -> np.ndarray:
        """(items,), float32: how likely each item comes next; higher is more likely."""

    def similarities(self, history: Sequence[int]) -> np.ndarray:
        """(items,), float32: cosine of the user's and the items' embeddings (AF-IRS, eq. 4).

        0 if one of the two is the zero vector.
        """
        user, items = self.user_embedding(history), self.item_embeddings
        norms = np.linalg.norm(items, axis=1) * np.linalg.norm(user)
        return np.divide(items @ user, norms, out=np.zeros(len(items), np.float32), where=norms > 0)


def positions(items: Sequence[Item], catalogue: Catalogue) -> list[int]:
    """The places of `items` in the catalogue."""
    return [catalogue.position[item.id] for item in items]


def best(values: np.ndarray, k: int, *, among: np.ndarray | None = None) -> np.ndarray:
    """Positions of at most `k` highest `values`, best first, ties by position.

    `among` is a mask (items,) of those that may be chosen. Never padded.
    """
    places = np.arange(len(values)) if among is None else np.flatnonzero(among)
    return places[np.argsort(-values[places], kind="stable")[:k]]


def pool(context: AgentContext, dialogue: Dialogue, repeat: bool) -> np.ndarray:
    """Mask (items,) of what may be recommended now.

    Excludes the user's history and what was shown earlier in this dialogue, unless `repeat`.
    """
    mask = np.ones(len(context.catalogue), dtype=bool)
    if not repeat:
        shown = [item for message in dialogue.whole for item in message.shown]
        mask[positions([*context.case.history, *shown], context.catalogue)] = False
    return mask


def histories(data: TrainingData) -> list[np.ndarray]:
    """The training items of each user, oldest first."""
    found = data.interactions
    counts = np.bincount(found.users, minlength=len(found.user_ids))
    return np.split(found.items, np.cumsum(counts)[:-1])


def target_ranks(scores: np.ndarray, targets: np.ndarray, seen: Sequence[np.ndarray]) -> np.ndarray:
    """(users,): the place of each user's target in a full ranking of the catalogue, from 1.

    `scores` is (users, items). Items in `seen` are left out, except the target; ties go to the
    lower position, as in `best`.
    """
    rows = np.arange(len(targets))
    own = scores[rows, targets][:, None]
    rivals = (scores > own) | ((scores == own) & (np.arange(scores.shape[1]) < targets[:, None]))
    for row, items in enumerate(seen):
        rivals[row, items] = False
    return 1 + rivals.sum(axis=1)


def ndcg(ranks: np.ndarray, k: int) -> float:
    """Mean NDCG@k where each user has one relevant item, at these ranks (Järvelin and
    Kekäläinen, TOIS 2002)."""
    return float(np.where(ranks <= k, 1 / np.log2(ranks + 1), 0).mean())


def recall(ranks: np.ndarray, k: int) -> float:
    """Mean Recall@k, with one relevant item the same as the hit rate."""
    return float((ranks <= k).mean())


class RecommenderRef(PluginOption):
    """A recommender as an agent's option: its name, or `{name: ..., option: ...}`."""

    package = RECOMMENDERS
    noun = "recommender"

    def recipe(self) -> Fit:
        return Fit(self)


@dataclass(frozen=True)
class Fit(FitRecipe):
    """The recipe of a trained recommender."""

    ref: RecommenderRef

    @property
    def _class(self) -> type[Recommender]:
        return self.ref.plugin

    @property
    def label(self) -> str:
        return self.ref.name

    @property
    def packages(self) -> tuple[str, ...]:
        return self._class.packages

    @property
    def size(self) -> str:
        return self._class.size(self.ref.options)

    def identity(self) -> Mapping[str, Any]:
        return {"recommender": self.ref.model_dump(), "version": self._class.version}

    def fit(
        self, data: TrainingData, seed: int, state: Content | None = None
    ) -> Iterator[Progress]:
        return self._class.fit(self.ref.options, data, seed, state)

    def stand_in(self) -> Fit:
        return Fit(RecommenderRef.model_validate("item_knn"))

    def load(self, content: Content, catalogue: Catalogue) -> Recommender:
        return self.restored(content)

    def restored(self, content: Content) -> Recommender:
        """The recommender with this content."""
        return self._class(content)
