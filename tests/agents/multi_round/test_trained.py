"""Trained policies: they resume to the bit, and reach the best policy of a world that has one."""

from typing import Any

import numpy as np
import pytest

from agents.core import plugins
from agents.core.artifacts import Content
from agents.core.errors import DataError
from agents.core.items import Pairs
from agents.multi_round.agent import VECTORS
from agents.multi_round.practice import Clock, Game, Practice, Rewards
from agents.multi_round.reinforce import drawn
from agents.multi_round.trained import POLICY
from simulators.domains.lastfm import LastFM
from tests.agents.multi_round import toy, worlds
from tests.fixtures_scpr import write_lastfm

SMALL = {
    "ear": {"imitated": 2, "updates": 3, "at_once": 8, "hidden": 6},
    "crm": {"imitated": 2, "updates": 3, "at_once": 8, "hidden": 6},
    "crif": {"imitated": 2, "updates": 3, "at_once": 8, "hidden": 6},
    "unicorn": {
        "dialogues": 40, "at_once": 8, "batch_size": 8, "updates_every": 8, "hidden": 8,
        "replay": 40,
    },
}  # fmt: skip
every = pytest.mark.parametrize("name", SMALL)


def recipe_of(name, **options):
    cls = plugins.load("agents", name, "agent")
    return cls.recipe(plugins.build_options(cls.Options, {**toy.OPTIONS, **options}))


@every
def test_training_resumes_to_the_bit_and_keeps_its_curve(name):
    recipe = recipe_of(name, **SMALL[name])
    steps = list(recipe.train(toy.toy(), 3, None))
    whole = steps[-1].result
    assert whole is not None
    assert len(whole.data["curve"]) == len(steps) - 1 == 5
    assert {"success", "turns", "loss"} <= set(whole.data["curve"][0])
    assert [step.measured for step in steps[:-1]] == whole.data["curve"]
    for cut in (1, 2):
        resumed = list(recipe.train(toy.toy(), 3, steps[cut].state))
        assert len(resumed) == len(steps) - 1 - cut
        assert resumed[-1].result is not None
        assert resumed[-1].result.digest() == whole.digest()
    other = list(recipe.train(toy.toy(), 4, None))[-1].result
    assert other is not None
    assert other.digest() != whole.digest()


@pytest.mark.parametrize("name", ["ear", "crm", "crif"])
def test_a_trained_policy_reaches_the_best_one(name):
    practice = toy.toy(seed=1)
    recipe = recipe_of(name, imitated=10, updates=80, at_once=64, lr=0.01)
    content = worlds_result(recipe, practice, 1)
    found = practice.evaluate(recipe.policy_of(content), practice.users, practice.targets, 0)
    assert toy.share_of_best(found) >= 0.95


def worlds_result(recipe, practice, seed) -> Content:
    *_, last = recipe.train(practice, seed, None)
    assert last.result is not None
    return last.result


@pytest.mark.parametrize(
    ("name", "more"), [*((name, {}) for name in SMALL), ("ear", {"actions": "sampled"})]
)
def test_dialogues_at_once_are_those_with_the_real_user(tmp_path, name, more):
    made_up: Any = plugins.build_options(LastFM.Options, {"path": write_lastfm(tmp_path / "l")})
    domain = LastFM(made_up)
    cls = plugins.load("agents", name, "agent")
    options = plugins.build_options(cls.Options, {**SMALL[name], "turns": 6, "shown": 3})
    data = domain.training_data()
    recipe = cls.recipe(options)
    assert recipe.stand_in().identity() != recipe.identity()
    made = {VECTORS: worlds.result_of(recipe.inputs()[VECTORS].stand_in(), data)}
    recipe = recipe.given(made)
    made[POLICY] = worlds.result_of(recipe, data)
    found = {
        VECTORS: recipe.inputs()[VECTORS].load(made[VECTORS], domain.catalogue),
        POLICY: recipe.load(made[POLICY], domain.catalogue),
    }
    practice = Practice(data, found[VECTORS], options.rules())
    case_ids = list(domain.case_ids("test"))[:20]
    cases = [domain.case("test", case_id) for case_id in case_ids]
    user = {name: place for place, name in enumerate(data.interactions.user_ids)}
    users = np.array([user[case.visible.user_id] for case in cases])
    place = domain.catalogue.position
    targets = np.array([place[case.hidden.targets[0].id] for case in cases])
    rounds, people = practice.of(users, targets)
    policy = found[POLICY].sampled() if more else found[POLICY]
    policy.begin(rounds)
    draws = worlds.opening_draws(case_ids, 5)
    game = Game(practice, rounds, people, draws, Rewards(0, 0, 0, 0, 0), Clock())
    actions: list[list[tuple[int, ...]]] = [[] for _ in cases]
    while len(rows := game.rows):
        dice = worlds.decision_draws([case_ids[row] for row in rows], 5, game.turn + 1)
        decided = policy.decide(rounds, rows, dice, 3)
        for row, question, items in zip(rows, *decided, strict=True):
            shown = tuple(int(i) for i in items if i >= 0)
            actions[row].append(() if question >= 0 else shown)
        game.play(decided)
    for row, case_id in enumerate(case_ids):
        played = worlds.dialogue(name, domain, case_id, found, seed=5, turns=6, shown=3, **more)
        assert (played.success_turn or 0) == game.won[row]
        shown = [tuple(place[i.id] for i in turn.agent.shown) for turn in played.turns]
        assert shown == actions[row]


def test_actions_are_drawn_from_the_softmax_of_those_that_are_possible():
    logits = np.log([[1.0, 2, 3, 4]])
    logits[0, 2] = -np.inf
    draws = (np.arange(700) + 0.5) / 700
    found = drawn(np.repeat(logits, 700, axis=0), draws)
    assert np.bincount(found).tolist() == [100, 200, 0, 400]
    assert drawn(np.array([[-np.inf, 0.0, -np.inf]] * 2), np.array([0, 1 - 2**-48])).tolist() == [
        1,
        1,
    ]


def test_drawing_actions_trains_nothing_again():
    assert recipe_of("ear", actions="sampled").identity() == recipe_of("ear").identity()


def test_rewards_by_hand():
    rewards = Rewards(ask_yes=0.1, ask_no=-0.1, rec_yes=1, rec_no=-0.2, quit=-0.3)
    outcomes = np.array([1, -1, 2, -2])
    assert rewards.of(outcomes, False) == pytest.approx([0.1, -0.1, 1, -0.2])
    assert rewards.of(outcomes, True) == pytest.approx([-0.2, -0.4, 1, -0.5])


def test_practice_deals_reachable_targets_without_the_history():
    catalogue = worlds.catalogue_of([["a"], ["a", "b"], [], ["b"]])
    pairs = Pairs(np.array([0, 0, 1]), np.array([1, 2, 3]))
    data = worlds.data_of(catalogue, [(0, 0), (1, 0), (1, 1)], pairs)
    practice = Practice(data, worlds.vectors_for(toy_space(catalogue), users=2), rules(False))
    assert practice.targets.tolist() == [1, 3]  # an item without facts cannot be asked for
    rounds, users = practice.of(practice.users, practice.targets)
    assert rounds.candidates(0).tolist() == [1, 2, 3]
    assert rounds.candidates(1).tolist() == [2, 3]
    assert rounds.histories.tolist() == [[0, -1], [0, 1]]
    assert rounds.reachable(np.array([0]))[0].tolist() == [True, True]
    assert users.targets.tolist() == [1, 3]
    repeating = Practice(data, worlds.vectors_for(toy_space(catalogue), users=2), rules(True))
    assert repeating.of(practice.users, practice.targets)[0].candidates(1).tolist() == [0, 1, 2, 3]
    nothing = worlds.data_of(catalogue, [(0, 0)], Pairs(np.array([0]), np.array([2])))
    with pytest.raises(DataError, match="no target of `train` has an attribute"):
        Practice(nothing, worlds.vectors_for(toy_space(catalogue)), rules(True))


def toy_space(catalogue):
    from agents.multi_round.space import AttributeSpace

    return AttributeSpace.of(catalogue)


def rules(repeat):
    from agents.multi_round.practice import DialogueRules

    return DialogueRules(5, 2, "binary", repeat=repeat, exclude=False)
