"""The user with a persona and wanted attributes: what is drawn, accepted and recorded."""

import asyncio
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.core import plugins
from agents.core.dialogue import Dialogue, Message
from agents.core.errors import ReplyInvalid
from agents.core.items import Fact, facts_of
from agents.core.prompts import prompt_folder
from simulators.core.user import UserContext
from simulators.users.concept import Concept
from simulators.users.concept.persona import AGES, EMOTIONAL_STYLES, draw_persona, draw_wanted
from tests.fakes import CASE, CATALOGUE, ITEMS, FakeModel, by_step, make_ask

PROMPTS = prompt_folder(plugins.module("simulators.users", "concept", "user"), None)
OTHER, TARGET, HORROR = ITEMS[0], ITEMS[1], ITEMS[2]
# An item that is not the target and has all of its facts.
TWIN = replace(TARGET, id="9", title="Cold Front (1996)")


def user_of(**options) -> Concept:
    return Concept(Concept.Options(**options), UserContext(CATALOGUE, CASE))


def ask_of(model, *, case="u1", seed=7, role="user"):
    return replace(make_ask(model, PROMPTS, role=role), scope=case, sampling=seed)


def replied(model, shown, **options):
    dialogue = Dialogue([Message("user", "hello"), Message("recommender", "look", shown)])
    return asyncio.run(user_of(**options).reply(dialogue, ask_of(model)))


def judging(*accepted, words="well", reason="Suits me."):
    return FakeModel(by_step(judge={"reason": reason, "accepted": accepted, "words": words}))


def test_it_opens_with_its_wishes_and_persona_and_does_not_know_the_target():
    model = FakeModel(by_step(open={"words": "Something with action!"}))
    user = user_of(age="seniors", style="trust")
    turn = asyncio.run(user.open(ask_of(model)))
    assert turn.extra == {
        "knew": {
            "targets": [],
            "facts": ["genre: Action", "genre: Thriller", "decade: 1990s"],
            "age": "seniors",
            "style": "trust",
        },
        "leak": False,
    }
    prompt = model.calls[0].messages[0].content
    for shown in (
        AGES["seniors"],
        EMOTIONAL_STYLES["trust"],
        "- genre: Thriller",
        "- decade: 1990s",
    ):
        assert shown in prompt
    assert TARGET.title not in prompt
    assert "Heat" not in prompt


def test_only_some_of_the_facts_can_be_wanted():
    model = FakeModel(by_step(open={"words": "hello"}))
    turn = asyncio.run(user_of(wanted=1, max_facts=1).open(ask_of(model)))
    [fact] = turn.extra["knew"]["facts"]
    prompt = model.calls[0].messages[0].content
    assert prompt.count("\n- genre: ") + prompt.count("\n- decade: ") == 1
    assert f"- {fact}" in prompt
    assert "at most 1 of the wanted attributes" in prompt


def test_the_prompt_that_decides_lists_the_facts_of_what_is_recommended():
    model = judging()
    replied(model, (OTHER, TARGET))
    prompt = model.calls[0].messages[0].content
    assert "1. Silent River, The (1971)\n   genre: Drama\n   decade: 1970s\n2. Heat Wave" in prompt
    model = judging()
    replied(model, (OTHER, TARGET), item_facts=False)
    prompt = model.calls[0].messages[0].content
    assert "1. Silent River, The (1971)\n2. Heat Wave (1995)\n" in prompt
    assert "Drama" not in prompt


@pytest.mark.parametrize(
    ("accepted", "shown", "rule", "disagrees", "target"),
    [
        ((1,), (TARGET,), "accept", False, True),
        ((1,), (TWIN,), "accept", False, False),
        ((1,), (OTHER, TARGET), "accept", True, False),
        ((2,), (TWIN, TARGET), "accept", False, True),
        ((), (TWIN,), "accept", True, None),
        ((), (OTHER,), "refuse", False, None),
        ((1,), (OTHER,), "refuse", True, False),
    ],
)
def test_a_decision_is_compared_with_the_facts_of_what_is_shown(
    accepted, shown, rule, disagrees, target
):
    turn = replied(judging(*accepted, reason="Because."), shown)
    assert turn.accepted == (shown[accepted[0] - 1] if accepted else None)
    record = {"why": "Because.", "rule_decision": rule, "disagrees": disagrees, "leak": False}
    assert turn.extra == record | ({} if target is None else {"accepted_target": target})


@pytest.mark.parametrize(
    ("shown", "wanted", "accepted"),
    [
        ((OTHER, HORROR), 3, None),
        ((OTHER, TWIN, TARGET), 3, TWIN),
        ((ITEMS[3],), 3, None),
        ((TARGET,), None, TARGET),
    ],
)
def test_with_the_rule_it_accepts_the_first_item_with_everything_it_wants(shown, wanted, accepted):
    model = FakeModel(by_step(say={"words": "well"}))
    turn = replied(model, shown, decides="rule", wanted=wanted)
    assert turn.accepted == accepted
    assert turn.extra["why"].endswith("has everything that is wanted")
    prompt = model.calls[0].messages[0].content
    assert ("you refuse" if accepted is None else "you accept") in prompt


def test_a_guess_that_names_the_target_is_asked_again():
    model = FakeModel(by_step(open=[{"words": "Like Heat Wave!"}, {"words": "With action!"}]))
    turn = asyncio.run(user_of().open(ask_of(model)))
    assert (turn.text, turn.extra["leak"], len(model.calls)) == ("With action!", False, 2)
    model = FakeModel(by_step(open={"words": "Like Heat Wave!"}))
    with pytest.raises(ReplyInvalid):
        asyncio.run(user_of().open(ask_of(model)))


@settings(max_examples=50)
@given(st.integers(0, 10**6), st.integers(0, 2**63), st.integers(1, 9))
def test_what_is_drawn_depends_on_case_and_seed_alone(user, seed, most):
    case = f"u{user}"
    facts = [Fact("tag", str(number)) for number in range(8)]
    model = FakeModel(by_step())
    one, other = (
        ask_of(model, case=case, seed=seed, role=role) for role in ("user", "user.somewhere")
    )
    other.journal.turn = 3
    other.journal.ordinals["user", "open", 3] = 5
    assert draw_persona(one, None, None) == draw_persona(other, None, None)
    wanted = draw_wanted(one, facts, most)
    assert wanted == draw_wanted(other, list(reversed(facts)), most)[::-1]
    assert len(wanted) == min(most, len(facts))
    assert list(wanted) == [fact for fact in facts if fact in wanted]
    assert draw_wanted(one, facts, None) == tuple(facts)
    assert set(wanted) <= set(draw_wanted(one, facts, most + 1))
    fixed = draw_persona(one, "teens", "boredom")
    assert (fixed.age, fixed.style) == ("teens", "boredom")


def test_personas_are_drawn_evenly_over_cases_and_seeds():
    model = FakeModel(by_step())
    drawn = Counter(
        draw_persona(ask_of(model, case=f"u{case}", seed=seed), None, None)
        for case in range(480)
        for seed in range(10)
    )
    assert len(drawn) == len(AGES) * len(EMOTIONAL_STYLES) == 48
    assert min(drawn.values()) > 60  # 100 are expected of each
    assert max(drawn.values()) < 140


def test_a_user_without_facts_accepts_anything():
    """An item without attributes gives its user nothing to want."""
    bare = replace(TARGET, attributes={})
    assert facts_of(bare) == ()
    context = UserContext(CATALOGUE, CASE._replace(hidden=type(CASE.hidden)((bare,))))
    user = Concept(Concept.Options(decides="rule"), context)
    dialogue = Dialogue([Message("user", "hello"), Message("recommender", "look", (OTHER,))])
    model = FakeModel(by_step(say={"words": "well"}))
    assert asyncio.run(user.reply(dialogue, ask_of(model))).accepted == OTHER
