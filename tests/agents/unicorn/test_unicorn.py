"""UNICORN's parts against independent calculations."""

import numpy as np
import pytest
import torch

from agents.core import plugins
from agents.multi_round.rounds import Rounds
from agents.multi_round.space import AttributeSpace
from agents.unicorn import UNICORN
from agents.unicorn.actions import Actions, decisions_of
from agents.unicorn.network import NUMPY, initial, q_values, state_vectors
from agents.unicorn.replay import Replay
from agents.unicorn.training import TORCH, States
from tests.agents.multi_round import worlds
from tests.agents.multi_round.worlds import ONE, TAGS, A, B, C, marks


@pytest.fixture
def rounds():
    space = AttributeSpace.of(worlds.catalogue_of(TAGS))
    vectors = worlds.vectors_for(space)
    found = Rounds(space, vectors, vectors.users[:1], np.ones((1, 5), bool), 15)
    found.learn(ONE, marks(A), marks())
    found.answer(ONE, np.array([B]), marks(), marks(B))
    return found


def options(**given):
    return plugins.build_options(UNICORN.Options, {"hidden": 8, **given})


def test_the_graph_convolution_by_a_sparse_matrix_of_the_whole_graph(rounds):
    """Eq. 8 and 9 over user, candidates and values, as the paper writes it."""
    given = Actions.of(rounds, ONE, options(), items=10)
    w = initial(np.random.default_rng(0), 4, 8)
    # Nodes: 0 the user, 1 to 3 the candidates 0 to 2, then the values a and c; b was refused.
    edges = {(1, 4): 1.0, (2, 4): 1.0, (3, 4): 1.0, (2, 5): 1.0, (3, 5): 1.0}
    for place, score in enumerate(rounds.scores(0)):
        edges[0, 1 + place] = 1 / (1 + np.exp(-score))
    both = {**edges, **{(b, a): weight for (a, b), weight in edges.items()}}
    indices = torch.tensor(list(both)).T
    adjacency = torch.sparse_coo_tensor(indices, torch.tensor(list(both.values())), (6, 6))
    degrees = torch.sparse.sum(adjacency, dim=1).to_dense()
    scale = torch.sparse_coo_tensor(torch.arange(6).repeat(2, 1), degrees**-0.5, (6, 6))
    normalised = torch.sparse.mm(torch.sparse.mm(scale, adjacency), scale).float()
    nodes = torch.from_numpy(
        np.concatenate(
            [rounds.users, rounds.vectors.items[:3], rounds.vectors.facts[[A, C]]]
        ).astype(np.float32)
    )
    near, own = torch.from_numpy(w["near"]), torch.from_numpy(w["own"])
    wanted = torch.relu(torch.sparse.mm(normalised, nodes @ near) + nodes @ own)[4]
    states = given.states
    found = np.maximum(states.near @ w["near"] + states.own[:, 0] @ w["own"] + w["graph_bias"], 0)
    assert found[0] == pytest.approx(wanted.numpy(), abs=1e-5)
    assert np.abs(found).max() > 0.1


def test_torch_and_numpy_make_the_same_of_padded_states():
    rng = np.random.default_rng(2)
    w = {n: a + 0.1 * rng.standard_normal(a.shape) for n, a in initial(rng, 4, 8).items()}
    w = {name: array.astype(np.float32) for name, array in w.items()}
    real = np.array([[1, 0, 0], [1, 1, 0], [1, 1, 1], [0, 0, 0]], np.float32)
    own = rng.standard_normal((4, 3, 4)).astype(np.float32) * real[:, :, None]
    states = States(rng.standard_normal((4, 4)).astype(np.float32), own, real)
    actions = rng.standard_normal((4, 5, 4)).astype(np.float32)
    found = q_values(w, NUMPY, state_vectors(w, NUMPY, states, 2), actions)
    tensors = {name: torch.from_numpy(array) for name, array in w.items()}
    given = States(*(torch.from_numpy(array) for array in states))
    same = q_values(
        tensors, TORCH, state_vectors(tensors, TORCH, given, 2), torch.from_numpy(actions)
    )
    assert found == pytest.approx(same.numpy(), abs=1e-4)
    # Padding changes nothing.
    short = States(states.near[:1], own[:1, :1], real[:1, :1])
    assert state_vectors(w, NUMPY, short, 2) == pytest.approx(
        state_vectors(w, NUMPY, states, 2)[:1], abs=1e-5
    )


def test_the_transformer_is_torchs():
    rng = np.random.default_rng(3)
    w = initial(rng, 4, 8)
    w = {n: (a + 0.1 * rng.standard_normal(a.shape)).astype(np.float32) for n, a in w.items()}
    layer = torch.nn.TransformerEncoderLayer(8, 2, 32, dropout=0, batch_first=True)
    t = {name: torch.from_numpy(array) for name, array in w.items()}
    with torch.no_grad():
        parts = ("query", "key", "value")
        layer.self_attn.in_proj_weight.copy_(torch.cat([t[name].T for name in parts]))
        layer.self_attn.in_proj_bias.copy_(torch.cat([t[f"{name}_bias"] for name in parts]))
        layer.self_attn.out_proj.weight.copy_(t["out"].T)
        layer.self_attn.out_proj.bias.copy_(t["out_bias"])
        for mine, its in (("inner", layer.linear1), ("outer", layer.linear2)):
            its.weight.copy_(t[mine].T)
            its.bias.copy_(t[f"{mine}_bias"])
        for mine, its in (("first", layer.norm1), ("second", layer.norm2)):
            its.weight.copy_(t[f"{mine}_scale"])
            its.bias.copy_(t[f"{mine}_shift"])
        near = torch.from_numpy(rng.standard_normal((2, 4)).astype(np.float32))
        own = torch.from_numpy(rng.standard_normal((2, 3, 4)).astype(np.float32))
        nodes = torch.relu((near @ t["near"])[:, None] + own @ t["own"] + t["graph_bias"])
        wanted = torch.relu(layer(nodes).mean(dim=1) @ t["state"] + t["state_bias"])
        states = States(near.numpy(), own.numpy(), np.ones((2, 3), np.float32))
    assert state_vectors(w, NUMPY, states, 2) == pytest.approx(wanted.numpy(), abs=1e-4)


def test_actions_are_the_best_candidates_and_the_most_most_informative_questions(rounds):
    given = Actions.of(rounds, ONE, options(), items=2)
    best = rounds.best(ONE, 2)[0]
    assert given.ids[0].tolist() == [*(best + 4), C, *[-1] * 9]
    assert given.accepted.tolist() == [[A]]
    vectors = given.vectors(rounds)[0]
    assert vectors[0] == pytest.approx(rounds.vectors.items[best[0]])
    assert vectors[2] == pytest.approx(rounds.vectors.facts[C])
    by_preference = Actions.of(rounds, ONE, options(question_selection="preference"), items=2)
    assert by_preference.ids.tolist() == given.ids.tolist()  # only one question is left


def test_the_highest_value_is_done_and_items_are_shown_by_value(rounds):
    given = Actions.of(rounds, ONE, options(asked=1), items=3)
    best = rounds.best(ONE, 3)[0].tolist()
    asks = decisions_of(given, np.array([[0.1, 0.3, 0.2, 0.5]]), rounds, 2)
    assert (asks.questions.tolist(), asks.items.tolist()) == ([C], [[-1, -1]])
    shows = decisions_of(given, np.array([[0.1, 0.3, 0.2, 0.0]]), rounds, 2)
    assert (shows.questions.tolist(), shows.items.tolist()) == ([-1], [[best[1], best[2]]])
    few = decisions_of(given, np.array([[0.1, 0.3, 0.2, 0.5]]), rounds, 3, np.array([True]))
    assert (few.questions.tolist(), few.items.tolist()) == ([-1], [best])


def test_prioritised_replay_by_hand():
    replay = Replay(4, alpha=0.5, beta=0.4)
    replay.add({"turn": np.arange(3)})
    assert replay.probabilities() == pytest.approx([1 / 3] * 3)
    replay.update(np.array([0, 2]), np.array([-0.99, 0.0]))
    powers = np.array([1.0, 0.11, 0.01]) ** 0.5
    assert replay.probabilities() == pytest.approx(powers / powers.sum())
    replay.add({"turn": np.arange(3, 5)})  # as likely as the largest error; the oldest goes
    assert replay.parts["turn"].tolist() == [4, 1, 2, 3]
    powers = np.array([1.0, 0.11, 0.01, 1.0]) ** 0.5
    assert replay.probabilities() == pytest.approx(powers / powers.sum())
    rng = np.random.default_rng(0)
    counts, draws = np.zeros(4), 4000
    for _ in range(draws // 4):
        places, weights = replay.draw(4, rng)
        counts += np.bincount(places, minlength=4)
        wanted = (4 * replay.probabilities()[places]) ** -replay.beta
        assert weights == pytest.approx(wanted / wanted.max(), rel=1e-5)
    assert counts / draws == pytest.approx(replay.probabilities(), abs=0.02)
    assert replay.beta == 1.0
    data, arrays = replay.state()
    again = Replay(4, 0.5, 0.4)
    again.restore(data, arrays)
    one, two = (r.draw(4, np.random.default_rng(1)) for r in (replay, again))
    assert one[0].tolist() == two[0].tolist()
    assert again.parts["turn"].tolist() == replay.parts["turn"].tolist()
