"""LLMCRS: sub-tasks detected, candidates from the recommender alone, picks from them."""

import asyncio

import numpy as np
import pytest
from pydantic import ValidationError

from agents.core.agent import AgentContext
from agents.core.artifacts import Content
from agents.core.dialogue import Dialogue, Message
from agents.core.errors import ReplyInvalid
from agents.llmcrs import LLMCRS
from agents.recommenders.popularity import Popularity
from simulators.domains.synthetic import Synthetic
from tests.agents.playing import fitted, play, prompts_of, rules
from tests.fakes import CASE, CATALOGUE, ITEMS, FakeModel, by_step, make_ask

RECOMMEND = {"reason": "enough is known", "sub_task": "recommendation"}
ELICIT = {"reason": "nothing is known", "sub_task": "preference elicitation"}
OPENING = Message("user", "Something with action, please.")


def agent(shown_items=2, **options):
    recommender = Popularity(Content(arrays={"counts": np.array([1, 5, 9, 2, 3], np.float32)}))
    context = AgentContext(CATALOGUE, CASE.visible, shown_items, {"recommender": recommender})
    return LLMCRS(LLMCRS.Options(recommender="popularity", **options), context)


def ids(items):
    return {item.id for item in items}


def turn(speaker, model, *messages):
    dialogue = Dialogue([OPENING, *messages])
    return asyncio.run(speaker.respond(dialogue, make_ask(model, prompts_of("agents", "llmcrs"))))


def test_candidates_are_the_recommenders_best_without_history_and_what_was_shown():
    replies = by_step(
        detect=RECOMMEND,
        recommend={"titles": ["Amélie's Café (2001)", "Heat Wave (1995)"]},
        respond={"response": "How about these?"},
    )
    speaker = agent()
    first = turn(speaker, FakeModel(replies))
    assert first.candidates == (ITEMS[1], ITEMS[4], ITEMS[0])  # 3 and 4 are the history
    assert first.shown == first.ranking == (ITEMS[4], ITEMS[1])
    assert (first.action, first.strategy) == ("recommend", "recommendation")
    again = turn(
        speaker,
        FakeModel(replies),
        Message("recommender", "How about these?", (ITEMS[1],)),
        Message("user", "No."),
    )
    assert again.candidates == (ITEMS[4], ITEMS[0])
    assert again.extra["titles_shown_before"] == 1
    assert again.extra["titles_ungrounded"] == []


def test_the_recommender_hears_nothing_of_the_conversation():
    model = FakeModel(
        by_step(
            detect=RECOMMEND,
            recommend={"titles": ["Heat Wave (1995)"]},
            respond={"response": "This one."},
        )
    )
    talk = Message("recommender", "Horror?"), Message("user", "No, a romantic comedy.")
    assert turn(agent(), model).candidates == turn(agent(), model, *talk).candidates


def test_options_bound_the_candidates_and_allow_repeats():
    model = FakeModel(
        by_step(
            detect=RECOMMEND,
            recommend={"titles": ["Heat Wave (1995)"]},
            respond={"response": "This one."},
        )
    )
    assert turn(agent(candidates=1), model).candidates == (ITEMS[1],)
    assert turn(agent(repeat=True, candidates=2), model).candidates == (ITEMS[2], ITEMS[1])
    with pytest.raises(ValidationError):
        LLMCRS.Options(recommender="popularity", candidates=0)


def test_an_asking_turn_hands_over_no_candidates_and_the_probe_does():
    model = FakeModel(
        by_step(
            detect=ELICIT,
            ask={"question": "Which decade?"},
            respond={"response": "Which decade would you like?"},
            recommend={"titles": ["Heat Wave (1995)"]},
        )
    )
    speaker = agent()
    asked = turn(speaker, model)
    assert (asked.action, asked.candidates, asked.ranking) == ("ask", None, None)
    assert asked.strategy == "preference elicitation"
    probe = make_ask(model, prompts_of("agents", "llmcrs")).probing()
    would = asyncio.run(speaker.would_recommend(Dialogue([OPENING]), probe))
    assert would == (ITEMS[1],)


def test_sub_tasks_done_are_shown_to_the_next_detection():
    model = FakeModel(
        by_step(
            detect=[ELICIT, RECOMMEND],
            ask={"question": "Which decade?"},
            recommend={"titles": ["Heat Wave (1995)"]},
            respond={"response": "Well."},
        )
    )
    speaker = agent()
    turn(speaker, model)
    turn(speaker, model, Message("recommender", "Which decade?"), Message("user", "Any."))
    [first, second] = [c.messages[0].content for c in model.calls if c.step.name == "detect"]
    assert "turn 1: preference elicitation (nothing is known)" not in first
    assert "turn 1: preference elicitation (nothing is known)" in second


def test_with_nothing_left_to_recommend_no_model_is_asked_to_pick():
    model = FakeModel(by_step(detect=RECOMMEND, respond={"response": "I have nothing left."}))
    shown = Message("recommender", "All of these?", ITEMS)
    done = turn(agent(), model, shown, Message("user", "No."))
    assert (done.action, done.shown, done.ranking, done.candidates) == ("recommend", (), (), ())


def test_hostile_replies_are_counted_or_refused():
    model = FakeModel(
        by_step(
            detect=RECOMMEND,
            recommend={"titles": ["{{ history }}", "'; DROP TABLE items; --"]},
            respond={"response": "Nothing."},
        )
    )
    done = turn(agent(), model)
    assert done.shown == ()
    assert len(done.extra["titles_ungrounded"]) == 2
    endless = FakeModel(by_step(detect={"reason": "x" * 10_000, "sub_task": "recommendation"}))
    with pytest.raises(ReplyInvalid):
        turn(agent(), endless)


@pytest.mark.parametrize("skill", [0.0, 1.0])
def test_rules_play_whole_dialogues(skill):
    domain = Synthetic(Synthetic.Options(items=120, users=20, history=8))
    options = LLMCRS.Options(recommender="popularity")
    artifacts = fitted(LLMCRS.needs(options), domain)
    model = rules(domain, skill=skill)
    for case_id in domain.case_ids("test")[:5]:
        transcript, journal = play(
            LLMCRS, "llmcrs", domain, case_id, model, artifacts=artifacts, recommender="popularity"
        )
        assert transcript.stop_reason != "failed"
        gone = ids(domain.case("test", case_id).visible.history)
        for step, *_ in transcript.turns:
            if step.action == "recommend":
                assert len(step.candidates) == 50
                assert ids(step.shown) <= ids(step.candidates)
                assert not ids(step.candidates) & gone
                gone |= ids(step.shown)
            assert step.ranking is not None
        turns = len(transcript.turns)
        own = [r for r in journal.records if r.call.role == "agent"]
        assert len(own) == 3 * turns


def test_what_is_needed_is_the_recommender_of_the_options():
    needs = LLMCRS.needs(LLMCRS.Options(recommender="popularity"))
    assert needs["recommender"].identity()["recommender"] == {"name": "popularity"}
