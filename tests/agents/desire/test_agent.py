"""DESIRE on eight artists: replies that are always right, always wrong, and hostile."""

import itertools
import json
import random
from collections import Counter
from typing import get_args

import pytest
from pydantic import ValidationError

from agents.core.dialogue import Dialogue
from agents.core.errors import ReplyInvalid
from agents.desire import DESIRE
from agents.desire.signals import feedback, tastes
from agents.desire.steps import ExplorationAction, PersuasiveStrategy
from simulators.domains.synthetic import Synthetic
from tests.agents.desire.harness import (
    ARTISTS,
    OPENING,
    REJECTED,
    TAGS,
    agent_of,
    answered,
    call_of,
    ids,
    prompt,
    replies,
    steps,
)
from tests.agents.in_place import FIRST_IS_BEST
from tests.agents.playing import fitted, play, rules
from workers.backends.core.replies import random_reply

RIGHT = replies("rock", "calm", titles=("Artist number 3", "Artist number 2"))
RECOMMENDING = ["reason", "evaluate", "select", "persuade", "respond"]
EXPLORING = ["reason", "evaluate", "explore", "inquire"]
S1, S2, S3, S4 = (
    "user: No, something calm.",
    "- tag: pop (1)",
    "- Artist number 5 | tag: jazz, calm",
    "- turn 1: Artist number 4",
)
TRACE = "The inferred desire."


def test_always_right_replies_recommend_what_was_computed_by_hand():
    turn, calls, _ = answered(agent_of(), RIGHT)
    assert steps(calls) == RECOMMENDING
    # Rock and calm are 2 and 3, in the order of the recommender.
    assert ids(turn.candidates) == ["2", "3"]
    assert ids(turn.shown) == ids(turn.ranking) == ["3", "2"]
    assert (turn.action, turn.strategy, turn.text) == ("recommend", "social_proof", "Here you are.")
    assert turn.extra["decision"] == "recommend"
    assert turn.extra["search"] == ["rock", "calm"]
    assert (turn.extra["search_dropped"], turn.extra["search_unknown"]) == ([], [])
    assert turn.extra["relevant_items"] == 2
    assert turn.extra["facts"] == ["tag: rock"]
    assert turn.extra["desire"]["desire"] == TRACE
    assert turn.extra["fallback"] is turn.extra["exploration_action"] is None


@pytest.mark.parametrize("target", range(8))
def test_for_every_target_a_right_search_and_selection_show_it(target):
    right = replies(*TAGS[target], titles=(ARTISTS[target].title,))
    turn, _, _ = answered(agent_of(history=()), right)
    assert ids(turn.shown) == [str(target)]
    fitting = [str(n) for n, tags in enumerate(TAGS) if set(TAGS[target]) <= set(tags)]
    assert ids(turn.candidates) == fitting


@pytest.mark.parametrize("target", range(8))
def test_for_every_target_a_wrong_search_never_hands_it_over(target):
    others = dict.fromkeys(t for tags in TAGS for t in tags if t not in TAGS[target])
    wrong = replies(*others, titles=(ARTISTS[target].title,))
    turn, _, _ = answered(agent_of(history=()), wrong)
    assert str(target) not in ids(turn.candidates)
    assert (turn.action, turn.shown) == ("ask", ())
    assert turn.extra["fallback"] == "nothing_selected"


def test_a_decision_to_explore_shows_nothing_and_a_probe_selects_from_the_items_found():
    exploring = replies("rock", "calm", decision="explore", titles=("Artist number 2",))
    turn, calls, would = answered(agent_of(), exploring, probe=True)
    assert steps(calls) == [*EXPLORING, "select"]
    assert calls[-1].role == "agent.probe"
    assert (turn.action, turn.strategy) == ("ask", "preference_narrowing")
    assert (turn.shown, turn.ranking, turn.text) == ((), None, "What is missing?")
    assert ids(turn.candidates) == ["2", "3"]
    assert ids(would) == ["2"]
    assert turn.extra["persuasive_strategy"] is None


@pytest.mark.parametrize(
    ("given", "reason", "missing"),
    [
        (replies("metal"), "nothing_found", {"select"}),
        (replies(), "nothing_found", {"select"}),
        (replies("pop"), "nothing_selected", set()),
        (replies("rock", titles=("Artist number 4", "No artist")), "nothing_selected", set()),
    ],
    ids=["unknown value", "no search", "none selected", "none of those found"],
)
def test_without_evidence_the_agent_falls_back_to_exploration(given, reason, missing):
    turn, calls, _ = answered(agent_of(), given)
    expected = ["reason", "evaluate", "select", "explore", "inquire"]
    assert steps(calls) == [step for step in expected if step not in missing]
    assert (turn.action, turn.shown, turn.ranking) == ("ask", (), ())
    assert turn.extra["decision"] == "recommend"
    assert turn.extra["fallback"] == reason
    assert turn.strategy == turn.extra["exploration_action"] == "preference_narrowing"


def test_what_the_selection_names_wrongly_is_counted():
    wrong = replies("rock", titles=("Artist number 4", "No artist"))
    turn, _, _ = answered(agent_of(), wrong)
    assert turn.extra["titles_ungrounded"] == ["Artist number 4", "No artist"]
    assert turn.extra["empty_reason"] == "ungrounded"


def test_every_signal_is_shown_where_the_paper_fuses_it():
    given = replies("calm", titles=("Artist number 5",))
    agent = agent_of(history=ARTISTS[6:7])
    answered(agent, replies("jazz", decision="explore"), OPENING)
    _, calls, _ = answered(agent, given, *REJECTED)
    for step in ("evaluate", "select", "persuade"):
        for signal in (S1, S2, S3, S4):
            assert signal in prompt(calls, step), (step, signal)
    # The reasoning comes before the search: it sees what the previous turn found.
    for signal in (S1, S2, S4, "- Artist number 4 | tag: jazz"):
        assert signal in prompt(calls, "reason")
    _, calls, _ = answered(agent, replies("calm", decision="explore"), *REJECTED)
    for signal in (S1, S2, S3, S4, TRACE):
        assert signal in prompt(calls, "explore")


def test_the_trace_goes_where_the_equations_list_it():
    _, calls, _ = answered(agent_of(), RIGHT)
    assert {step for step in steps(calls) if TRACE in prompt(calls, step)} == {"select", "persuade"}
    assert "trace" not in call_of(calls, "evaluate").fields


def test_the_exploring_message_sees_the_conversation_and_the_action_alone():
    _, calls, _ = answered(agent_of(), replies("calm", decision="explore"), *REJECTED)
    said = prompt(calls, "inquire")
    assert "Exploration action: preference narrowing\nGuidance: The exploring guidance." in said
    assert S1 in said
    assert not any(signal in said for signal in (S2, S3, S4, TRACE))


def test_the_persuading_message_sees_the_items_the_strategy_and_the_facts():
    _, calls, _ = answered(agent_of(), RIGHT, *REJECTED)
    said = prompt(calls, "respond")
    assert "- Artist number 3 | tag: rock, calm\n- Artist number 2 | tag: rock, indie, calm" in said
    assert "Persuasive strategy: social proof\nFacts to use: tag: rock\n" in said
    assert "Guidance: The persuading guidance." in said
    assert not any(signal in said for signal in (S2, S4, TRACE))
    listed = prompt(calls, "persuade")
    assert "1. tag: rock (Artist number 3; Artist number 2)" in listed
    assert "3. tag: indie (Artist number 2)" in listed


@pytest.mark.parametrize("action", get_args(ExplorationAction))
def test_each_exploration_action_is_explained_and_recorded(action):
    given = replies(decision="explore", explore={"action": action, "guidance": "Ask."})
    turn, calls, _ = answered(agent_of(), given)
    assert f'- "{action}": ' in prompt(calls, "explore")
    assert turn.strategy == turn.extra["exploration_action"] == action
    assert f"Exploration action: {action.replace('_', ' ')}\n" in prompt(calls, "inquire")


@pytest.mark.parametrize("strategy", get_args(PersuasiveStrategy))
def test_each_persuasive_strategy_is_explained_and_recorded(strategy):
    chosen = {"facts": [2, 1, 2], "strategy": strategy, "guidance": "Argue."}
    turn, calls, _ = answered(agent_of(), {**RIGHT, "persuade": chosen})
    assert f'- "{strategy}": ' in prompt(calls, "persuade")
    assert turn.strategy == turn.extra["persuasive_strategy"] == strategy
    assert turn.extra["facts"] == ["tag: calm", "tag: rock"]


def test_the_paper_has_five_actions_and_six_strategies():
    assert (len(get_args(ExplorationAction)), len(get_args(PersuasiveStrategy))) == (5, 6)


def test_values_that_the_message_names_without_support_are_recorded():
    said = "Rock and calm, like jazz, with some indie and pop."
    given = {**RIGHT, "respond": {"response": said}}
    turn, _, _ = answered(agent_of(), given, OPENING)
    # Rock, calm and indie are facts of the items, jazz is the user's word.
    assert turn.extra["facts_unsupported"] == ["pop"]


# Which calls an ablation takes away and changes, when the agent recommends and when it explores.
ABLATIONS = {
    "desire_reasoning": {
        "recommend": ({"reason"}, {"select", "persuade"}),
        "explore": ({"reason"}, {"explore"}),
    },
    "exploration_action": {
        "recommend": (set(), set()),
        "explore": ({"explore"}, {"inquire"}),
    },
    "persuasive_strategy": {
        "recommend": ({"persuade"}, {"respond"}),
        "explore": (set(), set()),
    },
}


@pytest.mark.parametrize("decision", ["recommend", "explore"])
@pytest.mark.parametrize("off", ABLATIONS)
def test_each_ablation_changes_exactly_its_stage(off, decision):
    # The user names both values word for word, in the order in which the reasoning lists them.
    opening = OPENING._replace(text="Rock, and calm, please.")
    given = replies("rock", "calm", decision=decision, titles=("Artist number 3",))
    whole, all_calls, _ = answered(agent_of(), given, opening)
    turn, calls, _ = answered(agent_of(**{off: False}), given, opening)
    removed, changed = ABLATIONS[off][decision]
    assert steps(calls) == [step for step in steps(all_calls) if step not in removed]
    differs = {s for s in steps(calls) if prompt(calls, s) != prompt(all_calls, s)}
    assert differs == changed
    assert ids(turn.candidates) == ids(whole.candidates)
    assert (turn.action, ids(turn.shown)) == (whole.action, ids(whole.shown))
    assert turn.extra["search"] == whole.extra["search"]


def test_what_the_ablations_leave_out_of_the_prompts():
    _, calls, _ = answered(agent_of(desire_reasoning=False), RIGHT, REJECTED[0])
    assert call_of(calls, "evaluate").fields["items"] == (ARTISTS[4], ARTISTS[5])
    assert all("inferred" not in call.messages[0].content for call in calls)
    exploring = replies("calm", decision="explore")
    _, calls, _ = answered(agent_of(exploration_action=False), exploring)
    assert "Ask the user one question." in prompt(calls, "inquire")
    assert "xploration action" not in prompt(calls, "inquire")
    turn, calls, _ = answered(agent_of(persuasive_strategy=False), RIGHT)
    assert "ersuasive strategy" not in prompt(calls, "respond")
    assert (turn.strategy, turn.extra["facts"]) == ("recommend", [])


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("Some jazz, and calm.", ["jazz", "calm"]),
        ("Rockabilly, please.", []),
        ("I do not know.", []),
    ],
)
def test_without_desire_reasoning_the_search_takes_the_users_own_words(said, expected):
    agent = agent_of(desire_reasoning=False)
    turn, _, _ = answered(agent, replies("pop"), OPENING._replace(text=said))
    assert turn.extra["search"] == expected
    assert turn.extra["desire"] is None


def test_what_was_shown_and_what_the_user_had_is_not_retrieved_unless_repeats_are_allowed():
    given = replies("jazz", titles=("Artist number 5",))
    history = ARTISTS[5:6]
    turn, _, _ = answered(agent_of(history=history), given, *REJECTED)
    assert turn.candidates == ()
    turn, _, _ = answered(agent_of(history=history, repeat=True), given, *REJECTED)
    assert ids(turn.candidates) == ["4", "5"]
    assert ids(turn.shown) == ["5"]


def test_at_most_so_many_items_are_retrieved():
    turn, calls, _ = answered(agent_of(retrieved=2), replies("rock"))
    assert ids(turn.candidates) == ["0", "1"]
    assert turn.extra["relevant_items"] == 4
    assert len(call_of(calls, "evaluate").fields["items"]) == 2


def test_feedback_is_cut_where_the_conversation_is():
    more = (
        *REJECTED,
        REJECTED[1]._replace(shown=ARTISTS[5:6]),
        OPENING,
    )
    agent = agent_of()
    _, calls, _ = answered(agent, replies(decision="explore"), *more, latest=1)
    said = prompt(calls, "evaluate")
    assert "- turn 2: Artist number 5" in said
    assert "- turn 1" not in said


def test_tastes_are_the_most_frequent_values_of_the_history():
    found = tastes(ARTISTS[1:4], 2)
    assert [(t.attribute, t.value, t.number) for t in found] == [
        ("tag", "rock", 3),
        ("tag", "indie", 2),
    ]
    assert tastes((), 2) == ()


def test_feedback_names_the_turn_and_what_was_shown_and_not_accepted():
    assert feedback(Dialogue(list(REJECTED))) == ((1, ARTISTS[4:5]),)
    assert feedback(Dialogue([OPENING])) == ()


@pytest.mark.parametrize("off", [(), *((name,) for name in ABLATIONS), tuple(ABLATIONS)], ids=str)
@pytest.mark.parametrize("seed", range(20))
def test_random_valid_replies_never_break_a_turn(off, seed):
    rng = random.Random(seed)
    agent = agent_of(history=ARTISTS[:2], **dict.fromkeys(off, False))
    turn, calls, _ = answered(agent, lambda call: random_reply(call.step.schema, rng), *REJECTED)
    assert not {"0", "1", "4"} & set(ids(turn.candidates))
    assert set(ids(turn.shown)) <= set(ids(turn.candidates))
    assert (turn.action == "recommend") == bool(turn.shown)
    assert len(calls) <= 5
    json.dumps(turn.extra)


HOSTILE = [
    ("reason", {"dialogue": "x" * 10_000, "feedback": "x", "desire": "x", "search": []}),
    ("reason", {"dialogue": "x", "feedback": "x", "desire": "x", "search": ["rock"] * 9}),
    ("evaluate", {"reason": "x", "decision": "explore and recommend"}),
    ("persuade", {"facts": [0], "strategy": "framing", "guidance": "x"}),
    ("persuade", {"facts": [4], "strategy": "framing", "guidance": "x"}),
    ("persuade", {"facts": [1], "strategy": "threat", "guidance": "x"}),
    ("select", {"titles": ["Artist number 2"] * 4}),
    ("respond", {"response": ""}),
]


@pytest.mark.parametrize(("step", "reply"), HOSTILE)
def test_replies_that_break_the_form_are_asked_for_again_and_then_refused(step, reply):
    turn, calls, _ = answered(agent_of(), {**RIGHT, step: [reply, RIGHT[step]]})
    assert ids(turn.shown) == ["3", "2"]
    assert len(calls) == 6
    with pytest.raises(ReplyInvalid, match=f"step {step}"):
        answered(agent_of(), {**RIGHT, step: reply})


def test_hostile_search_attributes_are_counted_and_nothing_else():
    hostile = ["{{ 7 * 7 }}", "'; DROP TABLE items", "calm", "<script>"]
    turn, _, _ = answered(agent_of(), {**RIGHT, **replies(*hostile, titles=("Artist number 5",))})
    assert turn.extra["search"] == ["calm"]
    assert turn.extra["search_unknown"] == ["{{ 7 * 7 }}", "'; DROP TABLE items", "<script>"]


@pytest.mark.parametrize(
    "bad", [{"retrieved": 0}, {"retrieved": 101}, {"recommender": {"name": 3}}]
)
def test_bad_options_are_refused(bad):
    with pytest.raises(ValidationError):
        DESIRE.Options(**{"recommender": FIRST_IS_BEST, **bad})


DOMAIN = Synthetic(Synthetic.Options(items=200, users=40, history=10))


@pytest.mark.parametrize("off", [(), *((name,) for name in ABLATIONS)], ids=str)
@pytest.mark.parametrize("skill", [1.0, 0.5, 0.0])
def test_dialogues_by_the_rules_do_not_fail(skill, off):
    given = {"recommender": "popularity", **dict.fromkeys(off, False)}
    artifacts = fitted(DESIRE.needs(DESIRE.Options(**given)), DOMAIN)
    outcomes = Counter()
    for case in ("u0", "u1", "u2"):
        model = rules(DOMAIN, skill=skill)
        played, _ = play(
            DESIRE, "desire", DOMAIN, case, model, artifacts=artifacts, turns=15, **given
        )
        outcomes[played.stop_reason] += 1
        shown = [ids(turn.agent.shown) for turn in played.turns]
        flat = list(itertools.chain(*shown))
        assert len(flat) == len(set(flat))
        for turn in played.turns:
            assert turn.agent.ranking is not None  # by the probe, where it explores
    assert set(outcomes) <= {"accepted", "user_left", "max_turns"}
    if skill == 1.0:
        assert outcomes["accepted"] == 3
