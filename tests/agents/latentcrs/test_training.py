"""Training: phases, ablations, states, and that numpy predicts what torch has trained."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

from agents.core.errors import DataError
from agents.latentcrs import LatentCRS, training
from agents.latentcrs.model import IntentModel
from agents.latentcrs.settings import Settings
from agents.latentcrs.training import Examples, train

TINY = {
    "width": 6,
    "negatives": 8,
    "batch_size": 16,
    "warm_up_epochs": 3,
    "max_rounds": 3,
    "patience": 2,
    "lr": 0.02,
}


def settings(**changes) -> Settings:
    return Settings(**LatentCRS.Options(**{**TINY, **changes}).settings())


def examples(seed=0, count=60, items=12, intents=3) -> Examples:
    """The words say which third of the catalogue the next item is of; histories say nothing."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, items, count)
    words = rng.normal(0, 0.3, (count, 5))
    words[np.arange(count), targets * 3 // items] += 2
    vectors = rng.normal(0, 0.5, (items, 4))
    vectors[np.arange(items), np.arange(items) * 3 // items] += 1
    return Examples(
        rng.normal(size=(count, 4)).astype(np.float32),
        words.astype(np.float16),
        targets.astype(np.int32),
        [np.array([(target + 1) % items]) for target in targets],
        np.arange(count) % 4 == 0,
        rng.normal(size=(intents, 4)).astype(np.float32),
        vectors.astype(np.float32),
    )


def result_of(given: Settings, data: Examples, state=None):
    steps = list(train(given, data, 0, state))
    assert all(step.result is None for step in steps[:-1])
    return steps


@pytest.mark.parametrize(
    ("changes", "phases"),
    [
        ({}, ["inference", "generative", "alternating"]),
        ({"inference_model": False}, ["generative"]),
        ({"direct_kl": True}, ["joint"]),
        ({"rec_loss": False}, ["generative", "alternating"]),
    ],
)
def test_the_phases_are_those_of_the_variant(changes, phases):
    [*steps, last] = result_of(settings(**changes), examples())
    measured = [step.measured for step in steps]
    assert list(dict.fromkeys(next(iter(each)) for each in measured)) == [
        f"NDCG@20 ({phase})" for phase in phases
    ]
    assert last.done == len(steps) <= settings(**changes).most_epochs
    # Eq. 4 needs both models.
    with_bound = [phase for phase in phases if any(f"ELBO ({phase})" in each for each in measured)]
    both = [] if "inference_model" in changes else [p for p in phases if p != "inference"]
    assert with_bound == both
    best = last.result.data["validation_ndcg@20"]
    name = f"NDCG@20 ({phases[-1]})"
    chosen = [each[name] for each in measured if name in each]
    assert best >= max(chosen) - 1e-9  # or the end of the phase before was better still


@pytest.mark.parametrize("changes", [{}, {"g": "independent"}, {"direct_kl": True}])
def test_training_resumes_bit_for_bit_from_every_state(changes):
    given, data = settings(**changes), examples()
    steps = result_of(given, data)
    expected = steps[-1].result.digest()
    for at, step in enumerate(steps[:-1]):
        torch.manual_seed(at)
        rest = result_of(given, data, pickle.loads(pickle.dumps(step.state)))
        assert rest[-1].result.digest() == expected


def test_a_batch_in_parts_is_trained_as_one(monkeypatch):
    whole = result_of(settings(), examples())[-1].result.arrays
    monkeypatch.setattr(training, "_NEGATIVE_PLACES", 3 * 8 * 5)
    parts = result_of(settings(), examples())[-1].result.arrays
    for name, array in whole.items():
        assert parts[name] == pytest.approx(array, abs=1e-4), name


@pytest.mark.parametrize("g", ["eq6", "independent"])
def test_numpy_predicts_what_torch_does(g):
    data, given = examples(), settings(g=g)
    run = training._Run(given, data, 0, None)
    while not run.over:
        run.one_epoch()
    result = run.result()
    with torch.no_grad():
        expected = run._ranked(np.arange(7))[0].numpy()
    model = IntentModel(result)
    found = model.probabilities(data.histories[:7], data.words[:7])
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-6)
    assert found.sum(axis=1) == pytest.approx(np.ones(7), abs=1e-5)
    assert model.scores(data.histories[3], data.words[3]) == pytest.approx(found[3])
    assert model.intents(data.histories[:7], data.words[:7]).sum(axis=1) == pytest.approx(1)


def test_words_that_say_the_intent_are_learned():
    data = examples(count=160)
    options = {"warm_up_epochs": 25, "max_rounds": 25, "patience": 8}
    result = result_of(settings(**options, negatives=12), data)[-1].result
    scores = IntentModel(result).probabilities(data.histories, data.words)
    best = scores.argmax(axis=1) * 3 // 12
    right = (best == data.targets * 3 // 12)[data.validation].mean()
    assert right > 0.8


def test_negatives_are_drawn_as_asked():
    run = training._Run(settings(negative_sampling="popularity"), examples(), 0, None)
    drawn = run._candidates(np.arange(4))
    assert drawn.others.shape == (8, 4)
    assert drawn.clash.sum(dim=1).max() <= 1
    every = training._Run(settings(negatives=12), examples(), 0, None)._candidates(np.arange(4))
    assert every.clash.sum(dim=1).tolist() == [1, 1, 1, 1]


def test_there_must_be_examples_of_both_kinds():
    data = examples()
    with pytest.raises(DataError, match="found 0 and 60"):
        replace(data, validation=np.ones(60, bool))
    with pytest.raises(DataError, match="found 60 and 0"):
        replace(data, validation=np.zeros(60, bool))
