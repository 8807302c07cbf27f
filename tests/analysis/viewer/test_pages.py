"""The viewer's pages over stored sweeps."""

from __future__ import annotations

import json
from collections import Counter

import pyarrow.parquet as pq
import pytest

from analysis.results import Results
from sweeps.storage import parts
from sweeps.storage.records import SCHEMAS, metadata
from tests.analysis.builder import Built, grid_of, messy
from tests.analysis.viewer.reading import Browser, all_attempts, attempts_on

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)> \u202eمرحبا {{ 7*7 }}"


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    built = messy(3, cases=9)
    built.groups = {"u1": ["Active", "Rational"], "u2": ["Active"], "u3": ["Passive"]}
    judge = built.judge("clarity", "clear")
    for number, episode in enumerate(built.rows["episodes"]):
        if episode["status"] == "done" and number % 2:
            built.verdict(judge, episode, "clear", 1 + number % 5, turn=1)
    return built.write(tmp_path_factory.mktemp("messy") / "sweep")


@pytest.fixture(scope="module")
def browser(sweep):
    return Browser(sweep)


@pytest.fixture(scope="module")
def results(sweep):
    return Results.open(sweep)


def ids(results: Results, condition: str = "true") -> set[str]:
    found = results.query(f"SELECT attempt_id FROM episodes WHERE {condition}").fetchall()
    return {attempt for (attempt,) in found}


def test_the_overview_counts_what_the_view_episodes_holds(browser, results):
    page = browser.get("/")
    done, failed = len(ids(results, "status = 'done'")), len(ids(results, "status = 'failed'"))
    planned = sum(results.planned.values())
    assert f"done {done} failed {failed} not run {planned - done - failed} planned {planned}" in (
        page.text
    )
    assert "ReplyInvalid" in page.text
    assert "clarity clear" in page.text


FILTERS = [
    ({}, "true"),
    ({"outcome": "success"}, "status = 'done' AND success"),
    ({"outcome": "no success"}, "status = 'done' AND NOT success"),
    ({"outcome": "failed"}, "status = 'failed'"),
    ({"stop": "max_turns"}, "stop_reason = 'max_turns'"),
    ({"error": "ReplyInvalid"}, "error_class = 'ReplyInvalid'"),
    ({"blame": "infrastructure"}, "blame = 'infrastructure'"),
    ({"cell": "1"}, "cell = 1"),
    ({"axis0": "tool"}, "agent = 'tool'"),
    ({"axis0": "tool", "axis1": "weak"}, "agent = 'tool' AND \"roles.agent\" = 'weak'"),
    ({"case": "u3"}, "case_id = 'u3'"),
    ({"case": "u3' OR true --"}, "false"),
    ({"group": "Active"}, "case_id IN ('u1', 'u2')"),
    ({"group": "Active' OR true --"}, "false"),
    ({"seed": "2"}, "seed = 2"),
    ({"turns_min": "2", "turns_max": "3"}, "turns BETWEEN 2 AND 3"),
    ({"tokens_min": "151"}, "false"),
    ({"seconds_max": "2"}, "ended - started <= 2"),
    (
        {"judge": "clarity / clear", "judge_min": "3"},
        "attempt_id IN (SELECT attempt_id FROM judgements WHERE value >= 3)",
    ),
]


@pytest.mark.parametrize(("filters", "condition"), FILTERS, ids=str)
def test_filters_leave_what_the_same_condition_in_sql_leaves(browser, results, filters, condition):
    page = browser.get("/episodes", **filters)
    found = all_attempts(browser, page)
    assert len(found) == len(set(found))
    assert set(found) == ids(results, condition)
    assert f"{len(found)} dialogues" in page.text


@pytest.mark.parametrize("sort", ["case", "newest first", "most tokens", "longest", "most turns"])
def test_every_order_shows_each_dialogue_once_in_both_directions(browser, results, sort):
    first = browser.get("/episodes", sort=sort)
    forwards = all_attempts(browser, first)
    assert len(forwards) == len(ids(results)) > 2 * 50
    assert all_attempts(browser, browser.get(first.link("Last")), "prev") == forwards
    assert attempts_on(browser.get("/episodes", sort=sort, row=60))[:2] == forwards[59:61]
    assert "60–" in browser.get("/episodes", sort=sort, row=60).text


def test_a_dialogue_knows_the_ones_around_it_in_its_list(browser):
    page = browser.get("/episodes", sort="most turns", outcome="success")
    before, at, after = page.hrefs("/dialogue")[3:6]
    shown = browser.get(at)
    assert attempts_of(shown.rel["prev"]) == attempts_of(before)
    assert attempts_of(shown.rel["next"]) == attempts_of(after)
    assert "outcome=success" in shown.rel["up"]


def attempts_of(href: str) -> str:
    return href.partition("attempt=")[2].partition("&")[0]


def test_a_dialogue_shows_all_that_is_stored_of_it(tmp_path):
    built = Built(grid_of("a", "b", backbones=["s"]), seeds=[0])
    turns = [
        {
            "turn": 1, "action": "ask", "strategy": "warm up", "agent_text": "Which genre?",
            "ranking": ["i4", "i5"], "ranked": 3000, "target_rank": 1200,
            "user_text": "Jazz.", "user_decision": "answer", "extra": json.dumps({"thought": "hm"}),
        },
        {
            "turn": 2, "action": "recommend", "shown": ["i5", "i0"], "ranking": ["i5", "i0", "i7"],
            "candidates": [f"i{n}" for n in range(60)], "agent_text": "Try i0.",
            "user_text": "Yes!", "user_decision": "accept", "accepted_item": "i0",
            "user_extra": json.dumps({"leak": True}),
        },
    ]  # fmt: skip
    calls = [
        {"turn": 2, "prompt": json.dumps([{"role": "system", "content": "Be brief."}]),
         "reply": "Try i0.", "cached": True, "retries": 2, "seed": 77},
        {"turn": 2, "role": "user", "step": "answer", "valid": False, "reply": None,
         "error_class": "Timeout", "error": "too slow"},
    ]  # fmt: skip
    one = built.episode(
        built.cells[0], "u1", 0, success_turn=2, turns=turns, calls=calls, accepted_item="i0",
        opening={"user_text": "Hello."},
    )  # fmt: skip
    judge = built.judge("clarity", "clear")
    built.verdict(judge, one, "clear", 4, turn=2, reason="It is plain.")
    built.verdict(judge, one, "whole", 2, turn=None, reason="Too short.")
    built.label("ann", "user_decision", one, "decision", 2, turn=2)
    built.label("bo", "user_decision", one, "decision", 0, turn=2)
    built.label("cy", "clarity", one, "clear", 0, turn=2)
    browser = Browser(built.write(tmp_path / "x"))
    page = browser.dialogue(one["attempt_id"])
    for words in (
        "user_decision person ann decision : accept persuasion",
        "user_decision person bo decision : reject", "clarity person cy clear : 0.00",
        "warm up", "Which genre?", "Jazz.", "hm", "ranking: 3 items, target at 2",
        "ranking: 3,000 items, target at 1200", "and 2,998 more",
        "candidates: 60 items, target at 1", "and 10 more", "i0 target accepted", "names a target",
        "2 calls, 30 tokens, 1 cached, 2 retries, 1 invalid", "It is plain.", "Too short.",
    ):  # fmt: skip
        assert words in page.text, words
    assert {"turn-0-user", "turn-1-agent", "turn-1-user", "turn-2-agent", "turn-2-user"} <= {
        *page.ids
    }
    assert {href for _, href in page.links} >= {"#turn-2-agent", "#turn-0-user"}
    calls_page = browser.get("/calls", attempt=one["attempt_id"], turn=2)
    for words in ("Be brief.", "Try i0.", "seed 77", "2 retries", "Timeout: too slow"):
        assert words in calls_page.text, words
    part = browser.client.get(
        "/calls", params={"attempt": one["attempt_id"], "turn": 2}, headers={"HX-Request": "true"}
    )
    assert "<html" not in part.text


def test_the_first_turn_in_which_two_agents_differ_is_marked(tmp_path):
    built = Built(grid_of("a", "b", "c", backbones=["s"]), seeds=[0, 1])
    said = [
        {"turn": 1, "agent_text": "Which genre?", "user_text": "Jazz."},
        {"turn": 2, "agent_text": "Try i1.", "user_text": "No.", "shown": ["i1"]},
    ]
    other = [said[0], {**said[1], "shown": ["i2"]}, {"turn": 3, "agent_text": "Or i3."}]
    one, two = (
        built.episode(cell, "u1", 1, turns=turns)
        for cell, turns in zip(built.cells, (said, other), strict=False)
    )
    built.episode(built.cells[2], "u1", 0, turns=said)  # another seed
    browser = Browser(built.write(tmp_path / "x"))
    page = browser.dialogue(one["attempt_id"])
    assert page.options["b"] == [two["attempt_id"]]
    shown = browser.get("/compare", a=one["attempt_id"], b=two["attempt_id"])
    assert "They first differ in turn 2" in shown.text
    before, _, after = shown.source.partition('id="first-difference"')
    assert 'id="a-turn-1"' in before and 'id="a-turn-2"' not in before
    assert "ended before" in after
    same = browser.get("/compare", a=one["attempt_id"], b=one["attempt_id"])
    assert "Their words are the same in all turns" in same.text


def test_whatever_is_stored_is_shown_as_text(tmp_path):
    long = "x" * 50_000
    built = Built(grid_of("a", "b", backbones=[HOSTILE]), case_ids=[HOSTILE], seeds=[0])
    built.cells[0].axes[HOSTILE] = HOSTILE
    turn = {
        "turn": 1, "agent_text": f"{HOSTILE}{long}", "user_text": HOSTILE, "strategy": HOSTILE,
        "shown": [HOSTILE], "ranking": [HOSTILE], "extra": json.dumps({HOSTILE: HOSTILE}),
    }  # fmt: skip
    call = {"prompt": json.dumps([{"role": HOSTILE, "content": HOSTILE}]), "reply": HOSTILE}
    row = built.episode(
        built.cells[0], HOSTILE, 0, turns=[turn], calls=[call], targets=[HOSTILE],
        status="failed", blame="agent", error_class=HOSTILE, error=HOSTILE, stop_reason=HOSTILE,
    )  # fmt: skip
    built.episode(built.cells[1], HOSTILE, 0)
    built.verdict(built.judge("clarity", HOSTILE), row, HOSTILE, 1, reason=HOSTILE)
    browser = Browser(built.write(tmp_path / "it's <b>", name=HOSTILE))
    attempt = row["attempt_id"]
    pages = [
        browser.get("/"),
        browser.get("/episodes", axis0="a", case=HOSTILE),
        browser.dialogue(attempt),
        browser.get("/calls", attempt=attempt, turn=1),
        browser.get("/compare", a=attempt, b=attempt),
        browser.get("/episodes", expected=400, sort=HOSTILE),
        browser.get("/dialogue", expected=404, attempt=HOSTILE),
    ]
    for page in pages:
        assert page.tags.count("script") == 2  # the viewer's own
        assert "img" not in page.tags
        assert page.handlers == []
        assert " ".join(HOSTILE.split())[:40] in page.text
    assert long in pages[2].text


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/episodes?nonsense=1", 400, "there is no filter 'nonsense'"),
        ("/episodes?tokens_min=many", 400, "tokens_min: expected a number, found 'many'"),
        ("/episodes?seed=1.5", 400, "seed: expected a whole number"),
        ("/episodes?seed=nan", 400, "seed: expected a number"),
        ("/episodes?outcome=maybe", 400, "outcome: expected one of success, no success, failed"),
        ("/episodes?after=x", 400, "expected a place in the list"),
        ("/episodes?snapshot=9", 404, "open the list again"),
        ("/dialogue", 400, "expected ?attempt="),
        ("/dialogue?attempt=none", 404, "There is no attempt none"),
        ("/calls?attempt=none&turn=x", 400, "turn: expected a whole number"),
        ("/nonsense", 404, "There is no such page"),
        ("/static/../app.py", 404, ""),
        ("/static/%2e%2e/app.py", 404, ""),
    ],
)
def test_what_is_wrong_in_a_url_is_said_in_one_line(browser, path, status, words):
    assert words in browser.get(path, expected=status).text


def test_a_sweep_without_a_single_episode_has_all_its_pages(tmp_path):
    browser = Browser(Built(grid_of("a", backbones=["s"])).write(tmp_path / "x"))
    assert "done 0 failed 0 not run 12 planned 12" in browser.get("/").text
    assert "No dialogue is finished yet." in browser.get("/episodes").text


def test_looking_writes_nothing_and_takes_no_lease(sweep, browser):
    def state():
        paths = [sweep, *sorted(sweep.rglob("*"))]
        return [(path, path.stat().st_mtime_ns) for path in paths]

    before = state()
    page = browser.get("/episodes")
    browser.get(page.hrefs("/dialogue")[0])
    browser.get("/")
    assert state() == before


def test_items_have_their_titles_where_these_are_known(tmp_path):
    built = Built(grid_of("a", backbones=["s"]), seeds=[0], case_ids=["u0"])
    turn = {"shown": ["i0", "i5"], "user_decision": "accept", "accepted_item": "i0"}
    one = built.episode(
        built.cells[0], "u0", 0, success_turn=1, turns=[turn], accepted_item="i0", targets=["i0"]
    )
    titles = {"source": {"i0": "<b>Heat</b> Wave"}}
    browser = Browser(built.write(tmp_path), titles=lambda source: titles.get(source, {}))
    page = browser.dialogue(one["attempt_id"])
    assert "<b>Heat</b> Wave i0 target accepted" in page.text
    assert "targets <b>Heat</b> Wave accepted <b>Heat</b> Wave" in page.text
    assert "i5" in page.text


def test_opening_reads_each_footer_of_a_compacted_file_once(tmp_path, monkeypatch):
    folder = Built(grid_of("a")).write(tmp_path)
    (folder / "episodes").mkdir()
    schema = SCHEMAS["episodes"].with_metadata(metadata({"crsweep.replaces": "[]"}))
    names = [f"episodes/compact-000001-{n:06}.parquet" for n in range(3)]
    for name in names:
        pq.write_table(schema.empty_table(), folder / name)
    read: Counter[str] = Counter()
    footer_of = parts.footer_of

    def counted(where, name):
        read[name] += 1
        return footer_of(where, name)

    monkeypatch.setattr(parts, "footer_of", counted)
    browser = Browser(folder)
    assert read == Counter(names)
    pq.write_table(schema.empty_table(), folder / "episodes/compact-000002-000000.parquet")
    browser.get("/")
    assert max(read.values()) == 1
