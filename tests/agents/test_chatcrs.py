"""ChatCRS: knowledge looked up one hop far, a goal planned on it."""

import asyncio
import random
from dataclasses import replace

import numpy as np
import pytest

from agents.chatcrs import ChatCRS
from agents.chatcrs.knowledge import KnowledgeBase
from agents.core.agent import AgentContext
from agents.core.dialogue import Dialogue, Message
from agents.core.errors import ReplyInvalid
from agents.core.items import Catalogue, Item, VisibleCase
from simulators.domains.synthetic import Synthetic
from tests.agents.playing import play, prompts_of, rules
from tests.fakes import CASE, CATALOGUE, ITEMS, FakeModel, by_step, make_ask

OPENING = Message("user", "An action film like Heat Wave, please.")
EVERYTHING = np.ones(len(CATALOGUE), bool)
REPLIES = {
    "entities": {"entities": ["action", "Heat Wave (1995)"]},
    "relations": {"relations": [1, 2]},
    "goal": {"topic": "fast films", "goal": "recommend"},
    "recommend": {"titles": ["Heat Wave (1995)"]},
    "ask": {"question": "Which decade?"},
    "respond": {"response": "Well."},
}


def agent(**options):
    return ChatCRS(ChatCRS.Options(**options), AgentContext(CATALOGUE, CASE.visible, 2))


def turn(speaker, model, *messages):
    dialogue = Dialogue([OPENING, *messages])
    return asyncio.run(speaker.respond(dialogue, make_ask(model, prompts_of("agents", "chatcrs"))))


def prompt(model, step):
    return [c.messages[0].content for c in model.calls if c.step.name == step][-1]


def texts(name):
    return [relation.text for relation in KnowledgeBase(CATALOGUE).relations(name)]


def facts(name, most=10, allowed=EVERYTHING):
    rng = random.Random(0)
    return [r.facts(allowed, most, rng) for r in KnowledgeBase(CATALOGUE).relations(name)]


def test_a_value_leads_to_the_items_that_have_it():
    assert texts("action") == ["genre: Action"]
    assert facts("Action") == ["genre: Action -> Heat Wave (1995); Alien Gardens (1986)"]


def test_an_item_leads_to_what_the_catalogue_says_about_it():
    assert facts("heat wave") == [
        "Heat Wave (1995): genre -> Action, Thriller",
        "Heat Wave (1995): decade -> 1990s",
    ]


def test_a_name_that_is_a_title_and_a_value_of_two_attributes_leads_to_all():
    items = (
        Item("a", "Noir", {"genre": ("Drama",)}, description="x" * 1000),
        Item("b", "Night", {"genre": ("Noir",), "mood": ("Noir",)}),
    )
    found = KnowledgeBase(Catalogue(items, noun="film")).relations("noir")
    assert [relation.text for relation in found] == [
        "genre: Noir",
        "mood: Noir",
        "Noir: genre",
        "Noir: description",
    ]
    assert len(found[-1].facts(np.ones(2, bool), 5, random.Random(0))) < 350


@pytest.mark.parametrize("name", ["", "nothing like it", "{{ x }}", "a" * 10_000])
def test_what_is_not_in_the_catalogue_is_a_dead_end(name):
    assert texts(name) == []


def test_items_are_drawn_among_those_allowed_and_the_rest_is_counted():
    [line] = facts("1970s", most=1)
    assert line.endswith("(and 1 more)")
    left = EVERYTHING.copy()
    left[0] = False
    assert facts("1970s", allowed=left) == ["decade: 1970s -> Alien Garden (1979)"]
    assert facts("1970s", allowed=~EVERYTHING) == ["decade: 1970s -> (none)"]


def test_knowledge_reaches_goal_and_recommendation_through_the_agents_own_roles():
    model = FakeModel(by_step(**REPLIES))
    done = turn(agent(), model)
    assert [(c.role, c.step.name) for c in model.calls] == [
        ("agent.knowledge", "entities"),
        ("agent.knowledge", "relations"),
        ("agent.goal", "goal"),
        ("agent", "recommend"),
        ("agent", "respond"),
    ]
    known = "genre: Action -> Heat Wave (1995)"  # Alien Gardens is of the user's history
    for step in ("goal", "recommend"):
        assert known in prompt(model, step)
        assert "Heat Wave (1995): genre -> Action, Thriller" in prompt(model, step)
    assert "fast films" in prompt(model, "recommend")
    assert (done.action, done.strategy, done.shown) == ("recommend", "with knowledge", (ITEMS[1],))
    assert done.candidates is None
    assert done.extra["looked_up"] == ["genre: Action", "Heat Wave (1995): genre"]
    assert done.extra["not_in_knowledge_base"] == []


def test_dead_ends_are_counted():
    names = {"entities": ["quantum cinema", "action"]}
    model = FakeModel(by_step(**REPLIES | {"entities": names, "relations": {"relations": [1]}}))
    done = turn(agent(), model)
    assert done.extra["not_in_knowledge_base"] == ["quantum cinema"]
    assert done.extra["looked_up"] == ["genre: Action"]


def test_without_entities_no_relation_is_asked_for():
    model = FakeModel(by_step(**REPLIES | {"entities": {"entities": []}}))
    done = turn(agent(), model)
    assert "relations" not in [c.step.name for c in model.calls]
    assert (done.strategy, done.extra["looked_up"]) == ("without knowledge", [])


def test_a_probe_does_not_see_the_topic_of_the_question():
    goal = {"topic": "the decade", "goal": "ask"}
    model = FakeModel(by_step(**REPLIES | {"goal": goal}))
    speaker = agent()
    asked = turn(speaker, model)
    assert (asked.action, asked.ranking) == ("ask", None)
    assert "the decade" in prompt(model, "ask")
    ask = make_ask(model, prompts_of("agents", "chatcrs")).probing()
    assert asyncio.run(speaker.would_recommend(Dialogue([OPENING]), ask)) == (ITEMS[1],)
    assert "the decade" not in prompt(model, "recommend")
    assert "genre: Action -> " in prompt(model, "recommend")


def test_facts_are_drawn_by_sampling_seed_and_turn():
    items = tuple(Item(str(n), f"Film number {n}", {"genre": ("Drama",)}) for n in range(60))
    context = AgentContext(Catalogue(items, noun="film"), VisibleCase("u1", ()), 2)
    drama = by_step(
        **REPLIES | {"entities": {"entities": ["drama"]}, "relations": {"relations": [1]}}
    )

    def known(seed, turns):
        model = FakeModel(drama)
        ask = replace(make_ask(model, prompts_of("agents", "chatcrs")), sampling=seed)
        talk = [Message("recommender", "Well?"), Message("user", "Well.")] * turns
        speaker = ChatCRS(ChatCRS.Options(facts=5), context)
        asyncio.run(speaker.respond(Dialogue([OPENING, *talk]), ask))
        return prompt(model, "goal").partition("genre: Drama -> ")[2]

    assert known(1, 0) == known(1, 0) != ""
    assert len({known(1, 0), known(2, 0), known(1, 1)}) == 3


def test_hostile_replies_are_counted_or_refused():
    hostile = {"entities": ["<script>", "'; DROP TABLE items; --", "{% include 'x' %}"]}
    done = turn(agent(), FakeModel(by_step(**REPLIES | {"entities": hostile})))
    assert len(done.extra["not_in_knowledge_base"]) == 3
    for step, reply in {
        "entities": {"entities": ["x" * 10_000]},
        "relations": {"relations": [0]},
        "goal": {"topic": "x" * 10_000, "goal": "ask"},
    }.items():
        with pytest.raises(ReplyInvalid):
            turn(agent(), FakeModel(by_step(**REPLIES | {step: reply})))


@pytest.mark.parametrize("skill", [0.0, 1.0])
def test_rules_play_whole_dialogues(skill):
    domain = Synthetic(Synthetic.Options(items=120, users=20, history=8))
    model = rules(domain, skill=skill)
    for case_id in domain.case_ids("test")[:5]:
        transcript, _ = play(ChatCRS, "chatcrs", domain, case_id, model)
        assert transcript.stop_reason != "failed"
        assert all(step.ranking is not None for step, *_ in transcript.turns)
