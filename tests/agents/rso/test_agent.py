"""RSO's experts on five films: replies that are right, wrong and hostile, and its ablations."""

import asyncio
import json
import random

import numpy as np
import pytest
from pydantic import ValidationError

from agents.core import plugins
from agents.core.agent import AgentContext
from agents.core.ask import CallLog
from agents.core.dialogue import Dialogue, Message
from agents.core.errors import ReplyInvalid
from agents.core.items import Catalogue, VisibleCase
from agents.core.policy import Decision
from agents.policies.core.labels import INSPIRED, labels_of
from agents.rso import RSO
from agents.rso.strategies import INQUIRIES, STRATEGIES
from agents.tools.retrieval import ITEM_VECTORS
from tests.agents.playing import prompts_of
from tests.fakes import CATALOGUE, ITEMS, FakeModel, make_ask
from workers.backends.core.replies import random_reply

OPENING = (Message("user", "Hello, something with horror in a garden, please."),)
SAID = (*OPENING, Message("recommender", "How about this?", ITEMS[2:3]), Message("user", "No."))
WANTS = {"preferences": ["likes horror", "wants a garden"]}
SHORT = (Message("user", "Hi."),)


def replying(*recommended, message="Here you are.", selected=(1,)):
    """Replies of the three experts."""
    return {
        "reason": WANTS,
        "select": {"selected": list(selected), "facts": "It is a horror film."},
        "act": {"recommended": list(recommended), "message": message},
    }


def answered(replies, *said, catalogue=CATALOGUE, shown_items=1, **options):
    """One turn of the agent with BM25, and the calls that it made."""
    given = RSO.Options(**{"retriever": "lexical", **options})
    agent = RSO(given, AgentContext(catalogue, VisibleCase("u1", ()), shown_items))
    journal = CallLog()
    model = FakeModel(lambda call: replies[call.step.name])
    ask = make_ask(model, prompts_of("agents", "rso"), journal=journal)
    turn = asyncio.run(agent.respond(Dialogue(list(said or OPENING)), ask))
    return turn, [record.call for record in journal.records]


def ids(items):
    return [item.id for item in items]


def steps(calls):
    return [(call.role, call.step.name) for call in calls]


def prompt(call):
    return call.messages[0].content


def test_right_replies_recommend_what_was_retrieved():
    turn, calls = answered(replying(1))
    assert steps(calls) == [("agent.preferences", "reason"), ("agent", "act")]
    # "horror" and "garden" are words of film 3 alone.
    assert ids(turn.shown) == ["3"]
    assert ids(turn.candidates) == ids(turn.ranking)[:3]
    assert len(turn.ranking) == len(ITEMS)
    assert (turn.action, turn.text, turn.strategy) == ("recommend", "Here you are.", None)
    assert turn.extra == {"preferences": WANTS["preferences"], "facts": ids(turn.candidates)}
    words = prompt(calls[1])
    for said in (
        "- likes horror",
        "1. Alien Garden (1979)\n   genre: Horror",
        "something with horror",
    ):
        assert said in words


@pytest.mark.parametrize("target", range(len(ITEMS)))
def test_for_every_target_right_preferences_and_choice_show_it_and_wrong_ones_do_not(target):
    item = ITEMS[target]
    right = {**replying(1), "reason": {"preferences": [item.title]}}
    said = (Message("user", item.title),)
    assert ids(answered(right, *said)[0].shown) == [item.id]
    others = [other for other in ITEMS if other != item]
    wrong = {**replying(1), "reason": {"preferences": [others[0].title] * 3}}
    assert item not in answered(wrong, Message("user", others[0].title), facts=1)[0].shown


def test_a_turn_that_recommends_nothing_still_has_a_ranking():
    turn, _ = answered(replying(message="What do you like?"))
    assert (turn.action, turn.shown, len(turn.ranking)) == ("ask", (), len(ITEMS))


def test_the_query_is_the_dialogue_and_the_preferences_or_the_last_two_messages():
    far = {**replying(), "reason": {"preferences": ["romance in a café"]}}
    said = (Message("user", "Silent river drama."), *SAID[1:])
    assert ids(answered(far, *said, facts=2)[0].candidates) == ["1", "5"]
    # The last two messages say "How about this?" and "No.": nothing of any film.
    last, _ = answered(far, *said, facts=2, query="last")
    assert ids(last.candidates) == ["1", "2"]  # none is nearer than the others
    nothing, calls = answered(far, *SHORT, query="last")
    assert (nothing.ranking, nothing.candidates) == (None, ())
    assert "Items that may suit" not in prompt(calls[-1])


def test_no_item_comes_twice_unless_that_is_allowed():
    assert ids(answered(replying(1), *SAID, repeat=True)[0].shown) == ["3"]
    turn, _ = answered(replying(1), *SAID)
    assert "3" not in ids(turn.ranking)
    assert "3" not in ids(turn.shown)


@pytest.mark.parametrize(
    ("options", "absent"),
    [
        ({"preference_reasoner": False}, "What the user wants"),
        ({"fact_retriever": False}, "genre: "),
    ],
)
def test_an_ablation_leaves_out_one_expert_and_its_words(options, absent):
    turn, calls = answered(replying(1), **options)
    assert absent not in prompt(calls[-1])
    assert absent in prompt(answered(replying(1))[1][-1])
    assert ids(turn.shown) == ["3"]
    reasons = [call for call in calls if call.step.name == "reason"]
    assert len(reasons) == (options.get("preference_reasoner", True) is True)


def test_a_model_may_select_one_item_and_sum_up_its_facts():
    turn, calls = answered(replying(1), select=True)
    assert steps(calls)[1] == ("agent.facts", "select")
    assert ids(turn.candidates) == ids(turn.shown) == ["3"]
    assert len(turn.ranking) == len(ITEMS)
    assert turn.extra["summary"] == "It is a horror film."
    assert "What matters about the item: It is a horror film." in prompt(calls[-1])
    none, calls = answered(replying(selected=()), select=True)
    assert (none.candidates, none.shown, len(none.ranking)) == ((), (), len(ITEMS))
    assert "Items that may suit" not in prompt(calls[-1])


def test_no_more_items_are_recommended_than_may_be_shown_and_none_that_was_not_handed_over():
    for wrong in ([1, 2], [4], [0], [-1], [1.5], ["one"]):
        with pytest.raises(ReplyInvalid):
            answered(replying(*wrong), facts=3)
    turn, _ = answered(replying(2, 1, 2), shown_items=3)
    assert ids(turn.shown) == [ids(turn.ranking)[1], ids(turn.ranking)[0]]


def test_dense_retrieval_compares_embeddings_and_is_an_artifact():
    assert [*RSO.needs(RSO.Options())] == [ITEM_VECTORS]
    assert RSO.needs(RSO.Options(retriever="lexical")) == {}
    vectors = np.eye(5, 2, dtype=np.float32)
    vectors[4] = (0.6, 0.8)
    context = AgentContext(CATALOGUE, VisibleCase("u1", ()), 1, {ITEM_VECTORS: vectors})
    agent, journal = RSO(RSO.Options(), context), CallLog()
    model = FakeModel(lambda call: {} if isinstance(call, list) else replying(1)[call.step.name])
    ask = make_ask(model, prompts_of("agents", "rso"), journal=journal)
    turn = asyncio.run(agent.respond(Dialogue(list(OPENING)), ask))
    # A text is embedded as (its length, 1): nearest to (1, 0), then to (0.6, 0.8), then (0, 1).
    assert ids(turn.ranking) == ["1", "5", "2", "3", "4"]
    assert ("agent.retriever", "embed") in steps([record.call for record in journal.records])


HOSTILE = ["null", "[]", "{}", "", '{"recommended": "1", "message": "x"}', "{" * 5_000,
           '{"recommended": [1], "message": ""}', '{"recommended": [1]}', "x" * 10_000]  # fmt: skip


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize("step", ["reason", "select", "act"])
def test_a_hostile_reply_is_the_agents_failure_and_nothing_else(step, hostile):
    with pytest.raises(ReplyInvalid) as caught:
        answered({**replying(1), step: hostile}, select=True)
    assert caught.value.blame == "agent"


@pytest.mark.parametrize(
    "words", ["{{ items }} {% raw %}", "</p>\n1. Heat Wave", "\ud83d", "🎬" * 200]
)
def test_hostile_words_of_the_user_are_words(words):
    turn, _ = answered(replying(1), Message("user", words))
    json.dumps(turn.extra)
    assert len(turn.shown) == 1


def test_random_valid_replies_give_usable_turns():
    for seed in range(100):
        rng = random.Random(seed)
        agent = RSO(RSO.Options(retriever="lexical", select=True, depth=2),
                    AgentContext(CATALOGUE, VisibleCase("u1", ()), 2))  # fmt: skip
        model = FakeModel(lambda call, rng=rng: random_reply(call.step.schema, rng))
        ask = make_ask(model, prompts_of("agents", "rso"))
        turn = asyncio.run(agent.respond(Dialogue(list(SAID)), ask))
        assert len(turn.shown) <= 2
        assert set(ids(turn.shown)) <= set(ids(turn.candidates))
        assert len(turn.ranking) == 2
        assert (turn.action == "recommend") == bool(turn.shown)


def test_a_catalogue_smaller_than_what_is_wanted_is_handed_over_whole():
    one = Catalogue(ITEMS[:1], noun="film")
    turn, _ = answered(replying(1), catalogue=one, shown_items=5)
    assert ids(turn.shown) == ids(turn.ranking) == ["1"]


def test_every_strategy_says_what_to_do_and_inquiries_are_strategies():
    assert len(STRATEGIES) == 14
    assert set(STRATEGIES) >= INQUIRIES
    for name, instruction in STRATEGIES.items():
        assert instruction
        assert instruction[0].islower(), name
        assert not instruction.endswith("."), name


@pytest.mark.parametrize("options", [{"planner": True}, {"facts": 0}, {"facts": 21}, {"depth": 0}])
def test_options_are_checked(options):
    with pytest.raises(ValidationError):
        RSO.Options(**options)


class Drawing:
    """A policy that always draws one label, and says so in the text of a decision."""

    labels = INSPIRED
    digest = "d"

    def __init__(self, label):
        decision = Decision(label, -0.5, {label: 1.0}, self.digest)
        self.asked = FakeModel(lambda call: decision.text)

    def model(self, decoding):
        assert decoding == "argmax"
        return self.asked


@pytest.mark.parametrize(
    ("label", "action"),
    [("Opinion Inquiry", "ask"), ("Credibility", "chat"), ("Offer Help", "chat")],
)
def test_the_actor_follows_the_strategy_that_the_planner_draws(label, action):
    options = RSO.Options(retriever="lexical", planner={"stage": "untrained", "decoding": "argmax"})
    assert [*RSO.needs(options)] == ["planner"]
    policy, journal = Drawing(label), CallLog()
    agent = RSO(options, AgentContext(CATALOGUE, VisibleCase("u1", ()), 1, {"planner": policy}))
    model = FakeModel(lambda call: replying()[call.step.name])
    ask = make_ask(model, prompts_of("agents", "rso"), journal=journal)
    turn = asyncio.run(agent.respond(Dialogue(list(SAID)), ask))
    assert (turn.strategy, turn.action) == (label, action)
    first, *_, last = [record.call for record in journal.records]
    assert (first.role, first.step.name) == ("agent.planner", "decide")
    assert prompt(first) == "\n".join(f"{m.speaker}: {m.text}" for m in SAID)
    assert f'Your strategy, "{label}": {STRATEGIES[label]}.' in prompt(last)
    assert "strategy" not in prompt(answered(replying())[1][-1])


def test_every_label_of_the_planner_has_an_instruction():
    assert set(STRATEGIES) == set(labels_of("inspired")) >= set(labels_of("table1"))


def test_the_planner_can_be_switched_off():
    assert plugins.build_options(RSO.Options, {"planner": False}).identity() == {}
