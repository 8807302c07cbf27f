"""Vectors by EAR's FM and by TransE: gradients, and training that resumes to the bit."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.core.errors import DataError
from agents.core.items import Pairs, TrainingData
from agents.multi_round import fm, transe
from agents.multi_round.embeddings import EmbeddingOptions, EmbeddingRecipe, vectors_of
from agents.multi_round.space import AttributeSpace
from agents.unicorn import UNICORN
from tests.agents.multi_round import worlds
from tests.agents.recommenders.data import training_data

TAGS = [["a", "b"], ["a", "c"], ["a", "b", "c"], ["b"], ["c", "d"], ["a"]]
SEEN = [(0, 0), (0, 2), (1, 1), (1, 4), (2, 3), (2, 0)]


def weights(width: int = 3, relations: bool = False) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    sizes = {"users": 3, "items": 6, "facts": 4} | ({"relations": 2} if relations else {})
    return {name: rng.standard_normal((rows, width)) for name, rows in sizes.items()}


def slopes_by_differences(loss, given, step=1e-6):
    found = {}
    for name, array in given.items():
        found[name] = np.zeros_like(array)
        for place in np.ndindex(array.shape):
            ends = []
            for sign in (1, -1):
                moved = {k: v.copy() for k, v in given.items()}
                moved[name][place] += sign * step
                ends.append(loss(moved))
            found[name][place] = (ends[0] - ends[1]) / (2 * step)
    return found


BATCH = fm.Batch(
    users=np.array([0, 1, 0, 2]),
    items=np.array([0, 4, 2, 3]),
    facts=np.array([[1, 0, 0, 0], [0, 0, 1, 0], [1, 1, 0, 0], [0, 1, 0, 0]], np.float32),
    any_item=np.array([3, 0, 1, 4]),
    fitting_item=np.array([5, -1, -1, 0]),
    own_fact=np.array([1, 3, 2, -1]),
    other_fact=np.array([2, 0, 3, 0]),
)


def test_the_loss_of_the_fm_by_hand():
    given = weights()
    u, v, p = given["users"], given["items"], given["facts"]

    def score(user, item, facts):
        return u[user] @ v[item] + sum(v[item] @ p[f] for f in facts)

    def liking(user, fact, facts):
        return u[user] @ p[fact] + sum(p[fact] @ p[f] for f in facts)

    def bpr(high, low):
        return -np.log(1 / (1 + np.exp(-(high - low))))

    wanted = 0.0
    for user, item, said, any_item, fitting, own, other in zip(*BATCH, strict=True):
        facts = np.flatnonzero(said)
        wanted += bpr(score(user, item, facts), score(user, any_item, facts))
        if fitting >= 0:
            wanted += bpr(score(user, item, facts), score(user, fitting, facts))
        if own >= 0:
            wanted += bpr(liking(user, own, facts), liking(user, other, facts))
        wanted += 0.1 * (u[user] @ u[user] + v[item] @ v[item])
    assert fm.loss_and_gradients(given, BATCH, 0.1)[0] == pytest.approx(wanted / 4)


def test_the_gradients_of_the_fm_by_finite_differences():
    given = weights()
    found = fm.loss_and_gradients(given, BATCH, 0.1)[1]
    wanted = slopes_by_differences(lambda w: fm.loss_and_gradients(w, BATCH, 0.1)[0], given)
    for name, array in wanted.items():
        assert found[name] == pytest.approx(array, abs=1e-7)
        assert np.abs(array).max() > 0.01


def test_the_gradients_of_transe_by_finite_differences():
    given = weights(relations=True)
    has = AttributeSpace.of(worlds.catalogue_of(TAGS)).has
    users, items = np.array(SEEN).T
    for triples in transe.graph(users, items, has):
        n = len(triples.head)
        side = np.arange(n) % 2
        corrupt = np.where(side, np.arange(n) % 4, np.arange(n) % 3)
        args = (triples, corrupt, side, 3.0)
        found = transe.loss_and_gradients(given, *args)[1]
        wanted = slopes_by_differences(
            lambda w, args=args: transe.loss_and_gradients(w, *args)[0], given
        )
        for name, array in wanted.items():
            assert found[name] == pytest.approx(array, abs=1e-6)


def test_negatives_are_unknown_to_the_user_and_fit_what_was_said():
    catalogue = worlds.catalogue_of(TAGS)
    has = AttributeSpace.of(catalogue).has
    data = worlds.data_of(catalogue, SEEN, Pairs(np.array([0]), np.array([1])))
    sampler = fm.BatchSampler(data.interactions, has)
    rng = np.random.default_rng(0)
    fitted = 0
    for _ in range(50):
        batch = sampler.batch(np.arange(len(sampler)), rng)
        for user, item, said, any_item, fitting, own, other in zip(*batch, strict=True):
            known = {i for u, i in SEEN if u == user}
            said = said.astype(bool)
            assert said.any()
            assert not (said & ~has[item]).any()
            assert any_item not in known
            if fitting >= 0:
                fitted += 1
                assert fitting not in known
                assert has[fitting][said].all()
            assert own < 0 or (has[item, own] and not said[own])
            assert other < 0 or not has[item, other]
    assert fitted > 50


@pytest.mark.parametrize("method", ["fm", "transe"])
def test_training_learns_what_users_like_and_resumes_to_the_bit(method):
    # Users of two tastes; each of 12 users has 4 of the 6 items of the own taste.
    catalogue = worlds.catalogue_of([["x", "p"] if i < 6 else ["x", "q"] for i in range(12)])
    pairs = [(u, (u % 2) * 6 + (u // 2 + k) % 6) for u in range(12) for k in range(4)]
    targets = Pairs(np.arange(12), np.array([(u % 2) * 6 + (u // 2 + 4) % 6 for u in range(12)]))
    data = worlds.data_of(catalogue, pairs, targets)
    options = EmbeddingOptions(method=method, width=8, epochs=30, batch_size=16, lr=0.02)
    steps = list(EmbeddingRecipe(options).fit(data, 1))
    result = steps[-1].result
    assert result is not None
    vectors = vectors_of(result, AttributeSpace.of(catalogue))
    scores = vectors.users @ vectors.items.T
    own = np.array([[(i < 6) == (u % 2 == 0) for i in range(12)] for u in range(12)])
    assert scores[own].mean() > scores[~own].mean() + 0.1
    assert result.data["curve"][-1][0] < result.data["curve"][0][0]
    resumed = list(EmbeddingRecipe(options).fit(data, 1, steps[11].state))
    assert resumed[0].done == 13
    assert [step.result.digest() for step in resumed if step.result] == [result.digest()]
    assert EmbeddingRecipe(options).stand_in().options.epochs == 1


def test_vectors_need_facts_and_fit_their_catalogue():
    with pytest.raises(DataError, match="catalogue"):
        list(EmbeddingRecipe(EmbeddingOptions()).fit(training_data([[0, 1]], 2), 0))
    data = _small()
    content = worlds.result_of(EmbeddingRecipe(EmbeddingOptions(width=2, epochs=1)), data)
    with pytest.raises(DataError, match="6 items and 4 facts, the catalogue has 2 and 1"):
        vectors_of(content, AttributeSpace.of(worlds.catalogue_of([["a"], ["a"]])))


WORLD = worlds.catalogue_of(TAGS)


def _small() -> TrainingData:
    return worlds.data_of(WORLD, SEEN, Pairs(np.array([0]), np.array([1])))


def _given(
    path: Path, data: TrainingData, sha256: str | None = None, **changed: Any
) -> EmbeddingOptions:
    """A file of vectors for `data`, its rows turned round, with more than is needed."""
    space = AttributeSpace.of(WORLD)
    names = {
        "user_ids": [*data.interactions.user_ids, "another"][::-1],
        "item_ids": [item.id for item in WORLD.items][::-1],
        "fact_names": [f"{fact.attribute}: {fact.value}" for fact in space.facts][::-1],
    }
    tables = {
        name: np.arange(len(names[of]) * 2, dtype=float).reshape(-1, 2)
        for name, of in (("users", "user_ids"), ("items", "item_ids"), ("facts", "fact_names"))
    }
    arrays = {**{of: np.array(ids) for of, ids in names.items()}, **tables, **changed}
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    return EmbeddingOptions(method="given", path=path, sha256=sha256 or found)


def test_given_vectors_are_put_into_the_order_of_the_catalogue(tmp_path):
    data = _small()
    options = _given(tmp_path / "v.npz", data)
    content = worlds.result_of(EmbeddingRecipe(options), data)
    found = vectors_of(content, AttributeSpace.of(WORLD))
    assert found.items[0].tolist() == [10, 11] and found.items[-1].tolist() == [0, 1]
    assert found.facts[0].tolist() == [6, 7]
    assert found.users[0].tolist() == [6, 7] and len(found.users) == 3
    assert found.items.dtype == np.float32
    moved = options.model_copy(update={"path": tmp_path / "elsewhere.npz"})
    assert EmbeddingRecipe(moved).identity() == EmbeddingRecipe(options).identity()
    assert EmbeddingRecipe(options).stand_in().options.method == "fm"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"sha256": "0" * 64}, "expected 0000"),
        ({"items": None}, "items.*expected users, items, facts"),
        ({"item_ids": np.array(["x"] * 6)}, "item_ids must be strings without duplicates"),
        ({"item_ids": np.array(list("uvwxyz"))}, "6 of 6 items have no vector, the first is"),
        ({"items": np.ones((6, 3))}, "users has the shape"),
        ({"items": np.full((6, 2), np.nan)}, "not finite"),
        ({"items": np.array([object()])}, "without pickled objects"),
    ],
)
def test_a_file_of_vectors_that_does_not_fit_is_refused(tmp_path, changed, message):
    data = _small()
    options = _given(tmp_path / "v.npz", data, **changed)
    with pytest.raises(DataError, match=message):
        list(EmbeddingRecipe(options).fit(data, seed=0))


def test_the_path_of_given_vectors_is_not_part_of_an_agents_identity(tmp_path):
    file = {"method": "given", "path": tmp_path / "v.npz", "sha256": "0" * 64}
    found = UNICORN.Options(vectors=file).identity()
    assert found["vectors"] == {"method": "given", "sha256": "0" * 64}


def test_only_given_vectors_have_a_file():
    with pytest.raises(ValueError, match="needs `path` and `sha256`"):
        EmbeddingOptions(method="given")
    with pytest.raises(ValueError, match="are for `method: given`"):
        EmbeddingOptions(method="fm", sha256="0" * 64)
