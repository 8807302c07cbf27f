"""MACRS: three agents propose, a planner selects, failures are reflected on."""

import asyncio
import json
import random

import pytest
from pydantic import ValidationError

from agents.core.agent import AgentContext
from agents.core.dialogue import Dialogue, Message
from agents.core.errors import ReplyInvalid
from agents.macrs import MACRS
from simulators.domains.synthetic import Synthetic
from tests.agents.playing import play, prompts_of, rules
from tests.fakes import CASE, CATALOGUE, ITEMS, FakeModel, by_step, make_ask
from workers.backends.core.replies import random_reply

PROMPTS = prompts_of("agents", "macrs")
OPENING = Message("user", "An action film, please.")
PROPOSALS = ["ask", "recommend", "chat"]


def replies(act="recommend", titles=("Heat Wave (1995)",), **changes):
    usual = {
        "inform": {"demand": "The demand.", "browsing": "The browsing."},
        "reflect": {
            "cause": "The cause.",
            "asking": "Advice on asking.",
            "recommending": "Advice on recommending.",
            "chatting": "Advice on chatting.",
            "planning": "Advice on planning.",
        },
        "ask": {"question": "Which decade?"},
        "recommend": {"titles": list(titles)},
        "chat": {"message": "Action films are fun."},
        "plan": {"thought": "One by one.", "act": act},
        "respond": {"response": "Here you are."},
    }
    return {**usual, **changes}


class Talk:
    """A dialogue with one agent, turn by turn."""

    def __init__(self, **options):
        context = AgentContext(CATALOGUE, CASE.visible, 2)
        self._agent = MACRS(MACRS.Options(**options), context)
        self._said = [OPENING]
        self.calls = []

    def turn(self, given):
        """The agent's turn; the user refuses it."""
        model = FakeModel(given if callable(given) else by_step(**given))
        turn = asyncio.run(self._agent.respond(Dialogue(self._said), make_ask(model, PROMPTS)))
        self.calls = model.calls
        self._said += [Message("recommender", turn.text, turn.shown), Message("user", "No.")]
        return turn

    @property
    def steps(self):
        return [call.step.name for call in self.calls]

    def prompt(self, step):
        return next(c.messages[0].content for c in self.calls if c.step.name == step)


def test_the_right_plan_recommends_what_the_recommending_agent_named():
    talk = Talk()
    turn = talk.turn(replies())
    assert [(c.role.removeprefix("agent"), c.step.name) for c in talk.calls] == [
        (".reflector", "inform"),
        (".responder", "ask"),
        (".responder", "recommend"),
        (".responder", "chat"),
        (".planner", "plan"),
        ("", "respond"),
    ]
    assert (turn.action, turn.strategy, turn.text) == ("recommend", "recommend", "Here you are.")
    assert turn.shown == turn.ranking == (ITEMS[1],)
    assert turn.candidates is None
    assert turn.extra["profile"] == {"demand": "The demand.", "browsing": "The browsing."}
    assert turn.extra["reflected"] is None


@pytest.mark.parametrize(
    ("act", "words"), [("ask", "Which decade?"), ("chat", "Action films are fun.")]
)
def test_another_plan_sends_the_candidate_of_that_agent(act, words):
    talk = Talk()
    turn = talk.turn(replies(act))
    assert "respond" not in talk.steps
    assert (turn.action, turn.strategy, turn.text) == (act, act, words)
    assert (turn.shown, turn.ranking) == ((), (ITEMS[1],))


def test_the_planner_sees_all_candidates_and_the_responders_the_profile():
    talk = Talk()
    talk.turn(replies())
    plan = talk.prompt("plan")
    assert "Candidate of the asking agent: Which decade?" in plan
    assert "Candidate of the chit-chatting agent: Action films are fun." in plan
    assert "- Heat Wave (1995) | genre: Action, Thriller; decade: 1990s" in plan
    assert "one for each turn: none" in plan
    for step in (*PROPOSALS, "plan"):
        assert "What the user wants: The demand." in talk.prompt(step)
        assert "What the user has seen: The browsing." in talk.prompt(step)
    assert "The demand." not in talk.prompt("inform")  # made by it
    talk.turn(replies())
    assert "The demand." in talk.prompt("inform")


@pytest.mark.parametrize("act", ["ask", "chat"])
def test_no_failure_is_reflected_on_after_a_turn_that_recommended_nothing(act):
    talk = Talk()
    talk.turn(replies(act))
    talk.turn(replies())
    assert "reflect" not in talk.steps
    assert f"one for each turn: {act}" in talk.prompt("plan")


def test_a_failed_recommendation_gives_each_agent_its_own_advice():
    talk = Talk()
    talk.turn(replies())
    turn = talk.turn(replies(titles=["Amélie's Café"]))
    assert talk.steps == ["inform", "reflect", *PROPOSALS, "plan", "respond"]
    assert turn.extra["reflected"]["cause"] == "The cause."
    advice = {"ask": "asking", "recommend": "recommending", "chat": "chatting", "plan": "planning"}
    for step, part in advice.items():
        given = [line for line in talk.prompt(step).splitlines() if line.startswith("- Advice on")]
        assert given == [f"- Advice on {part}."]
    assert "one for each turn: recommend" in talk.prompt("reflect")
    assert turn.shown == (ITEMS[4],)
    # The advice stays after a turn without a failure, and no second reflection is made.
    talk.turn(replies("ask"))
    later = talk.turn(replies("ask"))
    assert "reflect" not in talk.steps
    assert later.extra["reflected"] is None
    assert "- Advice on asking." in talk.prompt("ask")


def test_the_latest_experiences_are_shown_and_no_more():
    talk = Talk(experiences=2)
    for number in range(4):
        advice = {**replies()["reflect"], "planning": f"Lesson {number}."}
        talk.turn(replies(reflect=advice))
    assert "- Lesson 2.\n- Lesson 3." in talk.prompt("plan")
    assert "Lesson 1." not in talk.prompt("plan")
    assert talk.prompt("reflect").count("- The cause.") == 2


def test_always_wrong_titles_recommend_nothing_and_are_counted():
    talk = Talk()
    turn = talk.turn(replies(titles=["No Such Film", "Alien Garden (1979)"]))
    assert (turn.action, turn.shown, turn.ranking) == ("recommend", (), ())
    assert turn.extra["titles_ungrounded"] == ["No Such Film"]
    assert turn.extra["empty_reason"] == "ungrounded+history"
    assert "recommending agent, title | what is known about it:\n(none)" in talk.prompt("plan")
    assert "- No Such Film: not found" in talk.prompt("respond")


def test_what_was_shown_is_not_recommended_again_unless_repeats_are_allowed():
    for repeat, shown in ((False, ()), (True, (ITEMS[1],))):
        talk = Talk(repeat=repeat)
        talk.turn(replies())
        assert talk.turn(replies()).shown == shown


@pytest.mark.parametrize(
    ("step", "reply"),
    [
        ("inform", {"demand": "x" * 10_000, "browsing": "x"}),
        ("plan", {"thought": "x", "act": "sell"}),
        ("chat", {"message": ""}),
        ("recommend", {"titles": ["Heat Wave"] * 3}),
        ("ask", {"question": "x" * 10_000}),
    ],
)
def test_replies_that_break_the_form_are_asked_for_again_and_then_refused(step, reply):
    talk = Talk()
    assert talk.turn(replies(**{step: [reply, replies()[step]]})).shown == (ITEMS[1],)
    with pytest.raises(ReplyInvalid, match=f"step {step}"):
        Talk().turn(replies(**{step: reply}))


@pytest.mark.parametrize("seed", range(20))
def test_random_valid_replies_never_break_a_dialogue(seed):
    rng, talk = random.Random(seed), Talk()
    for _ in range(4):
        turn = talk.turn(lambda call: random_reply(call.step.schema, rng))
        assert set(turn.shown) <= set(turn.ranking)
        json.dumps(turn.extra)


def test_bad_options_are_refused():
    with pytest.raises(ValidationError):
        MACRS.Options(experiences=0)


@pytest.mark.parametrize("skill", [1.0, 0.5, 0.0])
def test_dialogues_by_the_rules_do_not_fail(skill):
    domain = Synthetic(Synthetic.Options(items=200, users=40, history=10))
    for case in ("u0", "u1", "u2"):
        played, _ = play(MACRS, "macrs", domain, case, rules(domain, skill=skill), turns=15)
        assert played.stop_reason in ("accepted", "user_left", "max_turns")
        assert skill < 1 or played.stop_reason == "accepted"
        assert all(turn.agent.ranking is not None for turn in played.turns)
