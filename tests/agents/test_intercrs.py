"""InterCRS: the model speaks, and a recommender picks the items."""

import asyncio
import json

import pytest
from pydantic import ValidationError

from agents.core.agent import AgentContext
from agents.core.dialogue import Dialogue, Message
from agents.core.items import Catalogue, Item, VisibleCase
from agents.intercrs import InterCRS
from simulators.domains.synthetic import Synthetic
from tests.agents.in_place import FIRST_IS_BEST, InPlace, in_place
from tests.agents.playing import fitted, play, prompts_of, rules
from tests.fakes import CATALOGUE as FILMS
from tests.fakes import FakeModel, by_step, make_ask

ITEMS = tuple(Item(str(n), f"Film number {n}") for n in range(8))
CATALOGUE = Catalogue(ITEMS, noun="film")
OPENING = Message("user", "A film, please.")
SHOWN = (OPENING, Message("recommender", "These?", ITEMS[1:3]), Message("user", "No."))


class Records(InPlace):
    """Remembers what it was asked for."""

    asked: tuple[int, ...] = ()

    def scores(self, history):
        Records.asked = tuple(history)
        return super().scores(history)


def replies(action="recommend", titles=("Film number 6", "No Such Film")):
    return {
        "decide": {"action": action},
        "recommend": {"titles": list(titles)},
        "ask": {"question": "Which year?"},
        "respond": {"response": "Here you are."},
    }


def turn_of(given, *said, probe=False, **options):
    context = AgentContext(
        CATALOGUE, VisibleCase("u1", ITEMS[:1]), 2, {"recommender": Records(in_place(8).content)}
    )
    agent = InterCRS(InterCRS.Options(recommender=FIRST_IS_BEST, **options), context)
    model = FakeModel(by_step(**given))
    ask = make_ask(model, prompts_of("agents", "intercrs"))
    dialogue = Dialogue(list(said) or [OPENING])

    async def once():
        turn = await agent.respond(dialogue, ask)
        return turn, await agent.would_recommend(dialogue, ask.probing()) if probe else None

    turn, would = asyncio.run(once())
    return turn, model.calls, would


def ids(items):
    return [item.id for item in items]


def test_the_recommender_takes_history_and_drafted_titles_and_every_item_is_its_own():
    turn, calls, _ = turn_of(replies())
    assert [call.step.name for call in calls] == ["decide", "recommend", "respond"]
    assert Records.asked == (0, 6)
    # The first of the catalogue are its best; the user's history is left out.
    assert ids(turn.shown) == ids(turn.ranking) == ids(turn.candidates) == ["1", "2"]
    assert turn.extra["drafted"] == ["6"]
    assert turn.extra["titles_ungrounded"] == ["No Such Film"]
    assert "empty_reason" not in turn.extra
    assert "- Film number 1\n- Film number 2" in calls[-1].messages[0].content


def test_titles_that_mean_nothing_leave_the_history_to_the_recommender():
    turn, _, _ = turn_of(replies(titles=["{{ x }}", "No Such Film"]))
    assert Records.asked == (0,)
    assert ids(turn.shown) == ["1", "2"]
    assert turn.extra["titles_grounded"] == 0


@pytest.mark.parametrize(("repeat", "left"), [(False, ["3", "4"]), (True, ["0", "1"])])
def test_what_was_shown_is_left_out_unless_repeats_are_allowed(repeat, left):
    turn, _, _ = turn_of(replies(), *SHOWN, repeat=repeat)
    assert ids(turn.shown) == left


def test_a_question_shows_nothing_and_a_probe_asks_the_recommender():
    turn, calls, would = turn_of(replies("ask"), probe=True)
    assert (turn.action, turn.shown, turn.ranking, turn.candidates) == ("ask", (), None, None)
    assert [call.step.name for call in calls] == ["decide", "ask", "respond", "recommend"]
    assert ids(would) == ["1", "2"]


def test_bad_options_are_refused():
    with pytest.raises(ValidationError):
        InterCRS.Options(recommender={"name": 3})


@pytest.mark.parametrize("skill", [1.0, 0.0])
def test_dialogues_by_the_rules_do_not_fail(skill):
    domain = Synthetic(Synthetic.Options(items=200, users=40, history=10))
    artifacts = fitted(InterCRS.needs(InterCRS.Options()), domain)
    for case in ("u0", "u1", "u2"):
        model = rules(domain, skill=skill)
        played, _ = play(InterCRS, "intercrs", domain, case, model, artifacts=artifacts, turns=15)
        assert played.stop_reason in ("accepted", "user_left", "max_turns")
        json.dumps([turn.agent.extra for turn in played.turns])


def test_items_may_be_matched_by_the_text_of_the_conversation_and_the_titles():
    options = InterCRS.Options(retriever="lexical")
    assert InterCRS.needs(options) == {}
    agent = InterCRS(options, AgentContext(FILMS, VisibleCase("u1", FILMS.items[:1]), 1))
    model = FakeModel(by_step(**replies(titles=("Alien Gardens",))))
    ask = make_ask(model, prompts_of("agents", "intercrs"))
    said = Dialogue([Message("user", "An action film, please.")])
    turn = asyncio.run(agent.respond(said, ask))
    # "Action" is said, "Alien Gardens" is named; all but the history is ranked.
    assert ids(turn.shown) == ["4"]
    assert ids(turn.ranking)[:2] == ["4", "3"]
    assert len(turn.ranking) == len(FILMS) - 1
    dense = InterCRS.Options(retriever="dense")
    assert [*InterCRS.needs(dense)] == ["item_vectors"]
    assert InterCRS.roles_of(dense) == ("agent", "agent.retriever")
    assert InterCRS.roles_of(InterCRS.Options()) == ("agent",)
