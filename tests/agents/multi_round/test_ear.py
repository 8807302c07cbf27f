"""EAR's state and reflection, and CRM's belief, by hand."""

import numpy as np
import pytest

from agents.core import plugins
from agents.core.artifacts import Content
from agents.crm import CRM
from agents.ear import EAR
from agents.multi_round.rounds import Rounds
from agents.multi_round.space import AttributeSpace
from tests.agents.multi_round import worlds
from tests.agents.multi_round.worlds import ONE, TAGS, A, B, marks


def begun(had=()):
    space = AttributeSpace.of(worlds.catalogue_of(TAGS))
    vectors = worlds.vectors_for(space)
    histories = np.array([had], np.int64).reshape(1, -1)
    allowed = np.ones((1, 5), bool)
    rounds = Rounds(space, vectors, vectors.users[:1], allowed, 15, histories=histories)
    rounds.learn(ONE, marks(A), marks())
    rounds.answer(ONE, np.array([B]), marks(), marks(B))
    return rounds


def policy(cls, **options):
    recipe = cls.recipe(plugins.build_options(cls.Options, {"turns": 3, **options}))
    return recipe.policy_of(Content())


def test_the_state_of_ear():
    rounds = begun()
    state = policy(EAR).states(rounds, ONE)[0]
    share = np.array([1, 2 / 3, 2 / 3, 0])
    entropy = [0, *[-s * np.log2(s) - (1 - s) * np.log2(1 - s) for s in share[1:3]], 0]
    assert state[:4] == pytest.approx(entropy, abs=1e-6)
    facts = rounds.vectors.facts
    liked = rounds.users[0] + facts[A]
    assert state[4:8] == pytest.approx(np.tanh(facts @ liked), rel=1e-5)
    assert state[8:11].tolist() == [-0.5, 0, 0]
    assert state[11:].tolist() == [1, *[0] * 11]  # 3 candidates: at least 2, not 4


def test_the_belief_of_crm():
    assert policy(CRM).states(begun(), ONE)[0] == pytest.approx([1, 0, 2 / 3, 0])


def test_reflection_is_a_step_along_the_gradient_of_eq_13():
    rounds = begun(had=[3, 4, -1])
    items, before = rounds.vectors.items, rounds.users[0].copy()
    agreed = rounds.vectors.facts[A]

    def loss(user):
        total = 0.0
        for liked in (3, 4):
            for refused in (0, 1):
                margin = (user + agreed) @ (items[liked] - items[refused])
                total -= np.log(1 / (1 + np.exp(-margin)))
        return total / 4

    slope = np.array(
        [
            (loss(before + step) - loss(before - step)) / 2e-3
            for step in np.eye(4, dtype=np.float64) * 1e-3
        ]
    )
    policy(EAR, reflection=0.5).begin(rounds)
    rounds.refuse(ONE, np.array([[0, 1]]))
    assert rounds.users[0] == pytest.approx(before - 0.5 * slope, abs=1e-4)
    assert rounds.scores(0) == pytest.approx(rounds.score(0, rounds.candidates(0)), abs=1e-5)
    still = begun(had=[3, 4, -1])
    policy(EAR, reflection=0).begin(still)
    still.refuse(ONE, np.array([[0, 1]]))
    assert (still.users[0] == before).all()


def test_likelier_items_of_the_history_raise_what_is_like_them():
    rounds = begun(had=[])
    policy(EAR).begin(rounds)
    before = rounds.users.copy()
    rounds.refuse(ONE, np.array([[0, 1]]))  # a user without a history learns nothing
    assert (rounds.users == before).all()
