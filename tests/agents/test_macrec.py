"""MACRec's manager delegates, decides, and has its answer judged."""

import asyncio
import json
from collections import Counter

import pytest
from pydantic import ValidationError

from agents.core.agent import AgentContext
from agents.core.dialogue import Dialogue, Message
from agents.core.items import Catalogue, Item, VisibleCase
from agents.macrec import MACRec
from simulators.domains.synthetic import Synthetic
from tests.agents.in_place import FIRST_IS_BEST, in_place
from tests.agents.playing import fitted, play, prompts_of, rules
from tests.fakes import FakeModel, by_step, make_ask

GENRES = ("Drama", "Action")
ITEMS = tuple(Item(str(n), f"Film number {n}", {"genre": (GENRES[n % 2],)}) for n in range(12))
CATALOGUE = Catalogue(ITEMS, noun="film")
TALK = Dialogue([Message("user", "An action film, please.")])
ACTION = "SELECT item_id FROM items WHERE genre = 'Action'"


def thought(action):
    return {"thought": f"Now {action}.", "action": action}


def answers(**changes):
    usual = {
        "interpret": {"task": "An action film."},
        "open": thought("search"),
        "think": thought("recommend"),
        "conclude": thought("recommend"),
        "search": {"sql": ACTION},
        "analyse_user": {"analysis": "Likes action."},
        "analyse_items": {"analysis": "All are action films."},
        "reflect": {"verdict": "accept", "remark": "none"},
        "recommend": {"titles": ["Film number 7", "Film number 5"]},
        "ask": {"question": "Which year?"},
        "respond": {"response": "Here you are."},
    }
    return {**usual, **changes}


def turn_of(replies, *, history=ITEMS[1:2], probe=False, **options):
    options = MACRec.Options(recommender=FIRST_IS_BEST, **options)
    context = AgentContext(CATALOGUE, VisibleCase("u1", history), 3, {"recommender": in_place(12)})
    agent = MACRec(options, context)
    model = FakeModel(by_step(**replies))
    ask = make_ask(model, prompts_of("agents", "macrec"))

    async def once():
        turn = await agent.respond(TALK, ask)
        return turn, await agent.would_recommend(TALK, ask.probing()) if probe else None

    turn, would = asyncio.run(once())
    return turn, model, would


def ids(items):
    return [item.id for item in items]


def steps(model):
    return [(call.role.removeprefix("agent"), call.step.name) for call in model.calls]


def test_the_manager_searches_recommends_and_is_judged():
    turn, model, _ = turn_of(answers(), candidates=4)
    assert steps(model) == [
        (".interpreter", "interpret"),
        (".manager", "open"),
        (".searcher", "search"),
        (".manager", "think"),
        ("", "recommend"),
        (".reflector", "reflect"),
        ("", "respond"),
    ]
    assert ids(turn.candidates) == ["3", "5", "7", "9"]
    assert ids(turn.shown) == ids(turn.ranking) == ["7", "5"]
    assert (turn.action, turn.strategy) == ("recommend", "search+recommend")
    seen = model.calls[3].messages[0].content
    assert f"- searcher: {ACTION} - The query leaves 5 candidates." in seen
    assert all(role in MACRec.roles for role in ("agent" + r for r, _ in steps(model)))


def test_analysts_report_to_the_manager_and_without_a_search_all_items_are_candidates():
    replies = answers(open=thought("analyse_user"), think=thought("analyse_items"))
    turn, model, _ = turn_of(replies)
    assert [name for role, name in steps(model) if role == ".analyst"] == [
        "analyse_user",
        "analyse_items",
    ]
    concluded = next(c for c in model.calls if c.step.name == "conclude").messages[0].content
    assert "- user analyst: Likes action." in concluded
    assert "- item analyst: All are action films." in concluded
    assert len(turn.candidates) == 11
    assert turn.strategy == "analyse_user+analyse_items+recommend"


def test_the_last_round_decides_and_rounds_bound_the_thoughts():
    turn, model, _ = turn_of(answers(think=thought("search"), conclude=thought("ask")), rounds=5)
    names = Counter(name for _, name in steps(model))
    assert (names["open"], names["think"], names["conclude"], names["search"]) == (1, 3, 1, 4)
    assert (turn.action, turn.candidates, turn.ranking) == ("ask", None, None)
    turn, model, _ = turn_of(answers(), rounds=1, reflections=0)
    assert [n for _, n in steps(model)] == ["interpret", "conclude", "recommend", "respond"]


def test_a_later_search_replaces_an_earlier_one_and_a_refused_one_does_not():
    drama = "SELECT item_id FROM items WHERE genre = 'Drama'"
    searches = [{"sql": ACTION}, {"sql": drama}, {"sql": "PRAGMA version"}, {"sql": "x" * 9}]
    replies = answers(think=thought("search"), search=searches)
    turn, _, _ = turn_of(replies, rounds=5)
    assert ids(turn.candidates) == ["0", "2", "4", "6", "8", "10"]
    assert turn.extra["queries_selected"] == 2
    assert turn.extra["queries_refused"] == 2


def test_an_empty_query_is_reported_and_leaves_the_candidates():
    turn, model, _ = turn_of(answers(search={"sql": f"{ACTION} AND false"}))
    assert turn.extra["queries_empty"] == 1
    assert len(turn.candidates) == 11
    assert "none of them a candidate" in model.calls[3].messages[0].content


def test_the_reflector_sends_an_answer_back_once():
    picks = [{"titles": ["Film number 3"]}, {"titles": ["Film number 9"]}]
    replies = answers(recommend=picks, reflect={"verdict": "revise", "remark": "Pick the ninth."})
    turn, model, _ = turn_of(replies)
    assert ids(turn.shown) == ["9"]
    assert turn.extra["sent_back"] == 1
    again = model.calls[-2].messages[0].content
    remark = "The reflector asks for a different answer: Pick the ninth."
    assert f"Your last answer:\n- Film number 3\n{remark}" in again
    assert len(model.calls) == 8


def test_an_answer_that_names_no_candidate_is_judged_and_sent_back_by_what_it_named():
    picks = [{"titles": ["No Such Film", "Heat Wave"]}, {"titles": ["Film number 9"]}]
    replies = answers(recommend=picks, reflect={"remark": "Pick the ninth.", "verdict": "revise"})
    turn, model, _ = turn_of(replies)
    assert ids(turn.shown) == ["9"]
    judged, again = (model.calls[place].messages[0].content for place in (-3, -2))
    assert "The manager's answer names none of the candidates.\nIt also names" in judged
    assert "Your last answer named none of the candidates.\nIt also named" in again
    for prompt in (judged, again):
        assert "\n- No Such Film: " in prompt
        assert "(none)" not in prompt


def test_a_probe_searches_if_nothing_else_has_and_leaves_the_turn_as_it_was():
    turn, model, would = turn_of(answers(open=thought("ask")), probe=True)
    assert (turn.action, turn.candidates, turn.extra["queries_selected"]) == ("ask", None, 0)
    assert ids(would) == ["7", "5"]
    assert [(c.role, c.step.name) for c in model.calls][-2:] == [
        ("agent.searcher.probe", "search"),
        ("agent.probe", "recommend"),
    ]
    assert "Film number 8" not in model.calls[-1].messages[0].content  # no action film


def test_a_probe_picks_without_reflection_and_leaves_the_turn_as_it_was():
    turn, model, would = turn_of(answers(think=thought("ask")), probe=True)
    assert turn.action == "ask"
    assert turn.candidates is None
    assert ids(would) == ["7", "5"]
    assert [c.role for c in model.calls][-2:] == ["agent", "agent.probe"]


def test_titles_outside_of_the_candidates_are_counted_not_guessed():
    titles = ["Film number 2", "{{ x }}", "Film number 9"]
    turn, _, _ = turn_of(answers(recommend={"titles": titles}))
    assert ids(turn.shown) == ["9"]
    assert turn.extra["titles_ungrounded"] == ["Film number 2", "{{ x }}"]


def test_nothing_to_pick_from_is_a_turn_without_items():
    turn, model, _ = turn_of(answers(), history=ITEMS)
    assert (turn.action, turn.candidates, turn.shown) == ("recommend", (), ())
    assert "reflect" not in [name for _, name in steps(model)]


HOSTILE = (
    "INSERT INTO items (item_id) VALUES ('99')",
    "SELECT item_id FROM read_csv('/etc/passwd')",
    "LOAD httpfs",
    "ATTACH '/tmp/x.db'",
    "WITH RECURSIVE a AS (SELECT 1 AS x UNION ALL SELECT x FROM a) SELECT x::VARCHAR FROM a",
    "'; {{ 7 * 7 }} </notes>",
)


@pytest.mark.parametrize("sql", HOSTILE)
def test_hostile_sql_is_counted_and_does_nothing_else(sql):
    turn, model, _ = turn_of(answers(search={"sql": sql}))
    assert turn.extra["queries_refused"] == 1
    assert len(turn.candidates) == 11
    assert not any("root:" in call.messages[0].content for call in model.calls)


@pytest.mark.parametrize(
    ("step", "reply"),
    [
        ("interpret", {"task": "x" * 10_000}),
        ("open", {"thought": "x" * 10_000, "action": "search"}),
        ("open", thought("recommend")),
        ("search", {"sql": "x" * 10_000}),
        ("reflect", {"verdict": "accept", "remark": "x" * 10_000}),
    ],
)
def test_replies_that_break_the_form_are_asked_for_again(step, reply):
    turn, model, _ = turn_of(answers(**{step: [reply, answers()[step]]}))
    assert ids(turn.shown) == ["7", "5"]
    assert len(model.calls) == 8


@pytest.mark.parametrize("bad", [{"rounds": 0}, {"candidates": 0}, {"recommender": {"name": 3}}])
def test_bad_options_are_refused(bad):
    with pytest.raises(ValidationError):
        MACRec.Options(**{"recommender": FIRST_IS_BEST, **bad})


@pytest.mark.parametrize("skill", [1.0, 0.5, 0.0])
def test_dialogues_by_the_rules_do_not_fail(skill):
    domain = Synthetic(Synthetic.Options(items=200, users=40, history=10))
    given = {"recommender": "popularity"}
    artifacts = fitted(MACRec.needs(MACRec.Options(**given)), domain)
    for case in ("u0", "u1", "u2"):
        model = rules(domain, skill=skill)
        played, journal = play(MACRec, "macrec", domain, case, model, artifacts=artifacts, **given)
        assert played.stop_reason in ("accepted", "user_left", "max_turns")
        calls = Counter(r.call.turn for r in journal.records if r.call.role in MACRec.roles)
        assert max(calls.values()) <= 10
        for turn in played.turns:
            assert set(ids(turn.agent.shown)) <= set(ids(turn.agent.candidates or ()))
            json.dumps(turn.agent.extra)
