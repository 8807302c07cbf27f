"""AF-IRS on eight films: replies that are always right, always wrong, and hostile."""

import asyncio
import random
from collections import Counter

import pytest

from agents.af_irs import AFIRS
from agents.core import plugins
from agents.core.ask import CallLog
from agents.core.dialogue import Message
from agents.core.errors import ReplyInvalid
from agents.core.prompts import prompt_folder
from simulators.core.dialogue import DialogueLimits, Transcript, run_dialogue
from simulators.core.user import UserContext
from simulators.domains.synthetic import Synthetic
from simulators.success.user_accepts import user_accepts
from simulators.users.target_item import TargetItem
from tests.agents.af_irs.harness import (
    FILMS,
    PROMPTS,
    RECIPE,
    TREE,
    RulesModel,
    agent_of,
    answered,
    built,
    items_of,
    node,
)
from tests.agents.af_irs.test_extraction import naming
from tests.fakes import make_ask
from workers.backends.core.replies import random_reply

OPENING = Message("user", "A calm film with action, please.")
TARGET = FILMS.items[3]


def ids(items):
    return [item.id for item in items]


def replies(*nodes, titles=(), action="recommend", wishes=("calm",), **others):
    """Selects tree nodes by name, names titles, decides on `action`."""

    def reply(call):
        match call.step.name:
            case "extract":
                return naming(*nodes)(call)
            case "prefer":
                entries = [{"stance": "wants", "aspect": "mood", "wish": w} for w in wishes]
                return {"preferences": entries}
            case "refine":
                return {"titles": list(titles)}
            case "decide" | "decide_first":
                return {"action": action}
            case "ask":
                return {"question": "Which mood?"}
            case "respond":
                return {"response": "As you like."}
        return others[call.step.name]

    return reply


RIGHT = replies("Mood", "Genre", "calm", "Loud", "Action", titles=["Film 3", "Film 0"])
# Contradictory: nothing is in both, and of calm and Western it drops Western, the less relevant.
CLASH = ("Mood", "Genre", "calm", "Loud", "Western")


def steps(calls):
    return [call.step.name for call in calls]


def test_always_right_replies_give_the_sets_computed_by_hand():
    turn, calls = answered(agent_of(), RIGHT, OPENING)
    # Eq. 3: Action 0 1 2 3, calm 0 3 4; eq. 5: by cosine, which falls with the position.
    assert ids(turn.candidates) == ["0", "3"]
    assert ids(turn.shown) == ids(turn.ranking) == ["3", "0"]
    assert (turn.action, turn.strategy, turn.text) == ("recommend", "verified", "As you like.")
    # Both are attributes; calm was selected first.
    assert turn.extra["session_preferences"] == [
        "Mood > Moods > calm",
        "Genre > Loud > Action",
    ]
    assert turn.extra["dropped"] == []
    assert turn.extra["pools"] == {"allowed": 8, "session": 2, "candidates": 2}
    assert turn.extra["preferences"] == ["wants mood: calm"]
    assert steps(calls) == [*["extract"] * 4, "prefer", "refine", "decide", "respond"]


def test_the_target_is_found_alone_by_the_finest_preference():
    right = replies("Mood", "Genre", "calm", "Loud", "Action", "Chase", titles=["Film 3"])
    turn, _ = answered(agent_of(), right, OPENING)
    assert turn.candidates == turn.shown == (TARGET,)


def selecting(target, right):
    """Selects every option that holds the target, or those that do not, or all where all do."""

    def reply(call):
        if call.step.name != "extract":
            return replies(titles=[FILMS.items[target].title])(call)
        offered = zip(call.fields["options"], call.fields["under"], strict=True)
        paths = [(*filter(None, under.split(" > ")), name) for name, under in offered]
        holds = [target in items_of(TREE, node(*path)) for path in paths]
        fit = [n for n, held in enumerate(holds, 1) if held == right]
        return {"numbers": fit if fit or right else [*range(1, len(holds) + 1)]}

    return reply


@pytest.mark.parametrize("target", range(7))
def test_for_every_target_right_extraction_leaves_it_alone(target):
    # By hand: the finest nodes of each film have only that film in common.
    turn, _ = answered(agent_of(), selecting(target, right=True), OPENING)
    assert ids(turn.candidates) == ids(turn.shown) == [str(target)]
    assert turn.extra["dropped"] == []


def test_a_target_without_attributes_is_no_preference_and_stays_where_none_is_extracted():
    turn, calls = answered(agent_of(), selecting(7, right=True), OPENING)
    assert turn.extra["session_preferences"] == []
    assert "7" in ids(turn.candidates)
    assert len(turn.candidates) == len(FILMS)
    assert steps(calls).count("extract") == 1


HEIST_OR_CHASE = replies("Genre", "Loud", "Action", "Heist", "Chase", titles=["Film 3"])


def test_subcategories_of_one_attribute_are_alternatives_if_siblings_are_united():
    wanted = [f"Genre > Loud > Action > {name}" for name in ("Heist", "Chase")]
    literal, _ = answered(agent_of(), HEIST_OR_CHASE, OPENING)
    assert ids(literal.candidates) == ["0", "1"]
    assert (literal.extra["session_preferences"], literal.extra["dropped"]) == (
        wanted[:1],
        wanted[1:],
    )
    either, _ = answered(agent_of(siblings="unite"), HEIST_OR_CHASE, OPENING)
    assert ids(either.candidates) == ["0", "1", "2", "3"]
    assert either.extra["session_preferences"] == [" | ".join(wanted)]
    assert either.extra["dropped"] == []


@pytest.mark.parametrize("target", range(7))
@pytest.mark.parametrize("when_empty", ["drop_least_relevant", "union", "nothing"])
def test_for_no_target_does_wrong_extraction_hand_it_over(target, when_empty):
    agent = agent_of(when_empty=when_empty)
    turn, _ = answered(agent, selecting(target, right=False), OPENING)
    assert turn.extra["session_preferences"]
    assert str(target) not in ids(turn.candidates)
    assert (turn.action, turn.shown, turn.ranking) == ("ask", (), ())


@pytest.mark.parametrize(
    "options", [{}, {"action_first": False}, {"when_empty": "nothing"}], ids=str
)
@pytest.mark.parametrize("seed", range(25))
def test_random_valid_replies_never_break_a_turn(options, seed):
    rng = random.Random(seed)
    agent = agent_of(history=FILMS.items[:2], **options)
    turn, _ = answered(agent, lambda call: random_reply(call.step.schema, rng), OPENING)
    candidates = ids(turn.candidates)
    assert not {"0", "1"} & set(candidates)
    assert len(set(candidates)) == len(candidates)
    assert set(ids(turn.ranking or ())) <= set(candidates)
    assert set(ids(turn.shown)) <= set(ids(turn.ranking or ()))


@pytest.mark.parametrize(
    ("when_empty", "candidates", "dropped"),
    [
        ("drop_least_relevant", ["0", "3", "4"], ["Genre > Loud > Western"]),
        ("union", ["0", "3", "4", "6"], []),
        ("nothing", [], []),
    ],
)
@pytest.mark.parametrize("refine", [True, False])
@pytest.mark.parametrize("action_first", [True, False])
def test_always_wrong_replies_give_the_fallback_sets(
    when_empty, candidates, dropped, refine, action_first
):
    agent = agent_of(when_empty=when_empty, llm_refine=refine, action_first=action_first)
    turn, calls = answered(agent, replies(*CLASH, titles=["Film 7", "No film"]), OPENING)
    assert ids(turn.candidates) == candidates
    assert turn.extra["dropped"] == dropped
    if refine:
        # What is named is not a candidate: counted, never guessed, never padded.
        assert turn.ranking == () or turn.ranking is None
        if candidates:
            assert turn.extra["titles_ungrounded"] == ["Film 7", "No film"]
    else:
        assert ids(turn.ranking) == candidates[:3]
    nothing = refine or not candidates
    if action_first and nothing:
        assert (turn.action, turn.strategy) == ("ask", "no_items")
        assert "decide" not in steps(calls)
    else:
        assert (turn.action, turn.shown) == ("recommend", turn.ranking)


def test_conditions_are_dropped_from_the_least_relevant_until_something_fits():
    agent = agent_of(history=(FILMS.items[0], FILMS.items[3], FILMS.items[4]))
    turn, _ = answered(agent, replies(*CLASH, titles=["Film 1"]), OPENING)
    # No calm film may be recommended, so that preference goes too: the whole rest.
    assert turn.extra["session_preferences"] == []
    assert turn.extra["dropped"] == [
        "Mood > Moods > calm",
        "Genre > Loud > Western",
    ]
    assert ids(turn.candidates) == ["1", "2", "5", "6", "7"]


def test_nothing_extracted_gives_the_whole_catalogue_nearest_first():
    turn, calls = answered(agent_of(candidates=5), replies(titles=["Film 2"]), OPENING)
    assert ids(turn.candidates) == ["0", "1", "2", "3", "4"]
    assert turn.extra["pools"] == {"allowed": 8, "session": 8, "candidates": 5}
    assert steps(calls).count("extract") == 1


@pytest.mark.parametrize(("repeat", "left"), [(False, ["3"]), (True, ["0", "3"])])
def test_candidates_leave_out_history_and_what_was_shown_unless_repeats_are_allowed(repeat, left):
    agent = agent_of(history=(FILMS.items[6],), repeat=repeat)
    said = (
        OPENING,
        Message("recommender", "How about these?", FILMS.items[:1]),
        Message("user", "Not that."),
    )
    turn, calls = answered(agent, RIGHT, *said)
    assert ids(turn.candidates) == left
    assert turn.extra["pools"]["allowed"] == (8 if repeat else 6)
    # Extraction sees the user's words alone, of all turns.
    [extract, *_] = (call for call in calls if call.step.name == "extract")
    assert [m.text for m in extract.fields["conversation"]] == [OPENING.text, "Not that."]


def test_an_asking_turn_reports_the_list_it_did_not_show():
    said = replies("Genre", "Loud", "Action", titles=["Film 3"], action="ask")
    turn, calls = answered(agent_of(), said, OPENING)
    assert (turn.action, turn.strategy, turn.shown) == ("ask", "not_verified", ())
    assert ids(turn.ranking) == ["3"]
    assert ids(turn.candidates) == ["0", "1", "2", "3"]
    [question] = (call for call in calls if call.step.name == "ask")
    assert question.fields["preferences"] == ["wants mood: calm"]
    assert question.fields["attributes"] == ["mood", "genre"]
    prompt = question.messages[0].content
    assert "- mood calm: 2\n- mood tense: 2\n- genre Drama: 2" in prompt.replace("\r", "")
    [respond] = (call for call in calls if call.step.name == "respond")
    assert (respond.fields["question"], respond.fields["items"]) == ("Which mood?", ())
    assert steps(calls).count("prefer") == 1


def test_the_decision_sees_conversation_and_items_and_no_preference():
    _, calls = answered(agent_of(), RIGHT, OPENING)
    [decide] = (call for call in calls if call.step.name == "decide")
    assert decide.fields.keys() == {"noun", "items", "conversation"}
    assert ids(decide.fields["items"]) == ["3", "0"]
    assert "- Film 3 | Action, Drama; calm" in decide.messages[0].content
    [refine] = (call for call in calls if call.step.name == "refine")
    assert refine.fields.keys() == {"noun", "limit", "preferences", "items"}


def test_refinement_keeps_at_most_the_limit_and_each_candidate_once():
    wished = ("Genre", "Loud", "Action")
    named = ["Film 3", "film 3", "<b>Film 2</b>"]
    turn, _ = answered(agent_of(), replies(*wished, titles=named), OPENING)
    assert ids(turn.shown) == ["3"]
    assert turn.extra["titles_ungrounded"] == ["<b>Film 2</b>"]
    with pytest.raises(ReplyInvalid, match="titles: List should have at most 3 items"):
        answered(agent_of(), replies(*wished, titles=[*named, "Film 1"]), OPENING)


@pytest.mark.parametrize("action", ["recommend", "ask"])
@pytest.mark.parametrize("off", ["action_first", "llm2rs", "llm_refine"])
def test_each_ablation_changes_exactly_its_stage(off, action):
    reply = replies("Genre", "Loud", "Action", titles=["Film 3", "Film 0"], action=action)
    whole, all_calls = answered(agent_of(), reply, OPENING)
    turn, calls = answered(agent_of(**{off: False}), reply, OPENING)
    lost, gained = (
        Counter(steps(a)) - Counter(steps(b)) for a, b in ((all_calls, calls), (calls, all_calls))
    )
    if off == "action_first":
        # The decision moves to the front and sees no items. What nothing uses is not asked for.
        unused = {"refine": 1} if action == "ask" else {}
        assert (lost, gained) == ({"decide": 1, **unused}, {"decide_first": 1})
        assert steps(calls)[0] == "decide_first"
        assert calls[0].fields.keys() == {"noun", "conversation"}
        same = {"extract", "prefer", "refine", "ask", "respond"}
        assert ids(turn.candidates) == ids(whole.candidates)
    elif off == "llm2rs":
        assert (lost, gained) == ({"extract": 4}, {})
        assert ids(turn.candidates) == [item.id for item in FILMS.items]
        same = {"prefer", "decide", "respond"}
    else:
        # Eq. 6 serves the question as well, and goes with the refinement only where none is asked.
        assert lost == {"refine": 1, **({"prefer": 1} if action == "recommend" else {})}
        assert gained == {}
        assert ids(turn.ranking) == ["0", "1", "2"]
        same = {"extract", "prefer", "ask"}
    for name in same:
        before = [c.messages for c in all_calls if c.step.name == name]
        after = [c.messages for c in calls if c.step.name == name]
        assert after in (before, []), name


def test_what_needs_no_tree_asks_for_none():
    full = AFIRS.Options.model_validate({"recommender": "tests.agents.af_irs.lined_up"})
    assert set(AFIRS.needs(full)) == {"recommender", "tree"}
    without = full.model_copy(update={"llm2rs": False})
    assert set(AFIRS.needs(without)) == {"recommender"}


def test_decision_first_gives_the_probe_the_list_of_its_own_candidates():
    reply = replies("Genre", "Loud", "Action", titles=["Film 3"], action="ask")
    (turn, probed), calls = answered(agent_of(action_first=False), reply, OPENING, probe=True)
    assert (turn.action, turn.ranking, turn.strategy) == ("ask", None, "decided_first")
    assert ids(probed) == ["3"]
    [call] = (call for call in calls if "probe" in call.role)
    assert (call.role, call.step.name) == ("agent.probe", "refine")


def test_fields_of_ten_thousand_characters_are_refused():
    long = replies("Genre", wishes=("x" * 10_000,))
    with pytest.raises(ReplyInvalid, match="step prefer"):
        answered(agent_of(), long, OPENING)


DOMAIN = Synthetic(Synthetic.Options(items=200, users=30, history=8))
SMALL_TREE = RECIPE.load(
    built(RECIPE, DOMAIN.catalogue, RulesModel(DOMAIN.catalogue)), DOMAIN.catalogue
)
ABLATIONS = ({}, {"action_first": False}, {"llm2rs": False}, {"llm_refine": False})


@pytest.mark.parametrize("options", ABLATIONS, ids=str)
def test_rules_play_whole_dialogues(options):
    model = RulesModel(DOMAIN.catalogue)
    actions = Counter()
    for case_id in DOMAIN.case_ids("test")[:6]:
        transcript = played(case_id, model, options)
        assert transcript.stop_reason in ("accepted", "max_turns")
        for turn in transcript.turns:
            actions[turn.agent.action] += 1
            assert turn.agent.ranking is not None
            handed = set(ids(turn.agent.candidates))
            assert len(handed) == len(turn.agent.candidates) <= 50
            assert set(ids(turn.agent.ranking)) <= handed
            assert not set(ids(DOMAIN.case("test", case_id).visible.history)) & handed
    assert sum(actions.values()) >= 6


def played(case_id, model, options) -> Transcript:
    case = DOMAIN.case("test", case_id)
    agent = agent_of(
        DOMAIN.catalogue,
        tree=SMALL_TREE,
        history=case.visible.history,
        shown_items=10,
        data=DOMAIN.training_data(),
        **options,
    )
    user = TargetItem(TargetItem.Options(), UserContext(DOMAIN.catalogue, case))
    prompts = prompt_folder(plugins.module("simulators.users", "target_item", "user"), None)
    transcript, journal = Transcript(), CallLog()
    asyncio.run(
        run_dialogue(
            agent,
            user,
            make_ask(model, PROMPTS, journal=journal),
            make_ask(model, prompts, role="user", journal=journal),
            hidden=case.hidden,
            limits=DialogueLimits(5, 10**9),
            is_success=user_accepts,
            probe=True,
            transcript=transcript,
        )
    )
    return transcript
