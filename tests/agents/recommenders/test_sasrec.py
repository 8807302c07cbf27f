"""SASRec: numpy is torch, a seed is a result, an interruption changes nothing."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.core.errors import DataError, UsageError
from agents.recommenders._sequential import training
from agents.recommenders._sequential.inference import encode_sequence
from agents.recommenders.core import histories, ndcg, target_ranks
from agents.recommenders.sasrec import SASRec
from tests.agents.recommenders.data import (
    SMALL,
    result_of,
    rounds,
    steps_of,
    trained,
    training_data,
)
from tests.conftest import LAST_GUARD_SECONDS

ITEMS = 20


def random_weights(options, seed: int) -> dict[str, np.ndarray]:
    """Weights large enough for attention to be far from even."""
    generator = np.random.default_rng(seed)
    shapes = {name: w.shape for name, w in training.initial(options, ITEMS).items()}
    return {
        name: generator.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()
    }


@pytest.mark.parametrize(("heads", "blocks"), [(1, 1), (2, 2), (4, 3)])
@given(history=st.lists(st.integers(0, ITEMS - 1), max_size=12), seed=st.integers(0, 99))
@settings(max_examples=30)
def test_the_forward_pass_in_numpy_is_the_one_in_torch(heads, blocks, history, seed):
    options = SASRec.Options(hidden=8, heads=heads, blocks=blocks, max_length=7)
    weights = random_weights(options, seed)
    found = encode_sequence(weights, history, heads)
    assert found.dtype == np.float32
    if not history:
        assert found.tolist() == [0] * 8
        return
    tensors = {name: torch.from_numpy(weight) for name, weight in weights.items()}
    # Next to a longer history, so that this one is padded.
    together = [np.array(history), np.arange(7)]
    expected = training.last_outputs(tensors, together, options)[0].numpy()
    assert found == pytest.approx(expected, abs=1e-4)


def test_only_the_latest_items_count():
    recommender = trained(SMALL, rounds())
    long = [7, 8, 9, 0, 1, 2, 3, 4]
    assert recommender.scores(long).tolist() == recommender.scores(long[-6:]).tolist()
    assert recommender.scores(long).tolist() != recommender.scores(long[-5:]).tolist()


def test_a_position_learns_nothing_of_what_comes_later():
    options = SASRec.Options(hidden=8, max_length=7)
    weights = {n: torch.from_numpy(w) for n, w in random_weights(options, 0).items()}
    one, other = torch.tensor([[1, 2, 3, 4]]), torch.tensor([[1, 2, 5, 6]])
    first, second = (training.forward(weights, given, 1, 0.0) for given in (one, other))
    assert torch.equal(first[:, :2], second[:, :2])
    assert not torch.isclose(first[:, 2:], second[:, 2:]).all()


def quality(recommender, data) -> float:
    """NDCG@10 on validation, from what episodes would get."""
    ranks = [
        target_ranks(recommender.scores(items.tolist())[None], data.validation[[user]], [items])
        for user, items in enumerate(histories(data))
    ]
    return ndcg(np.concatenate(ranks), 10)


def test_it_sees_an_order_that_item_knn_cannot_see():
    data = rounds(users=30, items=30, length=8)
    options = {"name": "sasrec", "hidden": 16, "max_length": 8, "batch_size": 8, "lr": 0.01}
    sequential = quality(trained(options, data), data)
    assert sequential > quality(trained("item_knn", data), data)
    assert sequential > quality(trained("popularity", data), data)


def test_another_seed_gives_another_model():
    digests = {result_of(steps_of(SMALL, rounds(), seed)).digest() for seed in (0, 1, 2)}
    assert len(digests) == 3


@pytest.mark.parametrize("extra", [{}, {"full_softmax": 0, "negatives": 3}])
def test_training_resumes_bit_for_bit_from_every_state(extra):
    options = {**SMALL, **extra}
    whole = steps_of(options, rounds())
    expected = result_of(whole).digest()
    states = [step.state for step in whole if step.state is not None]
    assert len(states) == SMALL["max_epochs"]
    for epoch, state in enumerate(states, start=1):
        torch.manual_seed(epoch)  # the process that continues is another one
        rest = steps_of(options, rounds(), state=pickle.loads(pickle.dumps(state)))
        assert len(rest) == len(whole) - epoch
        assert [step.note for step in rest] == [step.note for step in whole[epoch:]]
        assert result_of(rest).digest() == expected


def test_a_state_does_not_change_while_training_continues():
    recipe_steps = training.train(SASRec.Options(**options_of(SMALL)), rounds(), 0, None)
    first = next(recipe_steps).state
    assert first is not None
    digest = first.digest()
    next(recipe_steps)
    assert first.digest() == digest


def options_of(given: dict) -> dict:
    return {key: value for key, value in given.items() if key != "name"}


def test_torch_and_numpy_are_left_as_they_were():
    torch.manual_seed(5)
    np.random.seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), torch.get_num_threads()
    for _ in training.train(SASRec.Options(**options_of(SMALL)), rounds(), 0, None):
        assert torch.equal(torch.get_rng_state(), before[0])
        assert np.random.get_state()[1].tolist() == before[1]
        assert torch.get_num_threads() == before[2]


def test_it_stops_after_patience_epochs_without_progress_and_keeps_the_best():
    data = rounds()
    # At this rate it soon gets worse.
    options = {**SMALL, "lr": 0.3, "patience": 3, "max_epochs": 60}
    steps = steps_of(options, data)
    seen = [step.state.data["now"] for step in steps if step.state is not None]
    peak = int(np.argmax(seen)) + 1
    assert len(seen) == peak + 3 < 60
    result = result_of(steps)
    assert result.data["best_epoch"] == peak
    assert steps[-1].done == len(seen)
    assert f"(best {max(seen):.4f} at {peak})" in steps[-1].note
    assert quality(SASRec(result), data) == pytest.approx(max(seen))


def test_a_batch_in_parts_has_the_gradient_of_the_batch(monkeypatch):
    sequences = [np.arange(length) for length in (2, 9, 4, 7, 3, 3, 8)]
    weights = []
    for places in (1, 12, 10_000):
        monkeypatch.setattr(training, "_PLACES_AT_ONCE", {"cpu": places})
        parts = list(training.batches_by_length(sequences, torch.device("cpu")))
        assert sorted(len(sequences[at]) for part in parts for at in part) == [2, 3, 3, 4, 7, 8, 9]
        data = training_data(sequences, 10, [9] * len(sequences))
        run = training.SequentialTraining(
            SASRec.Options(hidden=8, max_length=9, dropout=0), data, 0, None
        )
        run.learn(range(len(run.sequences)))
        weights.append(run.weights["inner_weight"].grad)
    assert torch.allclose(weights[0], weights[2], atol=1e-6)
    assert torch.allclose(weights[1], weights[2], atol=1e-6)


def test_the_loss_is_the_mean_cross_entropy_of_its_definition():
    rng = np.random.default_rng(0)
    outputs, items = rng.normal(size=(6, 4)), rng.normal(size=(9, 4))
    targets, drawn = np.array([0, 3, 3, 8, 5, 1]), np.array([3, 5, 7, 2])
    for others in (None, drawn):
        expected = 0.0
        for output, target in zip(outputs, targets, strict=True):
            rivals = range(9) if others is None else [i for i in others if i != target]
            against = {int(target), *(int(i) for i in rivals)}
            logits = {i: float(output @ items[i]) for i in against}
            expected += np.log(sum(np.exp(v) for v in logits.values())) - logits[int(target)]
        given = (torch.from_numpy(a) for a in (outputs, targets, items))
        loss = training._loss(*given, None if others is None else torch.from_numpy(others))
        assert float(loss) == pytest.approx(expected)


@pytest.mark.parametrize("drawn", [None, [3, 5, 7, 2]])
def test_the_gradient_of_the_loss_is_that_of_its_definition(monkeypatch, drawn):
    monkeypatch.setattr(training, "_LOGITS_AT_ONCE", {"cpu": 20})  # two rows, or five, at once
    generator = torch.Generator().manual_seed(0)
    outputs, items = (
        torch.randn(rows, 4, generator=generator, dtype=torch.float64, requires_grad=True)
        for rows in (7, 9)
    )
    targets = torch.tensor([0, 3, 3, 8, 5, 1, 2])
    others = None if drawn is None else torch.tensor(drawn)

    def loss(outputs, items):
        return training._loss(outputs, targets, items, others) / 7

    assert torch.autograd.gradcheck(loss, (outputs, items))


def test_dropout_keeps_the_mean_and_its_share():
    torch.manual_seed(0)
    x = torch.ones(300, 401, requires_grad=True)
    found = training.dropped(x, 0.1)
    found.sum().backward()
    assert torch.equal(found, x.grad)
    assert len(found.unique()) == 2
    assert float((found == 0).float().mean()) == pytest.approx(0.1, abs=0.005)
    assert float(found.detach().mean()) == pytest.approx(1, abs=0.005)
    assert training.dropped(x, 0.0) is x
    assert training.dropped(x, 0.9999999).isfinite().all()


def test_negatives_are_drawn_where_the_catalogue_is_large_and_are_different_items():
    options, cpu = SASRec.Options(full_softmax=49, negatives=20), torch.device("cpu")
    drawn = training._draw(50, options, cpu)
    assert drawn is not None
    assert len(set(drawn.tolist())) == 20
    assert training._draw(49, options, cpu) is None
    assert training._draw(50, SASRec.Options(full_softmax=0, negatives=50), cpu) is None


def test_a_missing_gpu_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match=r"device: cuda.*run\.fit_gpus"):
        steps_of({**SMALL, "device": "cuda"}, rounds())


def test_validation_takes_at_most_so_many_users_by_the_seed():
    data = rounds(users=30)
    options = SASRec.Options(validation_users=5)
    checks = [
        training._Validation(histories(data), data.validation, options, seed) for seed in (0, 0, 1)
    ]
    drawn = [sorted(tuple(items) for items in check.seen) for check in checks]
    assert [len(users) for users in drawn] == [5, 5, 5]
    assert drawn[0] == drawn[1] != drawn[2]


def test_data_that_cannot_be_trained_on_is_refused():
    with pytest.raises(DataError, match="no user has two training interactions"):
        steps_of(SMALL, training_data([[1], [2]], 5, [3, 4]))
    with pytest.raises(DataError, match="no user has a validation item"):
        steps_of(SMALL, training_data([[1, 2], [2, 3]], 5))


def test_users_without_a_validation_item_or_a_second_item_do_no_harm():
    data = training_data([[1, 2, 3], [2, 3, 4], [4], []], 6, [4, -1, 5, 0])
    assert trained(SMALL, data).scores([1]).shape == (6,)


def test_using_a_trained_one_never_imports_torch(tmp_path):
    trained_content = result_of(steps_of(SMALL, rounds()))
    (tmp_path / "content").write_bytes(pickle.dumps(trained_content))
    code = (
        "import pickle, sys\n"
        "from pathlib import Path\n"
        "from agents.recommenders.core import RecommenderRef\n"
        "recipe = RecommenderRef.model_validate('sasrec').recipe()\n"
        "content = pickle.loads(Path(sys.argv[1]).read_bytes())\n"
        "assert recipe.load(content, None).scores([1, 2]).any()\n"
        "assert 'torch' not in sys.modules\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "content")]
    subprocess.run(command, check=True, timeout=LAST_GUARD_SECONDS)


def test_without_torch_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "agents.recommenders._sequential.training")
    with pytest.raises(UsageError, match=r"trained with torch.*\.\[train\]"):
        steps_of(SMALL, rounds())
