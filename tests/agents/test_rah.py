"""RAH: a personality is learned, acted on, criticised and reflected upon."""

import asyncio
from collections import Counter

import pytest

from agents.core.agent import AgentContext
from agents.core.dialogue import Dialogue, Message
from agents.core.errors import ReplyInvalid
from agents.core.items import VisibleCase
from agents.rah import RAH
from simulators.domains.synthetic import Synthetic
from tests.agents.playing import play, prompts_of, rules
from tests.fakes import CASE, CATALOGUE, ITEMS, FakeModel, by_step, make_ask

OPENING = Message("user", "Something with action, please.")
LEARNED = {"traits": [{"stance": "likes", "what": "action"}]}
REFLECTED = {
    "traits": [{"stance": "likes", "what": "speed"}, {"stance": "dislikes", "what": "gardens"}]
}
REPLIES = {
    "perceive": {"features": ["Alien Garden: quiet dread"]},
    "learn": LEARNED,
    "decide": {"action": "recommend"},
    "recommend": {"titles": ["Heat Wave (1995)"]},
    "criticise": {"reason": "all of it suits", "verdict": "suits"},
    "reflect": REFLECTED,
    "ask": {"question": "Which decade?"},
    "respond": {"response": "Well."},
}
NO = {"reason": "no gardens", "verdict": "does not suit"}


def agent(**options):
    return RAH(RAH.Options(**options), AgentContext(CATALOGUE, CASE.visible, 2))


def turn(speaker, model, *messages):
    dialogue = Dialogue([OPENING, *messages])
    return asyncio.run(speaker.respond(dialogue, make_ask(model, prompts_of("agents", "rah"))))


def steps(model):
    return [call.step.name for call in model.calls]


def prompt(model, step, place=-1):
    return [c.messages[0].content for c in model.calls if c.step.name == step][place]


def test_a_list_that_suits_is_shown_as_it_is():
    model = FakeModel(by_step(**REPLIES))
    done = turn(agent(), model)
    assert steps(model) == ["perceive", "learn", "decide", "recommend", "criticise", "respond"]
    assert (done.action, done.strategy, done.shown) == ("recommend", "act", (ITEMS[1],))
    assert done.extra["personality"] == ["likes: action"]
    assert "quiet dread" in prompt(model, "learn")
    assert "likes: action" in prompt(model, "decide")


def test_criticism_is_reflected_upon_and_acted_upon_once():
    titles = [{"titles": ["Amélie's Café (2001)"]}, {"titles": ["Heat Wave (1995)"]}]
    model = FakeModel(by_step(**REPLIES | {"criticise": NO, "recommend": titles}))
    speaker = agent()
    done = turn(speaker, model)
    assert steps(model)[3:] == ["recommend", "criticise", "reflect", "recommend", "respond"]
    assert done.shown == (ITEMS[1],)
    assert done.strategy == "reflect"
    assert done.extra["objections"] == ["no gardens"]
    assert done.extra["personality"] == ["likes: speed", "dislikes: gardens"]
    assert "dislikes: gardens" in prompt(model, "recommend")
    assert "- Amélie's Café (2001): no gardens" in prompt(model, "recommend")
    model = FakeModel(by_step(**REPLIES))
    turn(speaker, model, Message("recommender", "Which?"), Message("user", "Any."))
    assert "dislikes: gardens" in prompt(model, "learn")  # kept for the next turn
    assert "perceive" not in steps(model)  # nothing new was shown


def test_a_list_of_which_nothing_can_be_recommended_is_criticised_by_what_it_named():
    titles = [{"titles": ["No Such Film", "Alien Garden (1979)"]}, {"titles": ["Heat Wave (1995)"]}]
    model = FakeModel(by_step(**REPLIES | {"criticise": NO, "recommend": titles}))
    assert turn(agent(), model).shown == (ITEMS[1],)
    assert "that can be recommended.\nOther titles that it named" in prompt(model, "criticise")
    assert "No title was chosen that can be recommended.\nCriticism: no gardens" in prompt(
        model, "reflect"
    )
    first, again = (prompt(model, "recommend", place) for place in (0, 1))
    assert "- No title that can be recommended: no gardens\n- No Such Film: " in again
    assert "Criticism of your earlier choices" not in first
    for shown in (prompt(model, "criticise"), again):
        assert "- Alien Garden (1979): already in the user's history" in shown


@pytest.mark.parametrize("rounds", [0, 1, 3])
def test_the_critic_looks_at_most_as_often_as_the_option_says(rounds):
    model = FakeModel(by_step(**REPLIES | {"criticise": NO}))
    turn(agent(rounds=rounds), model)
    count = Counter(steps(model))
    assert (count["criticise"], count["reflect"]) == (rounds, rounds)
    assert count["recommend"] == rounds + 1


def test_lists_turned_down_are_perceived_in_the_next_turn():
    model = FakeModel(by_step(**REPLIES))
    shown = Message("recommender", "This?", (ITEMS[4],))
    turn(agent(), model, shown, Message("user", "No."))
    assert "Amélie's Café (2001)" in prompt(model, "perceive")
    assert "items that the user turned down" in prompt(model, "learn")


def test_long_histories_are_perceived_in_parts():
    model = FakeModel(by_step(**REPLIES))
    long = AgentContext(CATALOGUE, VisibleCase("u1", ITEMS * 5), 2)
    turn(RAH(RAH.Options(history_items=25), long), model)
    assert steps(model)[:4] == ["perceive", "perceive", "perceive", "learn"]
    assert prompt(model, "learn").count("quiet dread") == 3


def test_without_a_history_nothing_is_perceived():
    model = FakeModel(by_step(**REPLIES))
    turn(agent(history_items=0), model)
    assert "perceive" not in steps(model)


def test_a_probe_says_what_it_would_recommend_and_teaches_nothing():
    asks = REPLIES | {"decide": {"action": "ask"}, "criticise": NO}
    model = FakeModel(by_step(**asks))
    speaker = agent()
    asked = turn(speaker, model)
    assert (asked.action, asked.strategy, asked.ranking) == ("ask", "elicit", None)
    ask = make_ask(model, prompts_of("agents", "rah")).probing()
    would = asyncio.run(speaker.would_recommend(Dialogue([OPENING]), ask))
    assert would == (ITEMS[1],)
    assert steps(model)[-4:] == ["recommend", "criticise", "reflect", "recommend"]
    turn(speaker, model, Message("recommender", "Which?"), Message("user", "Any."))
    assert "likes: action" in prompt(model, "learn")
    assert "dislikes: gardens" not in prompt(model, "learn")


def test_hostile_replies_are_counted_or_refused():
    hostile = {"titles": ["<b>Heat</b> Wave?", "{% raw %}"]}
    model = FakeModel(by_step(**REPLIES | {"recommend": hostile}))
    done = turn(agent(), model)
    assert done.shown == ()
    assert len(done.extra["titles_ungrounded"]) == 2
    endless = {"traits": [{"stance": "likes", "what": "x" * 10_000}]}
    with pytest.raises(ReplyInvalid):
        turn(agent(), FakeModel(by_step(**REPLIES | {"learn": endless})))
    markup = {"traits": [{"stance": "likes", "what": "{{ conversation }} {% for %}"}]}
    model = FakeModel(by_step(**REPLIES | {"learn": markup}))
    turn(agent(), model)
    assert "likes: {{ conversation }} {% for %}" in prompt(model, "decide")


@pytest.mark.parametrize("skill", [0.0, 1.0])
def test_rules_play_whole_dialogues(skill):
    domain = Synthetic(Synthetic.Options(items=120, users=20, history=8))
    model = rules(domain, skill=skill)
    for case_id in domain.case_ids("test")[:5]:
        transcript, journal = play(RAH, "rah", domain, case_id, model)
        assert transcript.stop_reason != "failed"
        assert all(step.ranking is not None for step, *_ in transcript.turns)
        own = [r.call.turn for r in journal.records if r.call.role == "agent"]
        assert max(Counter(own).values()) <= 8 + 2 * (skill < 1)  # random replies may be invalid
