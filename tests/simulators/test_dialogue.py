"""The dialogue loop, its stop reasons and success rules, played with fakes."""

import asyncio
import json
from dataclasses import replace

import numpy as np
import pytest

from agents.core.agent import Agent, AgentContext, AgentOptions
from agents.core.ask import CallLog
from agents.core.dialogue import AgentTurn, UserTurn
from agents.core.errors import AgentError, CriticError, UserError
from simulators.core.critic import Critic, CriticOptions, CriticTurn
from simulators.core.dialogue import DialogueLimits, Transcript, Watcher, run_dialogue
from simulators.core.user import User, UserContext, UserOptions
from simulators.success.critic_above import critic_above
from simulators.success.target_in_shown import target_in_shown
from simulators.success.user_accepts import user_accepts
from tests.fakes import CASE, CATALOGUE, ITEMS, FakeModel, make_ask


class ScriptedAgent(Agent):
    steps = ()

    def __init__(self, *turns):
        super().__init__(AgentOptions(), AgentContext(CATALOGUE, CASE.visible, 10))
        self.turns, self.saw = list(turns), []

    async def respond(self, dialogue, ask):
        self.saw.append([(m.speaker, m.text) for m in dialogue.messages])
        turn = self.turns.pop(0)
        if isinstance(turn, Exception):
            raise turn
        return turn

    async def would_recommend(self, dialogue, ask):
        assert ask.role == "agent.probe"
        return ITEMS[:2]


class ScriptedUser(User):
    steps = ()

    def __init__(self, *turns):
        super().__init__(UserOptions(), UserContext(CATALOGUE, CASE))
        self.turns, self.saw = list(turns), []

    async def open(self, ask):
        return UserTurn("hello", "answer")

    async def reply(self, dialogue, ask):
        self.saw.append([(m.speaker, m.text) for m in dialogue.messages])
        turn = self.turns.pop(0)
        if isinstance(turn, Exception):
            raise turn
        return turn


ASKS = AgentTurn("what?", "ask")
SHOWS_TARGET = AgentTurn("this?", "recommend", (ITEMS[0], ITEMS[1]), (ITEMS[0], ITEMS[1]))
ANSWERS, REFUSES = UserTurn("well", "answer"), UserTurn("no", "refuse")
ACCEPTS = UserTurn("yes", "accept", ITEMS[1])


def played(agent, user, *, rule=user_accepts, limits=None, probe=False, critic=None) -> Transcript:
    transcript, journal = Transcript(), CallLog()
    asks = [make_ask(FakeModel(lambda c: "x"), "none", role=r, journal=journal) for r in
            ("agent", "user")]  # fmt: skip
    limits = limits or DialogueLimits(5, 1000)
    asyncio.run(
        run_dialogue(
            agent, user, *asks, hidden=CASE.hidden, limits=limits, is_success=rule, probe=probe,
            transcript=transcript,
            watcher=None if critic is None else Watcher(critic, asks[0]),
        )
    )  # fmt: skip
    return transcript


def test_the_user_opens_and_the_dialogue_ends_when_it_accepts():
    agent = ScriptedAgent(ASKS, SHOWS_TARGET)
    done = played(agent, ScriptedUser(ANSWERS, ACCEPTS))
    assert (done.stop_reason, done.success_turn, len(done.turns)) == ("accepted", 2, 2)
    assert agent.saw[0] == [("user", "hello")]
    assert agent.saw[1] == [("user", "hello"), ("recommender", "what?"), ("user", "well")]


def test_each_side_is_shown_as_many_turns_as_its_own_options_say():
    agent = ScriptedAgent(ASKS, ASKS, SHOWS_TARGET)
    agent.options = AgentOptions(history_turns=1)
    user = ScriptedUser(ANSWERS, ANSWERS, ACCEPTS)
    played(agent, user)
    assert agent.saw[0] == [("user", "hello")]
    assert agent.saw[2] == [
        ("note", "earlier turns are left out here"), ("recommender", "what?"), ("user", "well"),
    ]  # fmt: skip
    assert user.saw[2] == [
        ("user", "hello"), ("recommender", "what?"), ("user", "well"), ("recommender", "what?"),
        ("user", "well"), ("recommender", "this?"),
    ]  # fmt: skip


def test_the_last_turn_that_the_limit_allows_is_played():
    done = played(
        ScriptedAgent(ASKS, ASKS), ScriptedUser(ANSWERS, ANSWERS), limits=DialogueLimits(2, 99)
    )
    assert (done.stop_reason, done.success_turn, len(done.turns)) == ("max_turns", None, 2)


def test_a_user_may_leave():
    done = played(ScriptedAgent(ASKS), ScriptedUser(UserTurn("bye", "answer", leaves=True)))
    assert done.stop_reason == "user_left"


def test_the_token_budget_ends_a_dialogue_after_the_turn_that_reaches_it():
    class Counting(CallLog):
        def tokens(self, counts):
            return 1000 * len(transcript.turns)

    transcript, journal = Transcript(), Counting()
    asks = [make_ask(FakeModel(lambda c: "x"), "none", journal=journal) for _ in range(2)]
    asyncio.run(
        run_dialogue(
            ScriptedAgent(ASKS, ASKS, ASKS), ScriptedUser(ANSWERS, ANSWERS, ANSWERS), *asks,
            hidden=CASE.hidden, limits=DialogueLimits(5, 2000), is_success=user_accepts,
            probe=False, transcript=transcript,
        )
    )  # fmt: skip
    assert (transcript.stop_reason, len(transcript.turns)) == ("token_budget", 2)


def test_success_by_the_shown_target_ignores_the_users_words_and_ends_nothing():
    turns = (SHOWS_TARGET, ASKS)
    done = played(ScriptedAgent(*turns), ScriptedUser(REFUSES, ANSWERS), rule=target_in_shown,
                  limits=DialogueLimits(2, 99))  # fmt: skip
    assert (done.stop_reason, done.success_turn) == ("max_turns", 1)
    by_words = played(
        ScriptedAgent(*turns), ScriptedUser(REFUSES, ANSWERS), limits=DialogueLimits(2, 99)
    )
    assert by_words.success_turn is None


def test_a_probe_fills_in_what_an_asking_agent_would_have_recommended():
    done = played(ScriptedAgent(ASKS, SHOWS_TARGET), ScriptedUser(ANSWERS, ACCEPTS), probe=True)
    assert done.turns[0].agent.ranking == ITEMS[:2]
    assert done.turns[0].agent.shown == ()
    without = played(ScriptedAgent(ASKS, SHOWS_TARGET), ScriptedUser(ANSWERS, ACCEPTS))
    assert without.turns[0].agent.ranking is None


def test_errors_of_a_plugins_code_are_blamed_on_its_side_and_leave_the_turns_before():
    with pytest.raises(AgentError, match="KeyError: 'lost'") as caught:
        played(ScriptedAgent(KeyError("lost")), ScriptedUser())
    assert caught.value.blame == "agent"
    with pytest.raises(UserError) as caught_user:
        played(ScriptedAgent(ASKS), ScriptedUser(ValueError("odd")))
    assert caught_user.value.blame == "user"


def test_the_words_and_records_of_both_sides_are_kept_as_they_can_be_stored():
    extra = {"scores": np.float32([0.5, np.nan]), 3: {"b", "a"}, "n": np.int64(7), "x": "\ud83d"}
    done = played(
        ScriptedAgent(AgentTurn("half \ud83d", "ask", extra=extra, strategy="\udfff")),
        ScriptedUser(UserTurn("\ud83d", "answer", leaves=True, feedback={"1": "\ud83d"})),
    )
    [(agent, user, _)] = done.turns
    assert (agent.text, agent.strategy) == ("half \ufffd", "\ufffd")
    assert agent.extra == {"scores": [0.5, None], "3": ["a", "b"], "n": 7, "x": "\ufffd"}
    assert (user.text, user.feedback) == ("\ufffd", {"1": "\ufffd"})
    json.dumps(agent.extra, allow_nan=False)


@pytest.mark.parametrize(
    ("turn", "said"),
    [
        (None, "expected an AgentTurn, found NoneType"),
        (AgentTurn(None, "ask"), "text: expected a string, found NoneType"),  # type: ignore[arg-type]
        (AgentTurn("a", "sing"), "action: expected one of ask, recommend"),  # type: ignore[arg-type]
        (AgentTurn("a", "ask", ("1",)), "shown: expected items, found str"),  # type: ignore[arg-type]
        (AgentTurn("a", "ask", ranking=(1,)), "ranking: expected items"),  # type: ignore[arg-type]
        (AgentTurn("a", "ask", strategy=3), "strategy: expected a string"),  # type: ignore[arg-type]
        (AgentTurn("a", "ask", extra=[1]), "extra: expected a mapping"),  # type: ignore[arg-type]
        (AgentTurn("a", "ask", extra={"p": [DialogueLimits]}), r"extra.p\[0\] is of the type type"),
        (AgentTurn("a", "ask", extra={(1, 2): 3}), "a key of the type tuple"),
    ],
)
def test_what_an_agent_gives_that_cannot_be_used_is_its_own_fault(turn, said):
    with pytest.raises(AgentError, match=said):
        played(ScriptedAgent(turn), ScriptedUser(ANSWERS))


@pytest.mark.parametrize(
    ("turn", "said"),
    [
        ("bye", "expected a UserTurn, found str"),
        (UserTurn("a", "maybe"), "decision: expected one of accept"),  # type: ignore[arg-type]
        (UserTurn("a", "accept", "1"), "accepted: expected items"),  # type: ignore[arg-type]
        (UserTurn("a", "refuse", feedback={"1": b"x"}), "feedback.1 is of the type bytes"),  # type: ignore[dict-item]
    ],
)
def test_what_a_user_gives_that_cannot_be_used_is_its_own_fault(turn, said):
    with pytest.raises(UserError, match=said):
        played(ScriptedAgent(ASKS), ScriptedUser(turn))


def test_more_items_than_a_turn_may_show_are_the_agents_fault():
    agent = ScriptedAgent(AgentTurn("these?", "recommend", ITEMS[:3]))
    agent.context = replace(agent.context, shown_items=2)
    with pytest.raises(AgentError, match=r"shown: 3 items, but limits\.shown_items is 2"):
        played(agent, ScriptedUser(REFUSES))


def test_a_success_rule_that_raises_is_to_blame_itself():
    def broken(agent, user, hidden, critic):
        raise KeyError("no such item")

    with pytest.raises(CriticError, match="KeyError: 'no such item'") as caught:
        played(ScriptedAgent(ASKS), ScriptedUser(ANSWERS), rule=broken)
    assert caught.value.blame == "critic"


class ScriptedCritic(Critic):
    steps = ()

    def __init__(self, *turns):
        super().__init__(CriticOptions(), "film")
        self.turns, self.saw = list(turns), []

    async def after_turn(self, dialogue, ask):
        self.saw.append([(m.speaker, m.text) for m in dialogue.messages])
        dialogue.whole.clear()  # it is given a copy
        turn = self.turns.pop(0)
        if isinstance(turn, Exception):
            raise turn
        return turn


LOW, HIGH, MISSING = CriticTurn(0.2), CriticTurn(0.9, above=True), CriticTurn(None)


def test_a_critic_sees_the_users_answer_and_ends_the_dialogue_above_its_threshold():
    critic = ScriptedCritic(LOW, MISSING, HIGH)
    done = played(
        ScriptedAgent(ASKS, ASKS, ASKS, ASKS), ScriptedUser(ANSWERS, ANSWERS, ANSWERS, ANSWERS),
        rule=critic_above, critic=critic,
    )  # fmt: skip
    assert (done.stop_reason, done.success_turn, len(done.turns)) == ("critic", 3, 3)
    assert [turn.critic for turn in done.turns] == [LOW, MISSING, HIGH]
    assert critic.saw[0] == [("user", "hello"), ("recommender", "what?"), ("user", "well")]
    assert len(critic.saw[2]) == 7


@pytest.mark.parametrize(
    ("answer", "reason"),
    [(ACCEPTS, "accepted"), (UserTurn("bye", "answer", leaves=True), "user_left")],
)
def test_what_the_user_does_ends_the_dialogue_before_the_critic_could(answer, reason):
    critic = ScriptedCritic(HIGH)
    done = played(ScriptedAgent(SHOWS_TARGET), ScriptedUser(answer), critic=critic)
    assert done.stop_reason == reason
    assert done.turns[0].critic == HIGH
    assert len(critic.saw) == 1


def test_a_dialogue_without_a_critic_has_no_critic_above():
    done = played(
        ScriptedAgent(SHOWS_TARGET), ScriptedUser(ACCEPTS), rule=critic_above,
    )  # fmt: skip
    assert (done.stop_reason, done.success_turn, done.turns[0].critic) == ("accepted", None, None)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (ZeroDivisionError("x"), "ZeroDivisionError: x"),
        ("good", "expected a CriticTurn, found str"),
        (CriticTurn(1.5), "expected a number from 0 to 1, found 1.5"),
        (CriticTurn(float("nan")), "expected a number from 0 to 1"),
        (CriticTurn(True), "found bool"),
        (CriticTurn(None, above=True), "expected False if the score is missing"),
        (CriticTurn(0.5, extra={"x": object()}), "extra"),
    ],
)
def test_a_critic_whose_code_fails_is_to_blame(given, words):
    with pytest.raises(CriticError, match=words) as caught:
        played(ScriptedAgent(ASKS), ScriptedUser(ANSWERS), critic=ScriptedCritic(given))
    assert caught.value.blame == "critic"
