"""Small training data for recommenders, and what draining a recipe gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from agents.core.artifacts import Content, Progress
from agents.core.items import Interactions, TrainingData
from agents.recommenders.core import Recommender, RecommenderRef
from tests.fakes import CATALOGUE

# Trains in a blink, and is SASRec all the same.
SMALL = {"name": "sasrec", "hidden": 8, "max_length": 6, "batch_size": 4, "max_epochs": 4}


def training_data(
    sequences: Sequence[Sequence[int]], items: int, validation: Sequence[int] | None = None
) -> TrainingData:
    """A user a sequence; without `validation` no user has a validation item."""
    users = np.repeat(np.arange(len(sequences), dtype=np.int32), [len(s) for s in sequences])
    flat = np.array([item for sequence in sequences for item in sequence], dtype=np.int32)
    names = tuple(f"u{user}" for user in range(len(sequences)))
    held = [-1] * len(sequences) if validation is None else validation
    interactions = Interactions(names, users, flat, np.arange(len(flat)))
    return TrainingData(items, interactions, np.array(held, dtype=np.int32))


def rounds(users: int = 12, items: int = 10, length: int = 7) -> TrainingData:
    """Users who go round the catalogue, item after item: the next one can be learned."""
    walks = [[(user + step) % items for step in range(length + 1)] for user in range(users)]
    return training_data([walk[:-1] for walk in walks], items, [walk[-1] for walk in walks])


def steps_of(given: Any, data: TrainingData, seed: int = 0, state: Content | None = None):
    recipe = RecommenderRef.model_validate(given).recipe()
    return list(recipe.fit(data, seed, state))


def result_of(steps: Sequence[Progress]) -> Content:
    """The last step's result, the only one."""
    assert all(step.result is None for step in steps[:-1])
    found = steps[-1].result
    assert found is not None
    return found


def trained(given: Any, data: TrainingData, seed: int = 0) -> Recommender:
    recipe = RecommenderRef.model_validate(given).recipe()
    return recipe.load(result_of(steps_of(given, data, seed)), CATALOGUE)
