"""CRIF's state, its inference and the preferences that its reward is learned from, by hand."""

import numpy as np
import pytest

from agents.core import plugins
from agents.core.artifacts import Content
from agents.crif import CRIF
from agents.crif.policy import ASK, RECOMMEND, implied_dislikes, most_informative_questions
from agents.crif.training import asking_is_better
from agents.multi_round.rounds import Rounds
from agents.multi_round.space import AttributeSpace
from tests.agents.multi_round import toy
from tests.agents.multi_round.worlds import ONE, TAGS, A, B, C, catalogue_of, marks, vectors_for

NONE = np.zeros(0, np.int64)


def begun(exclude=False):
    space = AttributeSpace.of(catalogue_of(TAGS))
    vectors = vectors_for(space)
    rounds = Rounds(space, vectors, vectors.users[:1], np.ones((1, 5), bool), 15, exclude=exclude)
    rounds.learn(ONE, marks(A), marks())
    return rounds


def policy(**options):
    given = plugins.build_options(CRIF.Options, {"turns": 3, "shown": 1, **options})
    return CRIF.recipe(given).policy_of(Content())


def test_the_state_holds_outcomes_and_the_number_of_candidates_in_lists():
    rounds = begun()
    rounds.answer(ONE, np.array([B]), marks(), marks(B))
    state = policy().states(rounds, ONE)[0]
    assert state[:3].tolist() == [-0.5, 0, 0]
    assert state[3:].tolist() == [0, 1, 0, 0, 0, 0, 0, 0]  # 3 candidates: more than 1, at most 5
    assert policy(shown=3).states(rounds, ONE)[0][3:].tolist() == [1, *[0] * 7]


def test_it_asks_what_is_most_telling_while_there_is_something_to_ask():
    rounds = begun()
    rounds.answer(ONE, np.array([B]), marks(), marks(B))
    assert most_informative_questions(rounds, ONE).tolist() == [C]
    assert policy().open_actions(rounds, ONE).tolist() == [[True, True]]
    asks = policy().decisions(np.array([ASK]), rounds, ONE, 2)
    assert (asks.questions.tolist(), asks.items.tolist()) == ([C], [[-1, -1]])
    shows = policy().decisions(np.array([RECOMMEND]), rounds, ONE, 2)
    assert shows.questions.tolist() == [-1]
    assert shows.items.tolist() == rounds.best(ONE, 2).tolist()
    rounds.answer(ONE, np.array([C]), marks(), marks(C))
    assert most_informative_questions(rounds, ONE).tolist() == [-1]
    assert policy().open_actions(rounds, ONE).tolist() == [[False, True]]


def test_a_refusal_is_put_down_to_the_facts_that_could_explain_it():
    rounds = begun()
    # Item 0 has b besides what was accepted, item 2 has b and c.
    found = implied_dislikes(rounds, ONE, np.array([[0, 2, -1]]))
    assert found[0] == pytest.approx([0, (1 + 1 / 2) / 2, (1 / 2) / 2, 0])
    assert implied_dislikes(rounds, ONE, np.array([[-1, -1]])).tolist() == [[0, 0, 0, 0]]


def test_inference_moves_the_user_away_from_refused_items_and_implied_dislikes():
    rounds = begun()
    before = rounds.users[0].copy()
    policy(inference=0.2).begin(rounds)
    rounds.refuse(ONE, np.array([[0, 2, -1]]))
    items, facts = rounds.vectors.items, rounds.vectors.facts
    wanted = (items[0] + items[2]) / 2 + 0.75 * facts[B] + 0.25 * facts[C]
    assert rounds.users[0] == pytest.approx(before - 0.2 * wanted, abs=1e-5)
    assert rounds.scores(0) == pytest.approx(rounds.score(0, rounds.candidates(0)), abs=1e-5)
    still = begun()
    policy(inference=0).begin(still)
    still.refuse(ONE, np.array([[0, 2]]))
    assert (still.users[0] == before).all()


@pytest.mark.parametrize("exclude", [False, True])
def test_the_rank_after_an_answer_is_the_rank_once_it_is_given(exclude):
    for liked, disliked in (((), ()), ((B,), ()), ((), (B,)), ((), (B, C))):
        tried = begun(exclude)
        target = 2 if B in liked else 1 if C not in disliked else 0
        if exclude and target not in (1, 2):
            continue  # no user of this target answers so
        yes, no = np.array(liked, int), np.array(disliked, int)
        found = tried.rank_of(0, target, yes, no)
        tried.learn(ONE, marks(*liked), marks(*disliked))
        order = tried.candidates(0)[np.argsort(-tried.scores(0), kind="stable")].tolist()
        assert found == (order.index(target), len(order)) == tried.rank_of(0, target, NONE, NONE)


def test_asking_is_preferred_where_it_brings_the_target_further_ahead():
    practice = toy.toy()
    users, targets = np.zeros(16, np.int64), np.arange(16)
    rounds, people = practice.of(users, targets)
    rows = np.arange(16)
    kind = np.zeros((16, len(practice.space.facts)), bool)
    kind[:, 0] = True
    rounds.learn(rows, kind, np.zeros_like(kind))
    found = asking_is_better(rounds, people, rows, 1)
    for row in rows:
        order = rounds.candidates(row)[np.argsort(-rounds.scores(row), kind="stable")].tolist()
        rank = order.index(row)
        asked, other = practice.of(users[:1], targets[row : row + 1])
        question = most_informative_questions(rounds, rows[row : row + 1])
        asked.learn(ONE, kind[:1], np.zeros_like(kind[:1]))
        asked.answer(ONE, question, *other.answers(ONE, question))
        then = asked.candidates(0)[np.argsort(-asked.scores(0), kind="stable")].tolist()
        margin = rank - then.index(row) - 1  # a recommendation shows one item
        if rank > 5:
            margin += 0.5 * (len(order) - len(then) - 1)
        assert found[row] == (rank >= 1 and margin > 0)
    assert found.any()
    assert not found.all()


def test_the_learned_reward_prefers_what_is_preferred():
    recipe = CRIF.recipe(
        plugins.build_options(
            CRIF.Options, {**toy.OPTIONS, "updates": 20, "at_once": 16, "hidden": 16, "lr": 0.02}
        )
    )
    run = recipe.training(toy.toy(), 0, None)
    while run.done < run.most:
        run.one_round()
    w = run.result().arrays
    early = np.zeros((1, toy.TURNS + 8), np.float32)
    early[0, toy.TURNS + 3] = 1  # 16 candidates, nothing asked yet
    late = np.zeros_like(early)
    late[0, :2], late[0, toy.TURNS] = 0.5, 1  # two questions answered, one candidate left

    def reward(state):
        inner = np.maximum(state @ w["reward_inner"] + w["reward_inner_bias"], 0)
        return np.tanh(inner @ w["reward_outer"] + w["reward_outer_bias"])[0]

    assert reward(early)[ASK] > reward(early)[RECOMMEND]
    assert reward(late)[RECOMMEND] > reward(late)[ASK]
