"""The user of the multi-round setting, and which agents fit it."""

import asyncio
from typing import Any

import pytest

from agents.core import plugins
from agents.core.dialogue import Dialogue, Message
from agents.core.errors import UsageError
from agents.core.items import VisibleCase
from agents.multi_round.space import AttributeSpace, Form
from agents.multi_round.talk import NO_PICK, REFUSAL, question_text
from simulators.core.cases import Case, HiddenCase
from simulators.core.user import UserContext
from simulators.users.attribute_user import AttributeUser
from tests.agents.multi_round import worlds
from tests.fixtures_scpr import write_lastfm
from tests.sweep_files import plan_of, write_sweep

TAGS = [["rock", "80s"], ["rock", "jazz"], ["folk"], []]
CATALOGUE = worlds.catalogue_of(TAGS)
ITEMS = CATALOGUE.items


class Talk:
    """A user of these targets, and the messages so far."""

    def __init__(self, *targets: int, seed: int = 0, **options):
        case = Case(VisibleCase("c", ()), HiddenCase(tuple(ITEMS[place] for place in targets)))
        checked: Any = plugins.build_options(AttributeUser.Options, options)
        self.user = AttributeUser(checked, UserContext(CATALOGUE, case))
        self.ask = worlds.asking("user", "c", seed)
        self.opening = asyncio.run(self.user.open(self.ask))
        self.messages = [Message("user", self.opening.text)]

    def hears(self, text, *shown):
        self.messages.append(Message("recommender", text, tuple(ITEMS[place] for place in shown)))
        turn = asyncio.run(self.user.reply(Dialogue(self.messages), self.ask))
        self.messages.append(Message("user", turn.text))
        return turn

    def asked(self, value, form: Form = "binary"):
        space = AttributeSpace.of(CATALOGUE, form)
        found = next(
            q for q in space.questions if any(space.facts[f].value == value for f in q.facts)
        )
        return self.hears(question_text(found, space))


def test_it_opens_with_a_value_of_the_target_that_the_seed_draws():
    openings = {Talk(0, seed=seed).opening.text for seed in range(12)}
    assert openings == {
        'I am looking for a music artist with the tag "rock".',
        'I am looking for a music artist with the tag "80s".',
    }
    assert Talk(3).opening.text == "I am looking for a music artist."
    assert Talk(0).opening.extra == {"knew": {"targets": ["0"]}}


def test_it_answers_truly_refuses_all_but_the_target_and_accepts_that():
    talk = Talk(0)
    assert talk.asked("jazz").text == "No."
    assert talk.asked("rock").text == "Yes."
    refused = talk.hears("How about these?", 1, 2)
    assert (refused.text, refused.decision, refused.leaves) == (REFUSAL, "refuse", False)
    accepted = talk.hears("And these?", 2, 0)
    assert (accepted.decision, accepted.accepted) == ("accept", ITEMS[0])


def test_it_picks_from_enumerated_values():
    assert Talk(1).asked("rock", "enumerated").text == 'I want "rock" and "jazz".'
    assert Talk(3).asked("rock", "enumerated").text == NO_PICK


def test_what_it_wants_always_describes_one_of_several_targets():
    talk = Talk(1, 0, seed=0)
    assert "rock" in talk.opening.text or "jazz" in talk.opening.text
    first = talk.asked("80s").text
    assert {first, talk.asked("jazz").text} == {"Yes.", "No."}
    assert talk.hears("How about it?", 0).decision == "accept"


def test_it_leaves_after_its_patience_and_not_before():
    talk = Talk(0, patience=2)
    assert not talk.asked("jazz").leaves
    assert talk.asked("folk").leaves
    late = Talk(0, patience=1).hears("This?", 0)
    assert (late.decision, late.leaves) == ("accept", False)


def test_other_words_are_not_understood():
    turn = Talk(0).hears("What do you like?")
    assert (turn.text, turn.extra) == ("I do not understand.", {"understood": False})


def sweep(tmp_path, agent, user, **changes):
    lastfm = {"name": "lastfm", "path": str(write_lastfm(tmp_path / "data"))}
    given = {"domain": lastfm, "grid": None, "agent": agent, "simulator": user, **changes}
    return write_sweep(tmp_path, roles={"user": "strong", "agent": "strong"}, **given)


def test_agents_that_speak_freely_are_refused_with_the_reason(tmp_path):
    with pytest.raises(UsageError) as refused:
        plan_of(sweep(tmp_path, "zero_shot", "attribute_user"))
    assert "does not understand the free words of 'zero_shot'" in refused.value.message
    assert "max_entropy" in refused.value.message
    assert "sweep.yaml" in refused.value.message


def test_agents_that_ask_about_attributes_meet_both_kinds_of_users(tmp_path):
    for user in ("attribute_user", "ievalm", "target_item"):
        [cell] = plan_of(sweep(tmp_path, "max_entropy", user)).cells
        assert set(cell.roles) == (set() if user == "attribute_user" else {"user"})
        assert [need.name for need in cell.needs] == ["vectors"]


def test_they_need_attributes_to_ask_about(tmp_path):
    bare = write_lastfm(tmp_path / "bare", features={number: [] for number in range(40)})
    with pytest.raises(UsageError, match="no item of the domain 'lastfm' has one"):
        domain = {"name": "lastfm", "path": str(bare)}
        plan_of(sweep(tmp_path, "max_entropy", "attribute_user", domain=domain))
