"""The user with one target: what it decides, what it records, what it must not say."""

import asyncio

import pytest

from agents.core import plugins
from agents.core.dialogue import Dialogue, Message
from agents.core.errors import ReplyInvalid
from agents.core.prompts import prompt_folder
from simulators.core.user import UserContext
from simulators.users.target_item import TargetItem
from tests.fakes import CASE, CATALOGUE, ITEMS, FakeModel, by_step, make_ask

PROMPTS = prompt_folder(plugins.module("simulators.users", "target_item", "user"), None)
TARGET, OTHER = ITEMS[1], ITEMS[0]


def user_of(**options) -> TargetItem:
    return TargetItem(TargetItem.Options(**options), UserContext(CATALOGUE, CASE))


def replied(model, shown, **options):
    dialogue = Dialogue([Message("user", "hello"), Message("recommender", "look", shown)])
    return asyncio.run(user_of(**options).reply(dialogue, make_ask(model, PROMPTS, role="user")))


def judge(decision, words="fine", leaves=False):
    return {"judge": {"decision": decision, "words": words, "leaves": leaves}}


def test_the_model_decides_and_agreement_with_the_rule_is_recorded():
    turn = replied(FakeModel(by_step(**judge("accept"))), (OTHER, TARGET))
    assert (turn.decision, turn.accepted) == ("accept", TARGET)
    assert turn.extra == {"disagrees": False, "rule_decision": "accept", "leak": False}


@pytest.mark.parametrize(("decision", "shown"), [("accept", (OTHER,)), ("refuse", (TARGET,))])
def test_every_disagreement_of_the_model_with_the_rule_is_recorded(decision, shown):
    turn = replied(FakeModel(by_step(**judge(decision))), shown)
    assert turn.decision == decision
    assert turn.accepted is None  # what it said yes to is not guessed
    assert turn.extra["disagrees"] is True


@pytest.mark.parametrize(("shown", "decision"), [((OTHER,), "refuse"), ((OTHER, TARGET), "accept")])
def test_with_the_rule_it_accepts_exactly_when_the_target_is_shown(shown, decision):
    model = FakeModel(by_step(say={"words": "well", "leaves": False}))
    turn = replied(model, shown, decides="rule")
    assert turn.decision == decision
    assert turn.accepted == (TARGET if decision == "accept" else None)
    shows = "shown" if decision == "accept" else "not shown"
    assert turn.extra["why"] == f"the target is {shows}"
    prompt = model.calls[0].messages[0].content
    assert f"you {decision}" in prompt


def test_without_a_recommendation_it_answers_and_may_leave():
    turn = replied(FakeModel(by_step(answer={"words": "action", "leaves": True})), ())
    assert (turn.decision, turn.leaves) == ("answer", True)


def test_the_prompt_holds_history_target_and_facts_and_forbids_the_title():
    model = FakeModel(by_step(open={"words": "something with action"}))
    asyncio.run(user_of().open(make_ask(model, PROMPTS, role="user")))
    prompt = model.calls[0].messages[0].content
    for wanted in ("Your target: Heat Wave (1995)", "genre: Thriller", "Alien Garden (1979)",
                   "Never say the title"):  # fmt: skip
        assert wanted in prompt
    assert "of the facts in one message" not in prompt


def test_the_opening_records_what_the_user_knew():
    model = FakeModel(by_step(open={"words": "something with action"}))
    turn = asyncio.run(user_of().open(make_ask(model, PROMPTS, role="user")))
    assert turn.extra == {
        "knew": {
            "targets": ["2"],
            "facts": ["genre: Action", "genre: Thriller", "decade: 1990s"],
        },
        "leak": False,
    }


def test_max_facts_is_said_in_the_prompt():
    model = FakeModel(by_step(open={"words": "x"}))
    asyncio.run(user_of(max_facts=2).open(make_ask(model, PROMPTS, role="user")))
    assert "at most 2 of the facts in one message" in model.calls[0].messages[0].content


def test_a_leak_is_recorded_always_and_asked_again_only_with_the_guard():
    leaky, clean = "I mean Heat Wave, of course", "I mean the one with action"

    def opened(guard):
        model = FakeModel(by_step(open=[{"words": leaky}, {"words": clean}]))
        ask = make_ask(model, PROMPTS, role="user")
        return asyncio.run(user_of(leak_guard=guard).open(ask)), model

    turn, model = opened(False)
    assert turn.extra["leak"] is True
    assert turn.extra["leak_words"] == "Heat Wave"
    assert (turn.extra["leak_kind"], turn.extra["leak_seen"]) == ("title", "words")
    assert len(model.calls) == 1
    turn, model = opened(True)
    assert (turn.text, turn.extra["leak"]) == (clean, False)
    assert len(model.calls) == 2


def test_a_user_that_only_leaks_fails_by_its_own_fault():
    model = FakeModel(by_step(open={"words": "Heat Wave!"}))
    with pytest.raises(ReplyInvalid) as caught:
        asyncio.run(user_of(leak_guard=True).open(make_ask(model, PROMPTS, role="user")))
    assert caught.value.blame == "user"


def test_a_target_that_was_shown_is_no_secret_any_more():
    user = user_of(leak_guard=True)
    words = "Heat Wave is the one"

    def answered(*messages):
        model = FakeModel(by_step(judge=judge("accept", words)["judge"], answer=ANSWER))
        dialogue = Dialogue([Message("user", "hello"), *messages])
        turn = asyncio.run(user.reply(dialogue, make_ask(model, PROMPTS, role="user")))
        return turn.extra["leak"], len(model.calls)

    shown = Message("recommender", "look", (TARGET,))
    assert answered(shown) == (False, 1)
    later = (Message("user", words), Message("recommender", "Did you like Heat Wave?"))
    assert answered(shown, *later) == (False, 1)


ANSWER = {"words": "Yes, Heat Wave.", "leaves": False}
