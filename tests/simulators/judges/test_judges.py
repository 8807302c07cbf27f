"""Each judge gives exactly the verdicts that its model's replies say."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agents.core.ask import CallLog
from simulators.core.judge import RecordedDialogue, RecordedTurn, Subject
from tests.simulators.judges.harness import (
    DIALOGUE,
    ITEMS,
    TURNS,
    build,
    by_subject,
    prompt_of,
    run,
    run_any,
    variants,
)


def scores(**given):
    return {"reason": "Because.", **given}


def test_relevance_scores_every_reply_three_times():
    given = {1: (1, 2, 3), 2: (4, 5, 1), 3: (2, 2, 2), 4: (5, 5, 5)}

    def reply(call):
        clarity, sufficiency, alignment = given[call.turn]
        return scores(clarity=clarity, sufficiency=sufficiency, alignment=alignment)

    verdicts, calls = run(build("relevance"), DIALOGUE, reply=reply)
    assert by_subject(verdicts) == {
        turn: list(zip(("clarity", "sufficiency", "alignment"), values, strict=True))
        for turn, values in given.items()
    }
    assert {v.status for v in verdicts} == {"valid"}
    assert {v.reason for v in verdicts} == {"Because."}
    assert [call.turn for call in calls] == [1, 2, 3, 4]
    # The reply is rated in its context, and what follows it is not known yet.
    assert "user: No." in prompt_of(calls[2])
    assert "Still no." not in prompt_of(calls[2])


def test_intention_asks_three_times_about_the_accepted_item():
    given = {"pre": 2, "post": 5, "true": 4}
    verdicts, calls = run(
        build("intention"), DIALOGUE, reply=lambda call: scores(intention=given[call.step.name])
    )
    assert {v.dimension: v.value for v in verdicts} == given
    assert {v.subject.turn for v in verdicts} == {4}
    assert {v.subject.item.title for v in verdicts} == {"Heat Wave"}
    assert [call.turn for call in calls] == [4, 4, 4]


def test_intentions_three_calls_see_only_what_they_may():
    pre, post, true = map(prompt_of, run(build("intention"), DIALOGUE)[1])
    words, facts = "Heat Wave, with fires!", ("Thriller", "Firefighters meet.")
    for prompt in (pre, post, true):
        assert "Heat Wave" in prompt
        assert "Yes!" not in prompt
        assert "accept" not in prompt
        assert "Silent River" not in prompt
    assert words not in pre
    assert words in post
    assert words not in true
    for fact in facts:
        assert fact not in pre
        assert fact not in post
        assert fact in true


def test_rso_judges_the_item_recommended_last_after_the_whole_dialogue():
    judge = build("intention", item="last_recommended", words="dialogue")
    refused = replace(DIALOGUE, turns=TURNS[:3])
    verdicts, calls = run(judge, refused)
    assert {v.subject.turn for v in verdicts} == {2}
    assert {v.subject.item.title for v in verdicts} == {"Silent River"}
    pre, post, true = map(prompt_of, calls)
    assert "Still no." in post
    assert "Which genre?" in post
    assert "Still no." not in pre + true
    assert "A flood comes." in true
    assert "7.5" in true
    assert "A flood comes." not in pre + post


def test_nothing_accepted_and_nothing_recommended_asks_nothing():
    refused = replace(DIALOGUE, turns=TURNS[:3])
    assert run(build("intention"), refused) == ([], [])
    asked = replace(DIALOGUE, turns=TURNS[:1])
    assert run(build("intention", item="last_recommended"), asked) == ([], [])
    assert run(build("credibility"), asked) == ([], [])
    empty = replace(DIALOGUE, turns=())
    for name in ("relevance", "intention", "credibility", "crsarena"):
        assert run(build(name), empty) == ([], [])


def test_credibility_checks_turns_that_show_items_or_argue_for_them():
    verdicts, calls = run(
        build("credibility"), DIALOGUE, reply=lambda call: scores(credibility=call.turn + 1)
    )
    assert by_subject(verdicts) == {turn: [("credibility", turn + 1)] for turn in (2, 3, 4)}
    first, persuading, last = map(prompt_of, calls)
    for prompt in (first, persuading):
        assert "A flood comes." in prompt
        assert "Firefighters" not in prompt
    assert "It is worth it, truly." in persuading
    assert "Horror" in last
    assert "user:" not in first + persuading + last


def test_a_reply_that_persuades_before_anything_was_shown_is_not_checked():
    early = TURNS[2]._replace(number=1)
    assert run(build("credibility"), RecordedDialogue("film", "Hi.", (early,))) == ([], [])


def test_every_answer_of_the_user_is_reviewed_in_its_context():
    given = {1: "no fault", 2: "fault that helps", 3: "fault that hinders",
             4: "fault without effect"}  # fmt: skip
    verdicts, calls = run(
        build("user_review"), DIALOGUE, reply=lambda call: scores(verdict=given[call.turn])
    )
    assert by_subject(verdicts) == {
        1: [("fault", 0), ("effect", 0)],
        2: [("fault", 1), ("effect", 1)],
        3: [("fault", 1), ("effect", -1)],
        4: [("fault", 1), ("effect", 0)],
    }
    prompt = prompt_of(calls[1])
    assert "Which genre?" in prompt
    assert "See Silent River." in prompt
    assert "user: No." in prompt
    assert "It is worth it" not in prompt
    silent = replace(DIALOGUE, turns=(TURNS[0]._replace(user_text=None),))
    assert run(build("user_review"), silent) == ([], [])


CHOICES = {"persuasiveness": "A", "trustworthiness": "B", "groundedness": "tie", "overall": "A"}
OTHER = replace(DIALOGUE, turns=(*TURNS[:3], TURNS[3]._replace(agent_text="Alien Garden!")))


@pytest.mark.parametrize("pairs", ["response", "dialogue"])
def test_pairwise_gives_the_first_sides_value_in_both_orders(pairs):
    judge, turn = build("pairwise", pairs=pairs), {"response": 4, "dialogue": None}[pairs]
    values = {}
    for order in ("ab", "ba"):
        verdicts, [call] = run(
            judge, DIALOGUE, OTHER, reply=lambda call: scores(**CHOICES), order=order
        )
        assert {(v.subject, v.order) for v in verdicts} == {(Subject(turn), order)}
        values[order] = {v.dimension: v.value for v in verdicts}
        heat, garden = (prompt_of(call).index(x) for x in ("with fires!", "Alien Garden!"))
        assert (heat < garden) == (order == "ab")
    assert values["ab"] == {
        "persuasiveness": 1, "trustworthiness": 0, "groundedness": 0.5, "overall": 1,
    }  # fmt: skip
    # A model that always prefers what it reads first contradicts itself.
    assert values["ba"] == {
        "persuasiveness": 0, "trustworthiness": 1, "groundedness": 0.5, "overall": 0,
    }  # fmt: skip


def test_proactiveness_compares_whole_dialogues_in_both_orders():
    chosen = {"questionability": "A", "persuasiveness": "tie", "overall": "B"}
    for order, values in (("ab", [1, 0.5, 0]), ("ba", [0, 0.5, 1])):
        verdicts, [call] = run(
            build("proactiveness"), DIALOGUE, OTHER, reply=lambda call: scores(**chosen),
            order=order,
        )  # fmt: skip
        assert [v.dimension for v in verdicts] == list(chosen)
        assert [v.value for v in verdicts] == values
        assert {(v.subject, v.order) for v in verdicts} == {(Subject(), order)}
        heat, garden = (prompt_of(call).index(x) for x in ("with fires!", "Alien Garden!"))
        assert (heat < garden) == (order == "ab")
        assert prompt_of(call).count("recommender: Which genre?") == 2


def test_a_consistent_preference_is_the_same_in_both_orders():
    def prefers_fires(call):
        side = "A" if "with fires!" in prompt_of(call).split("The reply of B")[0] else "B"
        return scores(**dict.fromkeys(CHOICES, side))

    for order in ("ab", "ba"):
        verdicts, _ = run(build("pairwise"), DIALOGUE, OTHER, reply=prefers_fires, order=order)
        assert {v.value for v in verdicts} == {1}


def test_the_facts_of_a_pair_do_not_depend_on_the_order():
    for pairs in ("response", "dialogue"):
        judge, facts = build("pairwise", pairs=pairs), set()
        shows = replace(OTHER, turns=(*TURNS[:3], TURNS[3]._replace(shown=ITEMS[:2])))
        for order in ("ab", "ba"):
            [call] = run(judge, DIALOGUE, shows, order=order)[1]
            facts.add(prompt_of(call).split("<facts>")[1].split("</facts>")[0])
        [listed] = facts
        assert listed.count("Heat Wave") == 1
        assert listed.index("Alien Garden") < listed.index("Heat Wave") < listed.index("Silent")


def test_the_two_orders_draw_from_seeds_that_do_not_depend_on_which_came_first():
    def seeds(*orders):
        journal, found = CallLog(), {}
        for order in orders:
            _, [call] = run(build("pairwise"), DIALOGUE, OTHER, order=order, journal=journal)
            found[order] = call.seed
        return found

    both = seeds("ab", "ba")
    assert both == seeds("ba", "ab") == {**seeds("ab"), **seeds("ba")}
    assert len(set(both.values())) == 2


def test_replies_to_different_contexts_are_not_compared():
    with pytest.raises(ValueError, match="same dialogue"):
        run(build("pairwise"), DIALOGUE, replace(OTHER, opening="Hi."))


def test_crsarena_scores_replies_and_the_dialogue_on_its_scales():
    of_dialogues = {
        "understanding": 2, "task_completion": 1, "interest_arousal": 0, "efficiency": 1,
        "preference_elicitation": 2, "explanation": 0, "dialog_overall": 4,
    }  # fmt: skip

    def reply(call):
        if call.step.name == "rate_dialogue":
            return scores(**of_dialogues)
        return scores(relevance=call.turn % 3, interestingness=2)

    judge = build("crsarena")
    verdicts, _ = run(judge, DIALOGUE, reply=reply)
    found = by_subject(verdicts)
    assert list(found) == [1, 2, 3, 4, None]
    assert dict(found[None]) == of_dialogues
    assert found[2] == [("relevance", 2), ("interestingness", 2)]
    scale = {(d.name, d.kind): (d.low, d.high) for d in judge.dimensions(judge.options)}
    assert scale[("efficiency", "dialogue")] == (0, 1)
    assert scale[("dialog_overall", "dialogue")] == (0, 4)
    assert scale[("relevance", "turn")] == (0, 2)
    assert len(scale) == 9


@pytest.mark.parametrize(("name", "options"), variants())
def test_a_judge_that_never_answers_validly_is_unparsed_everywhere(name, options):
    verdicts, calls = run_any(build(name, **options), DIALOGUE, reply=lambda call: "I refuse.")
    assert verdicts
    assert {(v.value, v.status) for v in verdicts} == {(None, "unparsed")}
    assert all(v.reason.startswith("ReplyInvalid") for v in verdicts)
    assert [call.reask for call in calls] == [0, 1, 2] * (len(calls) // 3)


@pytest.mark.parametrize(("name", "options"), variants())
def test_verdicts_are_on_the_scales_that_a_judge_declares(name, options):
    judge = build(name, **options)
    scale = {d.name: d for d in judge.dimensions(judge.options)}
    verdicts, _ = run_any(judge, DIALOGUE)
    assert {v.dimension for v in verdicts} == set(scale)
    for verdict in verdicts:
        dimension = scale[verdict.dimension]
        assert dimension.low <= verdict.value <= dimension.high


def test_history_turns_cuts_what_was_said_before():
    long = replace(DIALOGUE, turns=tuple(
        RecordedTurn(n, f"reply {n}.", "chat", (), f"answer {n}.", "answer", None)
        for n in range(1, 10)
    ))  # fmt: skip
    for name in ("relevance", "crsarena"):
        calls = run(build(name, history_turns=2), long)[1]
        prompt = prompt_of(calls[8])
        assert "note: earlier turns are left out here" in prompt
        assert "reply 7." in prompt
        assert "reply 6." not in prompt
        assert "reply 9." in prompt
    whole = prompt_of(run(build("crsarena", history_turns=2), long)[1][-1])
    assert "reply 8." in whole
    assert "reply 7." not in whole
