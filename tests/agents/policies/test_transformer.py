"""The built-in network: in numpy what it is in torch, and the same in any company."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from agents.core.artifacts import Content
from agents.policies.core.network import NetworkRef
from agents.policies.core.trained import TrainedPolicy, drawn, log_softmax
from agents.policies.transformer import TransformerNetwork
from agents.policies.transformer.words import (
    BUCKETS,
    READ_OUT,
    vocabulary_of,
    word_ids,
    word_places,
)
from agents.training.weights import seeded

TEXTS = ["", "user: a funny film", "recommender: why?\nuser: because it is " + "very " * 40 + "sad"]


def content(seed: int = 0, **options: object) -> Content:
    own = {"width": 8, "heads": 2, "blocks": 2, "context": 24, **options}
    ref = NetworkRef.model_validate({"name": "transformer", **own})
    found = TransformerNetwork.fresh(ref.options, TEXTS, 3, seed)
    drawn = np.random.default_rng(seed)  # far from 0, so that every part of it counts
    arrays = {n: a + drawn.normal(0, 0.3, a.shape).astype(a.dtype) for n, a in found.arrays.items()}
    return Content(found.data, arrays)


@pytest.mark.parametrize(("blocks", "heads", "seed"), [(1, 1, 0), (2, 2, 1), (3, 4, 2)])
def test_numpy_gives_what_torch_gives_for_a_padded_batch(blocks, heads, seed):
    made = content(seed, blocks=blocks, heads=heads)
    in_torch = TransformerNetwork.trainable(made, torch.device("cpu")).logits(TEXTS, dropout=False)
    in_numpy = TransformerNetwork(made).logits(TEXTS)
    assert np.allclose(in_torch.detach().numpy(), in_numpy, atol=1e-5)
    assert np.ptp(in_numpy, axis=0).min() > 1e-3  # texts differ


def test_a_text_has_the_same_bits_in_any_batch_and_with_dropout_by_its_seed():
    network = TransformerNetwork(content())
    alone = network.logits([TEXTS[1]])[0]
    assert (network.logits(TEXTS)[1] == alone).all()
    dropped = network.logits(TEXTS, [5, 6, 7])
    assert (network.logits([TEXTS[1]], [6])[0] == dropped[1]).all()
    assert (network.logits([TEXTS[1]], [8])[0] != dropped[1]).any()
    assert (dropped[1] != alone).any()


def test_dropout_in_numpy_is_distributed_as_in_torch():
    made = content(width=16, heads=1, blocks=1, dropout=0.3)
    text = [TEXTS[1]]
    in_numpy = np.stack([TransformerNetwork(made).logits(text, [s])[0] for s in range(400)])
    network = TransformerNetwork.trainable(made, torch.device("cpu"))
    with seeded(0, 0, 1, torch.device("cpu")), torch.inference_mode():
        in_torch = network.logits(text * 400, dropout=True).numpy()
    spread = in_torch.std(axis=0)
    assert np.allclose(in_numpy.mean(axis=0), in_torch.mean(axis=0), atol=5 * spread.max() / 20)
    assert np.allclose(in_numpy.std(axis=0), spread, rtol=0.3)


def test_it_is_drawn_by_the_seed_and_its_digest_follows_its_weights():
    assert content(1).digest() == content(1).digest()
    assert content(1).digest() != content(2).digest()


def test_it_reads_the_end_of_a_text_and_every_word_of_it():
    words = vocabulary_of(["a film a film, a plot", "a rare film"], 3)
    assert words == ["a", "film"]  # what occurs once is not a word
    found = word_ids("A film?\nzebra", word_places(words), 100).tolist()
    assert found[:2] == [3 + BUCKETS, 3 + BUCKETS + 1]
    assert 3 <= found[4] < 3 + BUCKETS and found[-1] == READ_OUT
    assert word_ids("x " * 500 + "film", word_places(words), 3).tolist()[1:] == [68, READ_OUT]


def test_options_are_checked():
    with pytest.raises(ValidationError, match=r"transformer: width \(10\) must be a multiple"):
        NetworkRef.model_validate({"name": "transformer", "width": 10, "heads": 4})
    with pytest.raises(ValidationError, match="did you mean 'heads'"):
        NetworkRef.model_validate({"name": "transformer", "head": 4})
    with pytest.raises(ValidationError, match="did you mean 'transformer'"):
        NetworkRef.model_validate("transformers")


def test_draws_follow_the_probabilities_and_the_seed():
    made = content()
    policy = TrainedPolicy(TransformerNetwork(made), ["x", "y", "z"], made, "transformer")
    wanted = np.exp(log_softmax(TransformerNetwork(made).logits([TEXTS[1]])))[0]
    found = policy.decide([TEXTS[1]] * 300, range(300), "sample")
    share = [sum(each.label == label for each in found) / 300 for label in policy.labels]
    assert np.allclose(share, wanted, atol=0.1)
    assert found[:9] == policy.decide([TEXTS[1]] * 9, range(9), "sample")
    first = found[0]
    assert first.digest == made.digest()
    assert sum(first.probabilities.values()) == pytest.approx(1)
    assert first.log_probability == pytest.approx(np.log(first.probabilities[first.label]))
    best = policy.labels[int(wanted.argmax())]
    assert {d.label for d in policy.decide([TEXTS[1]] * 9, range(9), "argmax")} == {best}
    flat = policy.decide([TEXTS[1]] * 9, range(9), "sample_dropout")
    assert len({each.log_probability for each in flat}) == 9


def test_a_draw_picks_by_cumulated_probability():
    row = np.array([0.2, 0.0, 0.8])
    assert [drawn(row, at) for at in (0.0, 0.19, 0.2, 0.999999)] == [0, 0, 2, 2]


def test_weights_that_are_not_finite_are_refused():
    made = content()
    arrays = {**made.arrays, "labels_bias": np.full(3, np.nan, np.float32)}
    broken = TrainedPolicy(TransformerNetwork(Content(made.data, arrays)), "xyz", made, "t")
    with pytest.raises(ValueError, match="not finite"):
        broken.decide(["a"], [0], "sample")
