"""Many dialogues at once: against calculations by hand, and against dialogues one by one."""

import numpy as np
import pytest

from agents.core import plugins
from agents.multi_round.agent import VECTORS
from agents.multi_round.policy import AbsGreedyPolicy, MaxEntropyPolicy
from agents.multi_round.practice import Clock, DialogueRules, Game, Practice, Rewards
from agents.multi_round.rounds import ASK_NO, REC_NO, Outcomes, Rounds, Users, top
from agents.multi_round.space import AttributeSpace
from simulators.domains.lastfm import LastFM
from simulators.domains.yelp import Yelp
from tests.agents.multi_round import worlds
from tests.agents.multi_round.worlds import ONE, TAGS, A, B, C, D, marks
from tests.fixtures_scpr import write_lastfm, write_yelp

NO_REWARDS = Rewards(0, 0, 0, 0, 0)


@pytest.fixture
def space():
    return AttributeSpace.of(worlds.catalogue_of(TAGS))


def begun(space, *, exclude=False) -> Rounds:
    vectors = worlds.vectors_for(space)
    allowed = np.ones((1, 5), bool)
    return Rounds(space, vectors, vectors.users[:1], allowed, 15, exclude=exclude)


def test_scores_are_those_of_the_papers_by_hand(space):
    rounds = begun(space)
    rounds.learn(ONE, marks(A), marks())
    rounds.answer(ONE, np.array([B]), marks(), marks(B))
    u, v, p = rounds.users[0], rounds.vectors.items, rounds.vectors.facts
    for item, tags in enumerate(TAGS):
        wanted = v[item] @ u + v[item] @ p[A]
        if "b" in tags:
            wanted -= 1 / (1 + np.exp(-(v[item] @ p[B])))
        assert rounds.score(0, np.array([item]))[0] == pytest.approx(wanted, rel=1e-5)
    assert rounds.candidates(0).tolist() == [0, 1, 2]
    assert rounds.scores(0) == pytest.approx(rounds.score(0, np.arange(3)), rel=1e-5)
    assert rounds.outcomes[0, :2].tolist() == [ASK_NO, 0]
    best = rounds.best(ONE, 3)[0].tolist()
    assert best == sorted([0, 1, 2], key=lambda item: -rounds.scores(0)[item])


def test_entropies_by_hand_with_and_without_weights(space):
    rounds = begun(space)
    rounds.learn(ONE, marks(A), marks())

    def entropy(share: float) -> float:
        return -share * np.log2(share) - (1 - share) * np.log2(1 - share)

    found = rounds.entropies(rounds.shares(ONE))[0]
    assert found == pytest.approx([0, entropy(2 / 3), entropy(2 / 3), 0])
    weights = 1 / (1 + np.exp(-rounds.scores(0)))
    share = weights[[0, 2]].sum() / weights.sum()
    weighted = rounds.entropies(rounds.weighted_shares(ONE))
    assert weighted[0, B] == pytest.approx(entropy(share), rel=1e-4)
    assert rounds.reachable(ONE)[0].tolist() == [False, True, True, False]


def test_refused_facts_narrow_the_candidates_only_if_they_exclude(space):
    for exclude, wanted in ((False, [0, 1, 2]), (True, [1])):
        rounds = begun(space, exclude=exclude)
        rounds.learn(ONE, marks(A), marks())
        rounds.answer(ONE, np.array([B]), marks(), marks(B))
        assert rounds.candidates(0).tolist() == wanted


def test_contradictions_and_exhausted_candidates_leave_something_to_recommend(space):
    rounds = begun(space)
    rounds.learn(ONE, marks(A, D), marks())  # nothing has both
    assert rounds.candidates(0).tolist() == [0, 1, 2]
    rounds.refuse(ONE, np.array([[0, 1, 2]]))
    assert rounds.candidates(0).tolist() == [3, 4]
    rounds.refuse(ONE, np.array([[3, 4, -1]]))
    assert not len(rounds.candidates(0))
    assert rounds.outcomes[0, :2].tolist() == [REC_NO, REC_NO]
    assert rounds.best(ONE, 2).tolist() == [[-1, -1]]


def test_top_breaks_ties_by_position():
    values = np.array([1, 3, 3, 2])
    assert top(values, 2).tolist() == [1, 2]
    assert top(values, 9).tolist() == [1, 2, 3, 0]
    assert top(np.full(4, 5), 2).tolist() == [0, 1]


def test_outcomes_by_hand():
    found = Outcomes(np.array([1, 3, 0]), np.array([1, 2, 0]))
    assert found.success(1) == pytest.approx(1 / 3)
    assert found.success(3) == pytest.approx(2 / 3)
    assert found.average_turns(15) == pytest.approx((1 + 3 + 15) / 3)
    # 1/log2(3) + (1/log2(2) - 1/log2(3)) / log2(2) = 1; 1/log2(5) + (1/2 - 1/log2(5)) / log2(3)
    second = 1 / np.log2(5) + (1 / 2 - 1 / np.log2(5)) / np.log2(3)
    assert found.hdcg() == pytest.approx((1 + second) / 3)


def test_users_open_with_the_fact_that_the_draw_picks(space):
    users = Users(space, np.array([2, 2, 2, 3]))
    openings = users.opening(np.array([0, 1, 5, 7]))
    assert [np.flatnonzero(row).tolist() for row in openings] == [[A], [B], [C], [B]]
    liked, disliked = users.answers(np.array([0, 3]), np.array([C, C]))
    assert liked[0].tolist() == [False, False, True, False]
    assert disliked[1].tolist() == [False, False, True, False]


MAKE = {"lastfm": (LastFM, write_lastfm), "yelp": (Yelp, write_yelp)}


@pytest.mark.parametrize(("data", "form"), [("lastfm", "binary"), ("yelp", "enumerated")])
@pytest.mark.parametrize(
    ("name", "policy", "more"),
    [
        ("max_entropy", MaxEntropyPolicy(), {}),
        ("max_entropy", MaxEntropyPolicy(2), {"asks": 2}),
        ("abs_greedy", AbsGreedyPolicy(), {}),
    ],
)
def test_dialogues_at_once_are_those_with_the_real_user(tmp_path, data, form, name, policy, more):
    cls, write = MAKE[data]
    domain = cls(plugins.build_options(cls.Options, {"path": write(tmp_path / data)}))
    space = AttributeSpace.of(domain.catalogue, form)
    vectors = worlds.vectors_for(space, users=30)
    case_ids = domain.case_ids("test")[:40]
    cases = [domain.case("test", case_id) for case_id in case_ids]
    place = domain.catalogue.position
    allowed = np.ones((len(cases), len(place)), bool)
    for row, case in enumerate(cases):
        allowed[row, [place[item.id] for item in case.visible.history]] = False
    vector = np.stack([vectors.user(case.visible) for case in cases])
    users = Users(space, np.array([place[case.hidden.targets[0].id] for case in cases]))
    actions: list[list[tuple[int, tuple[int, ...]]]] = [[] for _ in cases]

    rounds = Rounds(space, vectors, vector, allowed, 15)
    rules = DialogueRules(6, 3, form, repeat=False, exclude=False)
    table = Practice(domain.training_data(), vectors, rules)
    draws = worlds.opening_draws(case_ids, 3)
    game = Game(table, rounds, users, draws, NO_REWARDS, Clock())
    while len(rows := game.rows):
        dice = worlds.decision_draws([case_ids[row] for row in rows], 3, game.turn + 1)
        decided = policy.decide(rounds, rows, dice, 3)
        for row, question, items in zip(rows, *decided, strict=True):
            shown = () if question >= 0 else tuple(int(i) for i in items if i >= 0)
            actions[row].append((int(question), shown))
        game.play(decided)
    found = Outcomes(game.won, game.places)
    assert found.turns.max() > 2
    asked = 0
    for row, case_id in enumerate(case_ids):
        made = worlds.dialogue(
            name, domain, case_id, {VECTORS: vectors}, seed=3, turns=6, shown=3, questions=form,
            **more,
        )  # fmt: skip
        if more:
            places = [turn.agent.action == "ask" for turn in made.turns]
            assert not any(places[2:])
        assert (made.success_turn or 0) == found.turns[row]
        assert len(made.turns) == len(actions[row])
        for turn, (question, shown) in zip(made.turns, actions[row], strict=True):
            assert tuple(place[item.id] for item in turn.agent.shown) == shown
            assert (turn.agent.action == "ask") == (question >= 0)
            if question >= 0:
                asked += 1
                liked, _ = users.answers(np.array([row]), np.array([question]))
                named = turn.user.text.count('"') // 2
                assert liked.sum() == (named if form == "enumerated" else turn.user.text == "Yes.")
    assert asked > 20 or name == "abs_greedy"
