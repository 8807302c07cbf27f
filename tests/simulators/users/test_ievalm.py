"""The free-form user that knows its targets: what it accepts, records, and must not say."""

import asyncio

import pytest

from agents.core import plugins
from agents.core.ask import MAX_REASKS
from agents.core.dialogue import Dialogue, Message
from agents.core.errors import ReplyInvalid
from agents.core.prompts import prompt_folder
from simulators.core.cases import Case, HiddenCase
from simulators.core.user import UserContext
from simulators.users.ievalm import IEvaLM
from tests.fakes import CASE, CATALOGUE, ITEMS, FakeModel, by_step, make_ask

PROMPTS = prompt_folder(plugins.module("simulators.users", "ievalm", "user"), None)
OTHER, TARGET, ALSO = ITEMS[0], ITEMS[1], ITEMS[4]
BOTH = Case(CASE.visible, HiddenCase((TARGET, ALSO)))


def user_of(case=CASE, **options) -> IEvaLM:
    return IEvaLM(IEvaLM.Options(**options), UserContext(CATALOGUE, case))


def ask_of(model):
    return make_ask(model, PROMPTS, role="user")


def opened(model, case=CASE, **options):
    return asyncio.run(user_of(case, **options).open(ask_of(model)))


def replied(model, shown, case=CASE, **options):
    dialogue = Dialogue([Message("user", "hello"), Message("recommender", "look", shown)])
    return asyncio.run(user_of(case, **options).reply(dialogue, ask_of(model)))


def judging(*accepted, words="well", reason="Suits me."):
    return FakeModel(by_step(judge={"reason": reason, "accepted": accepted, "words": words}))


def test_it_opens_with_its_facts_and_records_what_it_knew():
    model = FakeModel(by_step(open={"words": "something thrilling"}))
    turn = opened(model)
    assert (turn.text, turn.decision, turn.leaves) == ("something thrilling", "answer", False)
    assert turn.extra == {
        "knew": {
            "targets": ["2"],
            "facts": ["genre: Action", "genre: Thriller", "decade: 1990s"],
        },
        "leak": False,
    }
    prompt = model.calls[0].messages[0].content
    for wanted in ("Your target: Heat Wave (1995)", "- genre: Thriller", "Never say the name"):
        assert wanted in prompt
    assert "of the facts in one message" not in prompt
    assert "Alien Garden" not in prompt  # its history is not part of this user


def test_several_targets_are_listed_with_their_facts():
    model = FakeModel(by_step(open={"words": "something"}))
    turn = opened(model, BOTH, max_facts=1)
    prompt = model.calls[0].messages[0].content
    for wanted in (
        "- Heat Wave (1995) | genre: Action, Thriller; decade: 1990s",
        "- Amélie's Café (2001) | genre: Comedy, Romance; decade: 2000s",
        "one of your targets",
        "at most 1 of the facts in one message",
    ):
        assert wanted in prompt
    assert turn.extra["knew"]["targets"] == ["2", "5"]


@pytest.mark.parametrize("target", [TARGET, ALSO])
def test_the_model_accepts_an_item_by_its_number_and_its_reason_is_recorded(target):
    turn = replied(judging(2, reason="It is what I want."), (OTHER, target), BOTH)
    assert (turn.decision, turn.accepted) == ("accept", target)
    assert turn.extra == {
        "why": "It is what I want.",
        "rule_decision": "accept",
        "disagrees": False,
        "accepted_target": True,
        "leak": False,
    }


def test_a_wrong_acceptance_and_a_wrong_refusal_are_recorded_as_they_are():
    turn = replied(judging(1), (OTHER, TARGET))
    assert (turn.decision, turn.accepted) == ("accept", OTHER)
    assert (turn.extra["disagrees"], turn.extra["accepted_target"]) == (True, False)
    turn = replied(judging(), (OTHER, TARGET))
    assert (turn.decision, turn.accepted) == ("refuse", None)
    assert (turn.extra["disagrees"], turn.extra["rule_decision"]) == (True, "accept")
    turn = replied(judging(), (OTHER,))
    assert (turn.decision, turn.extra["disagrees"]) == ("refuse", False)


@pytest.mark.parametrize("accepted", [[3], [0], [1, 2], "1", [None]])
def test_a_number_that_is_not_on_the_list_is_asked_again(accepted):
    bad = {"reason": "r", "accepted": accepted, "words": "w"}
    model = FakeModel(by_step(judge=[bad, {**bad, "accepted": [2]}]))
    assert replied(model, (OTHER, TARGET)).accepted == TARGET
    assert len(model.calls) == 2


@pytest.mark.parametrize(
    ("shown", "accepted"), [((OTHER,), None), ((OTHER, TARGET), TARGET), ((ALSO, TARGET), ALSO)]
)
def test_with_the_rule_it_accepts_the_first_target_that_is_shown(shown, accepted):
    model = FakeModel(by_step(say={"words": "well"}))
    turn = replied(model, shown, BOTH, decides="rule")
    assert turn.accepted == accepted
    assert turn.decision == ("refuse" if accepted is None else "accept")
    assert turn.extra["why"] == ("no target is shown" if accepted is None else "a target is shown")
    assert "disagrees" not in turn.extra
    prompt = model.calls[0].messages[0].content
    assert ("you refuse" if accepted is None else f"{accepted.title} is your target") in prompt


def test_without_a_recommendation_it_answers():
    turn = replied(FakeModel(by_step(answer={"words": "action"})), ())
    assert (turn.decision, turn.leaves, turn.extra) == ("answer", False, {"leak": False})


@pytest.mark.parametrize(
    "leaky", ["I mean Heat Wave", "Amelies Cafe, please", "a film like HEAT WAVE"]
)
def test_no_target_is_named_before_it_is_shown(leaky):
    model = FakeModel(by_step(open=[{"words": leaky}, {"words": "an action film"}]))
    turn = opened(model, BOTH)
    assert (turn.text, turn.extra["leak"], len(model.calls)) == ("an action film", False, 2)

    model = FakeModel(by_step(open={"words": leaky}))
    with pytest.raises(ReplyInvalid) as caught:
        opened(model, BOTH)
    assert caught.value.blame == "user"
    assert len(model.calls) == MAX_REASKS + 1

    turn = opened(FakeModel(by_step(open={"words": leaky})), BOTH, leak_guard=False)
    assert turn.extra["leak"] is True


def test_a_target_that_was_shown_may_be_named_and_the_other_may_not():
    words = "Heat Wave it is"
    assert replied(judging(1, words=words), (TARGET,), BOTH).text == words
    with pytest.raises(ReplyInvalid):
        replied(judging(1, words="Heat Wave, or Amélie's Café"), (TARGET,), BOTH)
