"""ICLRec: SASRec's encoder with contrastive terms that are what they are defined as."""

import pickle
import sys

import numpy as np
import pytest
import torch

from agents.core.errors import UsageError
from agents.recommenders._sequential.training import last_outputs
from agents.recommenders.core import histories, ndcg, target_ranks
from agents.recommenders.iclrec import ICLRec, training
from agents.training.k_means import assigned, k_means
from tests.agents.recommenders.data import SMALL, result_of, rounds, steps_of, trained

TINY = {**SMALL, "name": "iclrec", "intents": 3}


def log_softmax(values: np.ndarray) -> np.ndarray:
    return values - np.log(np.exp(values).sum())


def test_the_contrasts_are_those_of_their_definitions():
    rng = np.random.default_rng(0)
    first, second, own = (rng.normal(size=(5, 4)) for _ in range(3))
    intents, temperature = np.array([0, 1, 0, 2, 1]), 0.7
    expected = 0.0
    for one in range(5):
        rivals = [one, *(other for other in range(5) if intents[other] != intents[one])]
        expected -= log_softmax(own[rivals] @ first[one] / temperature)[0] / 5
    given = (torch.from_numpy(array) for array in (first, own, intents))
    assert float(training.intent_contrast(*given, temperature)) == pytest.approx(expected)

    views = np.concatenate([first, second])
    expected = 0.0
    for one in range(10):
        pair = (one + 5) % 10
        rivals = [pair, *(other for other in range(10) if other not in (one, pair))]
        expected -= log_softmax(views[rivals] @ views[one] / temperature)[0] / 10
    found = training.sequence_contrast(
        torch.from_numpy(first), torch.from_numpy(second), temperature
    )
    assert float(found) == pytest.approx(expected)


def test_a_view_crops_hides_or_reorders_and_leaves_the_sequence_alone():
    items, options, kinds = np.arange(10), ICLRec.Options(), set()
    torch.manual_seed(0)
    for _ in range(60):
        seen = training.view(items, 99, options)
        assert items.tolist() == list(range(10))
        if len(seen) == 6:
            assert (np.diff(seen) == 1).all()
            kinds.add("crop")
        elif 99 in seen:
            assert (seen == 99).sum() == 3
            assert all(a in (b, 99) for a, b in zip(seen, items, strict=True))
            kinds.add("mask")
        else:
            assert sorted(seen) == items.tolist()
            assert (seen != items).sum() <= 2
            kinds.add("reorder")
    assert kinds == {"crop", "mask", "reorder"}


def test_k_means_finds_clusters_that_are_there_and_no_more_than_there_are_points():
    rng = np.random.default_rng(0)
    centres = np.array([[0, 9], [9, 0], [-9, -9]], np.float32)
    points = np.repeat(centres, 20, axis=0) + rng.normal(0, 0.1, (60, 2)).astype(np.float32)
    found = k_means(points, 3, seed=1)
    assert sorted(found.round().tolist()) == sorted(centres.tolist())
    assert np.bincount(assigned(points, found)).tolist() == [20, 20, 20]
    assert len(k_means(np.zeros((4, 2), np.float32), 3, seed=1)) == 1
    assert np.array_equal(k_means(points, 5, seed=1), k_means(points, 5, seed=1))


def test_without_contrasts_it_is_sasrec_up_to_what_is_drawn():
    """The added terms are the only difference: with both weights at 0 no gradient is added."""
    options = ICLRec.Options(
        hidden=8, max_length=6, intents=2, dropout=0, intent_weight=0, sequence_weight=0
    )
    run = training.ICLRecTraining(options, rounds(), 0, None)
    with run._torch():
        run.begin_epoch()
    run.learn(range(4))
    assert run.weights[training.MASK].grad is None
    plain = {name: weight.grad.clone() for name, weight in run.encoder.items()}
    run.options = options.model_copy(update={"intent_weight": 1.0, "sequence_weight": 1.0})
    run.adam.zero_grad()
    run.add_gradients(range(4))
    assert any(weight.grad.abs().sum() > 0 for weight in run.encoder.values())
    assert plain.keys() == run.encoder.keys()


def test_it_is_used_as_sasrec_is_without_the_mask():
    result = result_of(steps_of(TINY, rounds()))
    assert training.MASK not in result.arrays
    recommender = ICLRec(result)
    weights = {name: torch.from_numpy(array) for name, array in result.arrays.items()}
    options = ICLRec.Options(hidden=8, max_length=6)
    expected = last_outputs(weights, [np.array([1, 2, 3])], options)[0].numpy()
    assert recommender.user_embedding([1, 2, 3]) == pytest.approx(expected, abs=1e-5)
    assert recommender.scores([1]).shape == (10,)


def test_training_resumes_bit_for_bit_from_every_state():
    whole = steps_of(TINY, rounds())
    expected = result_of(whole).digest()
    assert expected != result_of(steps_of({**TINY, "intent_weight": 0}, rounds())).digest()
    for epoch, step in enumerate(whole[:-1], start=1):
        torch.manual_seed(epoch)
        rest = steps_of(TINY, rounds(), state=pickle.loads(pickle.dumps(step.state)))
        assert result_of(rest).digest() == expected


def test_the_next_item_is_learned():
    data = rounds(users=30, items=30, length=8)
    seen = histories(data)

    def quality(given) -> float:
        found = trained(given, data)
        scores = np.stack([found.scores(items.tolist()) for items in seen])
        return ndcg(target_ranks(scores, data.validation, seen), 10)

    learned = quality({**TINY, "hidden": 16, "max_length": 8, "batch_size": 8, "lr": 0.01})
    assert learned > quality("item_knn")


def test_without_scikit_learn_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.cluster", None)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.delitem(sys.modules, "agents.recommenders.iclrec.training", raising=False)
    monkeypatch.delitem(sys.modules, "agents.training.k_means", raising=False)
    with pytest.raises(UsageError, match=r"trained with sklearn.*\.\[train\]"):
        steps_of(TINY, rounds())
