"""The seeker of RSO: what it knows of itself, who decides for it, its record."""

import asyncio

import pytest

from agents.core.dialogue import Dialogue, Message
from agents.core.errors import UsageError
from agents.core.items import Item, VisibleCase
from simulators.core.cases import Case, HiddenCase
from simulators.core.seekers import Person, SeekingCase
from simulators.core.user import UserContext
from simulators.users.seeker import Seeker
from tests.agents.playing import prompts_of
from tests.fakes import CASE, CATALOGUE, ITEMS, FakeModel, by_step, make_ask

PROMPTS = prompts_of("simulators.users", "seeker")
PERSON = Person(
    {"age_group": "25 - 34", "political_view": "Moderate"},
    {"extrovert": 4.3, "agreeable": 1.0, "conscientious": 3.0, "neurotic": 2.5, "open": 3.5},
    {"conformity": 6.0, "power": 1.0, "security": 4.0, "rational": 2.0, "feeling": 5.0},
)
SEEKS = Case(VisibleCase("u1", ()), SeekingCase((ITEMS[1], ITEMS[3]), genres=("Action",),
                                               person=PERSON))  # fmt: skip
WORDS = {"words": "That sounds good."}


def said(*shown, case=SEEKS, model=None, **options):
    """Its answer to a recommender who shows `shown`, and the prompt of its last call."""
    user = Seeker(Seeker.Options(**options), UserContext(CATALOGUE, case))
    model = model or FakeModel(by_step(open=WORDS, answer=WORDS))
    ask = make_ask(model, PROMPTS, role="user")
    opening = asyncio.run(user.open(ask))
    whole = [Message("user", opening.text), Message("recommender", "How about this?", shown)]
    turn = asyncio.run(user.reply(Dialogue(whole), ask))
    return opening, turn, model.calls[-1].messages[0].content


def test_it_knows_who_it_is_and_what_it_wants_and_no_target():
    opening, turn, prompt = said()
    assert opening.text == "Hello."
    assert opening.extra["knew"] == {"facts": ["genre: Action"], "persona": True}
    assert (turn.text, turn.decision) == ("That sounds good.", "answer")
    for words in ("- age group: 25 - 34", "- political view: Moderate", "outgoing and talkative",
                  "critical of others", "fairly organised", "calm and relaxed",
                  "curious and imaginative", "Important to you: conformity.",
                  "Not important to you: power.", "You decide with your heart.",
                  "- genre: Action"):  # fmt: skip
        assert words in prompt, words
    assert "security" not in prompt
    for item in SEEKS.hidden.targets:
        assert item.title not in prompt


def test_without_a_persona_it_knows_only_what_it_wants():
    opening, _, prompt = said(persona=False)
    assert "Who you are" not in prompt
    assert "You decide" not in prompt
    assert "- genre: Action" in prompt
    assert opening.extra["knew"]["persona"] is False


def test_by_default_a_critic_decides_and_it_only_speaks():
    _, turn, prompt = said(ITEMS[1])
    assert (turn.decision, turn.accepted) == ("answer", None)
    assert "- Heat Wave (1995)\n" in prompt
    assert "Thriller" not in prompt


def test_the_rule_accepts_an_item_of_all_wanted_genres():
    assert said(ITEMS[2], decides="rule")[1].decision == "refuse"
    turn = said(ITEMS[2], ITEMS[3], decides="rule")[1]
    assert (turn.decision, turn.accepted) == ("accept", ITEMS[3])
    assert said(decides="rule")[1].decision == "answer"


@pytest.mark.parametrize(("accepted", "decision"), [([2], "accept"), ([], "refuse")])
def test_the_model_may_decide(accepted, decision):
    verdict = {"reason": "It fits.", "accepted": accepted, "words": "Well."}
    model = FakeModel(by_step(judge=verdict))
    _, turn, prompt = said(ITEMS[2], ITEMS[1], model=model, decides="model", item_facts=True)
    assert (turn.decision, turn.text, turn.extra) == (decision, "Well.", {"why": "It fits."})
    assert turn.accepted == (ITEMS[1] if accepted else None)
    assert "2. Heat Wave (1995)\n   genre: Action, Thriller" in prompt


def test_its_first_words_may_be_others_or_its_own():
    assert said(opening="Hi there!")[0].text == "Hi there!"
    assert said(opening=None)[0].text == "That sounds good."


def test_in_other_domains_it_wants_the_broadest_fact_of_its_target():
    assert "- genre: Action\n" in f"{said(case=CASE)[2]}\n"
    bare = Case(VisibleCase("u1", ()), HiddenCase((Item("x", "X"),)))
    with pytest.raises(UsageError, match="needs a case with genres"):
        said(case=bare)
