"""The Rewarder of RSO: its score, its missing verdicts, what it must not see, hostile words."""

from __future__ import annotations

import asyncio
import dataclasses
import json

import hypothesis
import pytest
from hypothesis import strategies as st

from agents.core.ask import CallLog
from agents.core.dialogue import AgentTurn, Dialogue, Message, UserTurn
from agents.core.errors import EngineRefused
from agents.core.items import Item
from simulators.core.cases import HiddenCase
from simulators.core.critic import CRITICS
from simulators.core.dialogue import DialogueLimits, Transcript, Watcher, run_dialogue
from simulators.critics.rewarder import Rewarder
from simulators.success.critic_above import critic_above
from tests.agents.playing import prompts_of, rules
from tests.fakes import FakeModel, make_ask
from tests.simulators.judges.harness import ITEMS, TURNS, outside, prompt_of
from tests.simulators.judges.test_hostile import HOSTILE_WORDS, SECRET, SPEAKERS, Domain
from tests.simulators.test_dialogue import ScriptedAgent, ScriptedUser

PROMPTS = prompts_of(CRITICS, "rewarder")
MESSAGES = [Message("user", "Hello.")]
for each in TURNS:
    MESSAGES.append(Message("recommender", each.agent_text, each.shown))
    MESSAGES.append(Message("user", each.user_text or ""))


def rated(reply, *, messages=MESSAGES, guided=True, model=None, **options):
    """What the critic says of the latest turn, and the calls that it made."""
    critic, journal = Rewarder(Rewarder.Options(**options), "film"), CallLog()
    ask = make_ask(model or FakeModel(reply, guided=guided), PROMPTS, role="critic",
                   journal=journal)  # fmt: skip
    turn = asyncio.run(critic.after_turn(Dialogue(list(messages)), ask))
    return turn, [record.call for record in journal.records]


def verdicts(*given):
    """The verdict of each draw; a text is a reply that stays invalid."""
    return lambda call: v if isinstance(v := given[call.draw], str) else {"verdict": v}


def test_the_score_is_the_mean_of_what_the_verdicts_are_worth():
    turn, calls = rated(verdicts(5, 5, 4, 3), samples=4)
    assert turn.score == pytest.approx((1.0 + 1.0 + 0.8 + 0.2) / 4)
    assert turn.above  # 0.75 > 0.7
    assert turn.extra == {"verdicts": [0, 0, 1, 1, 2], "unparsed": 0}
    assert len({call.seed for call in calls}) == 4
    assert {(call.role, call.temperature) for call in calls} == {("critic", 1.1)}
    other, _ = rated(verdicts(5, 5, 4, 3), samples=4, values=[0, 0.25, 0.5, 0.75, 1])
    assert other.score == pytest.approx(0.8125)


def test_only_a_score_above_the_threshold_ends_the_dialogue():
    for threshold, above in ((0.7, True), (0.8, False), (0.79, True), (1.0, False)):
        assert rated(verdicts(4), samples=1, threshold=threshold)[0].above is above
    assert not rated(verdicts(5), samples=1, threshold=1)[0].above


@hypothesis.given(
    st.permutations([1, 1, 1, 1, 1, 4, 4, 4, 4, 4]) | st.permutations([2] * 6 + [4, 5, 5, 5])
)
@hypothesis.settings(max_examples=30)
def test_a_mean_at_the_threshold_is_not_above_it_in_any_order_of_draws(draws):
    turn, _ = rated(verdicts(*draws), samples=10, threshold=0.62 if 2 in draws else 0.7)
    assert turn.score == (0.62 if 2 in draws else 0.7)
    assert not turn.above


def test_unparsed_draws_are_counted_and_left_out():
    turn, calls = rated(verdicts(5, "no", 3, "", 5, 5), samples=6)
    assert turn.score == pytest.approx(3.2 / 4)
    assert turn.extra == {"verdicts": [0, 0, 1, 0, 3], "unparsed": 2}
    assert len(calls) == 4 + 2 * 3  # an invalid reply is asked for again twice


def test_with_too_few_valid_draws_the_verdict_is_missing_and_stops_nothing():
    for given, options, missing in (
        (("a", "b", 5, 5), {}, False),
        (("a", "b", "c", 5), {}, True),
        (("a", "b", "c", 5), {"min_valid": 1}, False),
        ((5, 5, 5, "a"), {"min_valid": 4}, True),
        (("a", "b", "c", "d"), {"min_valid": 1}, True),
    ):
        turn, _ = rated(verdicts(*given), samples=4, **options)
        assert (turn.score is None) is missing
        assert turn.above is not missing


def test_a_failing_server_is_not_a_verdict():
    with pytest.raises(EngineRefused):
        rated(lambda call: EngineRefused("no"), samples=3)


@pytest.mark.parametrize("guided", [True, False])
@pytest.mark.parametrize(
    "hostile",
    ["five", '"5"', "5", "null", "[]", "{}", "", '{"verdict": 6}', '{"verdict": "5"}',
     '{"verdict": true}', '{"verdict": 4.5}', '{"verdict": NaN}', '{"verdict": 5, "x": 1}',
     "x" * 10_000, "{" * 10_000],
)  # fmt: skip
def test_a_hostile_reply_is_an_unparsed_draw(hostile, guided):
    turn, _ = rated(verdicts(5, hostile, 3), samples=3, guided=guided)
    assert turn.extra == {"verdicts": [0, 0, 1, 0, 1], "unparsed": 1}
    assert turn.score == pytest.approx(0.6)


@pytest.mark.parametrize("words", HOSTILE_WORDS)
def test_hostile_words_stay_inside_the_fences(words):
    item = dataclasses.replace(
        ITEMS[1], title=f"Heat {' '.join(words.split())}"[:200], description=words,
        attributes={"genre": (" ".join(words.split()),)},
    )  # fmt: skip
    poisoned = [
        Message(
            m.speaker, f"{m.text} {words}", tuple(item if i == ITEMS[1] else i for i in m.shown)
        )
        for m in MESSAGES
    ]
    _, [call] = rated(verdicts(3), messages=poisoned, samples=1)
    _, [clean] = rated(verdicts(3), samples=1)
    prompt = prompt_of(call)
    assert outside(prompt) == outside(prompt_of(clean))
    assert SPEAKERS.findall(prompt) == SPEAKERS.findall(prompt_of(clean))
    assert "<|im_" not in prompt
    assert "[INST]" not in prompt


def test_no_prompt_shows_a_secret_and_neither_side_sees_the_verdict():
    target = Item(f"{SECRET}-id", f"{SECRET}-target", {"genre": (f"{SECRET}-need",)})
    extra = {"reasoning": f"{SECRET}-reasoning"}
    agent = ScriptedAgent(*(
        AgentTurn(turn.agent_text, turn.action or "ask", turn.shown, (target,), (target,),
                  f"{SECRET}-strategy", extra)
        for turn in TURNS
    ))  # fmt: skip
    user = ScriptedUser(*(
        UserTurn(turn.user_text or "", "answer", feedback={target.id: f"{SECRET}-feedback"},
                 extra=extra)
        for turn in TURNS
    ))  # fmt: skip
    journal, transcript = CallLog(), Transcript()
    model = FakeModel(lambda call: {"verdict": 2})
    asks = {role: make_ask(model, PROMPTS, role=role, journal=journal) for role in
            ("agent", "user", "critic")}  # fmt: skip
    asyncio.run(
        run_dialogue(
            agent, user, asks["agent"], asks["user"], hidden=HiddenCase((target,)),
            limits=DialogueLimits(len(TURNS), 10), is_success=critic_above, probe=False,
            transcript=transcript,
            watcher=Watcher(Rewarder(Rewarder.Options(samples=2), "film"), asks["critic"]),
        )
    )  # fmt: skip
    # The critic's tokens do not count against the limit of the dialogue, which is 10.
    assert (transcript.stop_reason, transcript.success_turn) == ("max_turns", None)
    assert [turn.critic.score for turn in transcript.turns if turn.critic] == [0.4] * 4
    assert len(journal.records) == 2 * len(TURNS)
    for record in journal.records:
        prompt = prompt_of(record.call)
        assert SECRET not in prompt
        for word in ("persuade", "refuse", "0.4"):
            assert word not in prompt
    for saw in (*agent.saw, *user.saw):
        assert "0.4" not in str(saw)
        assert len(saw) <= 2 * len(TURNS)


@pytest.mark.parametrize("skill", [1.0, 0.0])
def test_the_rules_backend_answers(skill):
    turn, _ = rated(None, model=rules(Domain(), skill=skill))
    assert turn.score is not None
    assert turn.extra["unparsed"] == 0


def test_the_prompt_is_what_was_said_in_the_order_in_which_it_was_said():
    _, [call] = rated(verdicts(1), samples=1)
    prompt = prompt_of(call)
    said = [line for line in prompt.splitlines() if SPEAKERS.match(line)]
    assert said == [f"{m.speaker}: {m.text}" for m in MESSAGES]
    assert "Heat Wave" in prompt.partition("recommended last:")[2]
    assert json.loads(call.messages_json)[0]["role"] == "user"
