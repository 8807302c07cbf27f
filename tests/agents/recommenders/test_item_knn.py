"""Item-kNN against a brute-force oracle."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.recommenders import item_knn
from tests.agents.recommenders.data import trained, training_data

ITEMS = 7
SEQUENCES = st.lists(
    st.lists(st.integers(0, ITEMS - 1), min_size=1, max_size=6), min_size=1, max_size=9
)
HISTORIES = st.lists(st.integers(0, ITEMS - 1), max_size=6)


def cosines(sequences, shrinkage=0.0) -> np.ndarray:
    """The similarities of all items, one pair at a time."""
    users = [{u for u, s in enumerate(sequences) if item in s} for item in range(ITEMS)]
    found = np.zeros((ITEMS, ITEMS))
    for i in range(ITEMS):
        for j in range(ITEMS):
            both = len(users[i] & users[j])
            if both:
                found[i, j] = both / ((len(users[i]) * len(users[j])) ** 0.5 + shrinkage)
    return found


@given(SEQUENCES, HISTORIES, st.integers(1, ITEMS + 2), st.sampled_from([0.0, 2.5]))
def test_scores_are_those_of_the_definition(sequences, history, neighbours, shrinkage):
    similar = cosines(sequences, shrinkage)
    np.fill_diagonal(similar, 0)
    expected = np.zeros(ITEMS)
    for item in history:
        order = sorted(range(ITEMS), key=lambda j: (-round(similar[item, j], 12), j))
        for near in order[:neighbours]:
            expected[near] += similar[item, near]
    options = {"name": "item_knn", "neighbours": neighbours, "shrinkage": shrinkage}
    recommender = trained(options, training_data(sequences, ITEMS))
    assert recommender.scores(history) == pytest.approx(expected, abs=1e-5)


@given(SEQUENCES, HISTORIES)
def test_embeddings_with_all_factors_multiply_to_the_cosines_of_items(sequences, history):
    recommender = trained("item_knn", training_data(sequences, ITEMS))
    vectors = recommender.item_embeddings
    assert vectors @ vectors.T == pytest.approx(cosines(sequences), abs=1e-5)
    expected = cosines(sequences)[history].sum(axis=0)
    assert vectors @ recommender.user_embedding(history) == pytest.approx(expected, abs=1e-5)


def test_fewer_factors_give_the_best_approximation_of_that_rank():
    rng = np.random.default_rng(0)
    sequences = [np.flatnonzero(row).tolist() for row in rng.random((40, ITEMS)) < 0.4]
    sequences = [sequence for sequence in sequences if sequence]
    full = cosines(sequences)
    values, basis = np.linalg.eigh(full)
    expected = (basis[:, -3:] * values[-3:]) @ basis[:, -3:].T
    options = {"name": "item_knn", "factors": 3}
    vectors = trained(options, training_data(sequences, ITEMS)).item_embeddings
    assert vectors.shape == (ITEMS, 3)
    assert vectors @ vectors.T == pytest.approx(expected, abs=1e-5)


def test_an_item_without_users_is_similar_to_nothing():
    sequences = [[0, 1, 2], [1, 2, 3], [0, 3, 4, 5]]
    recommender = trained("item_knn", training_data(sequences, ITEMS))
    assert recommender.similarities([0, 1])[6] == 0
    assert not recommender.similarities([6]).any()
    assert not recommender.scores([6]).any()


def test_similarities_worked_out_in_blocks_are_the_same(monkeypatch):
    rng = np.random.default_rng(1)
    sequences = [rng.integers(ITEMS, size=4).tolist() for _ in range(20)]
    data = training_data(sequences, ITEMS)
    whole = trained("item_knn", data).content.digest()
    monkeypatch.setattr(item_knn, "_BLOCK", 3)
    assert trained("item_knn", data).content.digest() == whole
