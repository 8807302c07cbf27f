"""What named titles mean, which of them may be recommended, and why a list is empty."""

from __future__ import annotations

import asyncio

import pytest

from agents.core import plugins
from agents.core.agent import AgentContext
from agents.core.decision_first import RESPOND, write_response
from agents.core.dialogue import Dialogue, Message
from agents.core.grounded_titles import GroundedTitles, ground, ground_mentions
from agents.core.items import Catalogue, Item
from simulators.domains.synthetic import Synthetic
from tests.agents.playing import fitted, play, prompts_of
from tests.fakes import CASE, CATALOGUE, ITEMS, FakeModel, make_ask
from workers.backends.core.replies import Answer, fill

CONTEXT = AgentContext(CATALOGUE, CASE.visible, 10)
RIVER, HEAT, GARDEN, GARDENS, CAFE = ITEMS
SHOWN = Dialogue([Message("user", "hello"), Message("recommender", "look", (RIVER, GARDEN))])


def test_titles_are_looked_for_in_the_whole_catalogue():
    named = ground_mentions(
        ["heat wave", "Alien Gardens (1986)", "No Such Film", "Heat Wave (1995)"], CATALOGUE
    )
    assert named.items == (HEAT, GARDENS)
    assert named.ungrounded == ["No Such Film"]


def test_a_title_outside_of_what_there_was_to_choose_from_is_counted_and_not_guessed():
    titles = ["Heat Wave (1995)", "Alien Garden (1979)"]
    named = ground_mentions(titles, CATALOGUE, among=ITEMS[2:])
    assert named.items == (GARDEN,)
    assert named.ungrounded == ["Heat Wave (1995)"]
    assert ground_mentions(["Heat Wave (1995)"], CATALOGUE, among=()).items == ()


def test_a_title_that_two_items_have_means_the_one_that_was_to_choose_from():
    double = Catalogue((Item("a", "Soap"), Item("b", "Soap"), Item("c", "Oil")), noun="product")
    assert ground_mentions(["Soap"], double).ungrounded == ["Soap"]
    assert ground_mentions(["Soap"], double, among=double.items[1:]).items == (double.items[1],)


def test_items_of_the_history_and_items_shown_before_are_dropped_and_counted():
    named = ground([i.title for i in ITEMS], CONTEXT, SHOWN)
    assert named.items == (HEAT, CAFE)
    assert named.from_history == (GARDEN, GARDENS)  # GARDEN was shown before as well
    assert named.shown_before == (RIVER,)
    extra = named.extra()
    assert (extra["titles_grounded"], extra["titles_from_history"]) == (2, 2)
    assert extra["titles_shown_before"] == 1
    assert "empty_reason" not in extra


def test_with_repeat_nothing_is_dropped():
    named = ground([i.title for i in ITEMS], CONTEXT, SHOWN, repeat=True)
    assert named.items == ITEMS
    assert named.extra()["titles_from_history"] == 0


def test_history_that_candidates_leave_out_is_counted_as_such():
    titles = ["Alien Garden (1979)", "alien garden", "Silent River, The (1971)", "Heat Wave (1995)"]
    named = ground(titles, CONTEXT, SHOWN, among=(CAFE,))
    assert (named.items, named.ungrounded) == ((), ["Heat Wave (1995)"])
    assert (named.from_history, named.shown_before) == ((GARDEN,), (RIVER,))
    assert named.empty_reason == "ungrounded+history+shown_before"
    with_repeat = ground(titles, CONTEXT, SHOWN, among=(CAFE,), repeat=True)
    assert with_repeat.ungrounded == titles


@pytest.mark.parametrize(
    ("titles", "reason"),
    [
        (["Alien Garden (1979)"], "history"),
        (["Silent River, The (1971)"], "shown_before"),
        (["No Such Film"], "ungrounded"),
        (["No Such Film", "Alien Garden", "The Silent River"], "ungrounded+history+shown_before"),
        ([], "nothing_named"),
    ],
)
def test_an_empty_list_says_why(titles, reason):
    named = ground(titles, CONTEXT, SHOWN)
    assert named.items == ()
    assert named.extra()["empty_reason"] == reason
    assert len(named.misses) == len(titles)


def test_without_candidates_no_model_was_asked():
    assert GroundedTitles(asked=False).empty_reason == "no_candidates"
    assert GroundedTitles((HEAT,), asked=False).empty_reason is None


def test_the_response_to_an_empty_list_knows_what_was_named_and_why_it_cannot_be_recommended():
    named = ground(["No Such Film", "Alien Garden (1979)"], CONTEXT, SHOWN)
    model = FakeModel(lambda call: {"response": "I have nothing new for you."})
    ask = make_ask(model, prompts_of("agents", "zero_shot"))
    asyncio.run(write_response(CONTEXT, SHOWN, ask, items=named.items, misses=named.misses))
    asyncio.run(write_response(CONTEXT, SHOWN, ask, items=(HEAT,), misses=named.misses))
    empty, presenting = (call.messages[0].content for call in model.calls)
    assert model.calls[0].step.name == RESPOND.name
    assert "- No Such Film: not found" in empty
    assert "- Alien Garden (1979): already in the user's history" in empty
    assert "No Such Film" not in presenting


def test_the_response_is_given_facts_to_argue_with_and_no_empty_lists():
    model = FakeModel(lambda call: {"response": "Well."})
    ask = make_ask(model, prompts_of("agents", "zero_shot"))
    asyncio.run(write_response(CONTEXT, SHOWN, ask, items=(HEAT,)))
    asyncio.run(write_response(CONTEXT, SHOWN, ask, question="Which decade?"))
    asyncio.run(write_response(CONTEXT, SHOWN, ask))
    presenting, asking, nothing = (call.messages[0].content for call in model.calls)
    assert "- Heat Wave (1995) | genre: Action, Thriller; decade: 1990s" in presenting
    assert "Question to ask:" not in presenting
    assert "Question to ask: Which decade?" in asking
    assert "Items to present" not in asking
    assert "Say that you found nothing suitable" in nothing
    assert not any("(none)" in prompt for prompt in (presenting, asking, nothing))


def naming(titles):
    """A model that acts, names `titles` and turns everything down."""

    def reply(call):
        refuses = call.role.startswith("user")
        return fill(call.step.schema, Answer(acts=not refuses, names=list(titles), text="words"))

    return FakeModel(reply)


# Their items come from a search, a recommender or a recording, whatever the model names: their own
# tests show that neither the history nor what was shown is among them.
SEARCHERS = {"chatcrs_sales", "csi", "desire", "intercrs", "latentcrs", "pc_crs", "recorded",
             "rso", "http"}  # fmt: skip
SEARCHERS |= {"abs_greedy", "crif", "crm", "ear", "max_entropy", "unicorn"}  # ask no model


@pytest.mark.parametrize("name", sorted(set(plugins.names("agents")) - SEARCHERS))
def test_no_agent_shows_the_user_its_history_or_an_item_twice(name):
    domain = Synthetic(plugins.build_options(Synthetic.Options, {"items": 60, "users": 3}))
    cls = plugins.load("agents", name, "agent")
    options = {"llm2rs": False} if name == "af_irs" else {}
    artifacts = fitted(cls.needs(cls.Options(**options)), domain)
    case = domain.case("test", "u1")
    had = [item.title for item in case.visible.history]
    new = [item for item in domain.catalogue.items if item.title not in had][:2]

    def played(titles, **more):
        model = naming(titles)
        transcript, _ = play(
            cls, name, domain, "u1", model, artifacts=artifacts, turns=2, **options, **more
        )
        prompts.extend(c.messages[0].content for c in model.calls if c.step.name == "recommend")
        return [t.agent for t in transcript.turns if t.agent.action == "recommend"]

    prompts: list[str] = []
    both = played([had[0], new[0].title, had[1], new[1].title])
    assert both[0].shown == tuple(new)
    assert all(turn.shown == () for turn in both[1:])
    assert not {i.title for turn in both for i in turn.ranking or ()} & set(had)
    for turn in played(had[:3]):
        assert turn.shown == ()
        assert (turn.extra["empty_reason"], turn.extra["titles_from_history"]) == ("history", 3)
    prompts.clear()
    repeated = played([had[0], new[0].title], repeat=True)
    assert [[i.title for i in turn.shown] for turn in repeated] == [[had[0], new[0].title]] * 2
    assert not any("none of those" in prompt for prompt in prompts)
