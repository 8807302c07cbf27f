"""What simulated users do wrong, counted by hand; where the variance comes from, simulated."""

from __future__ import annotations

import json

import numpy as np
import pytest

from agents.core.errors import UsageError
from analysis.metrics.core import parse_metric
from analysis.results import Results
from analysis.statistics.validity import (
    CountedShare,
    _sources,
    behaviour,
    behaviour_by,
    groups,
    named_by_file,
    rankings,
    user_axes,
    variance_sources,
)
from runner.commands.validity import show_validity
from tests.analysis.builder import TURN, Built, Cell, recorded
from tests.runner.commands.test_results import printed, screen


def said(text: str, decision: str, *shown: str, **record: bool):
    return {
        **TURN, "user_text": text, "user_decision": decision, "shown": list(shown),
        "user_extra": recorded(**record),
    }  # fmt: skip


def numbered(*turns):
    return [{**turn, "turn": n} for n, turn in enumerate(turns, start=1)]


def grid(users="pq", agents="abc"):
    return [Cell(f"{u}/{a}", {"agent": a, "roles.user": u}) for u in users for a in agents]


def test_each_count_is_what_its_name_says(tmp_path):
    (cell,) = grid("p", "a")
    built = Built([cell], seeds=[0], case_ids=["u0", "u1", "u2"])
    opening = {"user_text": "A red film", "user_extra": recorded(leak=False)}
    read = built.episode(
        cell, "u0", 0, opening=opening,
        turns=numbered(
            said("A  RED film", "answer", leak=False),  # said before, but for case and space
            said("no", "refuse", "i1", disagrees=False, leak=True),
            said("", "refuse", "i0", disagrees=True, leak=False),  # the target, and no word
            said("yes yes", "accept", "i1", disagrees=True, leak=False),  # not the target
        ),
    )  # fmt: skip
    built.episode(cell, "u1", 0, opening=opening, turns=numbered(said("ok", "accept", "i0")))
    built.episode(cell, "u2", 0, turns=numbered(said("", "answer"), said("", "answer")))
    built.failed(cell, "u2", 0, "user", attempt=-1, ended=0.0, turns=[said("x", "accept", "i9")])
    review = built.judge("user_review", "fault", "effect", scale=(-1, 1), label="again")
    for turn, effect in enumerate([0, 1, 1, -1, None], start=1):  # no fault, or none that matters
        built.verdict(review, read, "effect", effect, turn=turn)
        built.verdict(review, read, "fault", 1.0, turn=turn)
    built.verdict(built.judge("other", "effect"), read, "effect", 1.0, turn=1)
    results = Results.open(built.write(tmp_path))
    (found,) = behaviour(results, groups(results, []))
    assert found.dialogues == 3
    assert found.helped == CountedShare(2, 4)  # of those with a verdict
    assert found.hindered == CountedShare(1, 4)
    assert found.leaks == CountedShare(1, 2)  # u2 records none
    assert found.unshown == CountedShare(1, 2)
    assert found.refused == CountedShare(1, 2)
    assert found.disagreed == CountedShare(2, 3)
    assert found.never_shown == CountedShare(0, 0)  # none records purchases
    assert found.empty == CountedShare(3, 7)
    assert found.repeated == CountedShare(1, 4)
    assert found.words[0] == pytest.approx((3 + 3 + 1) / 3)
    assert found.words[1] == pytest.approx((3 + 1 + 0) / 3)
    assert found.words[4] == 2


def test_purchases_of_what_was_never_shown_are_counted_among_all_that_users_named(tmp_path):
    """As `csuser` records them."""
    (cell,) = grid("p", "a")
    built = Built([cell], seeds=[0], case_ids=["u0", "u1", "u2"])
    refused, bought = {"refused_purchase": "B9"}, {"bought_by": "id", "over_budget": True}
    turns = (said("I take B9", "refuse"), said("and B9", "refuse"), said("this then", "accept"))
    for turn, extra in zip(turns, (refused, refused, bought), strict=True):
        turn["user_extra"] = json.dumps(extra)
    built.episode(cell, "u0", 0, turns=numbered(*turns))
    built.episode(cell, "u1", 0, turns=numbered(said("no", "refuse"), turns[-1]))
    built.episode(cell, "u2", 0, turns=numbered(said("no", "refuse")))
    results = Results.open(built.write(tmp_path))
    (found,) = behaviour(results, groups(results, []))
    assert found.never_shown == CountedShare(2, 4)
    assert found.empty == CountedShare(0, 6)


def test_users_are_distinguished_by_the_axes_that_make_them(tmp_path):
    results = Results.open(Built(grid()).write(tmp_path))
    assert user_axes(results) == ["roles.user"]
    assert groups(results, ["roles.user"]) == {"p": [0, 1, 2], "q": [3, 4, 5]}
    with pytest.raises(UsageError, match="no axis 'x'"):
        groups(results, ["x"])


def test_what_users_did_is_counted_apart_for_groups_of_users(tmp_path):
    built = Built([Cell("c", {"agent": "a"})], seeds=[0], case_ids=["u0", "u1", "u2"])
    built.groups = {"u0": ["Active", "Rational"], "u1": ["Active"], "u2": ["Passive"]}
    for case_id in built.case_ids:
        turn = {**TURN, "user_decision": "accept", "user_text": "x " * (1 + int(case_id[1]))}
        turn["shown"] = ["i0"] if case_id == "u0" else ["i9"]
        built.episode(built.cells[0], case_id, 0, success_turn=1, turns=[turn])
    results = Results.open(built.write(tmp_path))
    found = {one.label: one for one in behaviour_by(results, groups(results, []), ["openness"])}
    assert [found[name].dialogues for name in ("Active", "Neutral", "Passive")] == [2, 0, 1]
    assert found["Active"].unshown == CountedShare(1, 2)
    assert found["Passive"].unshown == CountedShare(1, 1)
    assert found["Active"].words[1] == 1.5
    with pytest.raises(UsageError, match="openness"):
        behaviour_by(results, groups(results, []), ["opennes"])


def test_components_are_those_of_the_model_that_made_the_data():
    """1,000 tables of 4 users x 6 agents, with known variances and errors of known size."""
    rng = np.random.default_rng(3)
    truth = np.array([0.04, 0.01, 0.0025])  # user, agent, interplay
    found = []
    for _ in range(1_000):
        user, agent = rng.normal(size=(4, 1)), rng.normal(size=(1, 6))
        means = 0.2 * user + 0.1 * agent + rng.normal(scale=0.05, size=(4, 6))
        means += rng.normal(scale=0.03, size=(4, 6))
        one = _sources(parse_metric("sr@5"), means, np.full((4, 6), 0.03**2))
        parts = np.array([one.user, one.agent, one.interplay])
        found.append(parts * one.spread**2)
    assert np.mean(found, axis=0) == pytest.approx(truth, rel=0.12)


@pytest.mark.parametrize(("of", "share"), [("user", 0), ("agent", 1)])
def test_the_side_that_decides_the_outcome_has_the_variance(tmp_path, of, share):
    built = Built(grid(), case_ids=[f"u{n}" for n in range(30)])
    rng = np.random.default_rng(1)
    chance = {"p": 0.2, "q": 0.8, "a": 0.1, "b": 0.5, "c": 0.9}
    for cell in built.cells:
        side = cell.axes["roles.user" if of == "user" else "agent"]
        for case_id in built.case_ids:
            for seed in built.seeds:
                won = 1 if rng.random() < chance[side] else None
                built.episode(cell, case_id, seed, success_turn=won)
    results = Results.open(built.write(tmp_path))
    found = variance_sources(results, "sr@5")
    assert found is not None
    assert (found.user, found.agent)[share] > 0.9


def test_ranks_are_compared_over_what_both_have():
    by = {
        "p": {"a": 0.1, "b": 0.2, "c": 0.3, "d": 0.9},
        "q": {"a": 5.0, "b": 7.0, "c": 6.0},
        "r": {"a": 1.0, "b": 1.0, "c": 1.0},
    }
    found = {(r.first, r.second): r for r in rankings(by)}
    assert found["p", "q"].rho == pytest.approx(0.5)  # 1 - 6 * 2 / (3 * 8)
    assert (found["p", "r"].rho, found["p", "r"].agents) == (None, 3)
    assert named_by_file({"recordings(path=logs/macrs.jsonl)": 1.0, "x": 2.0}) == {
        "macrs": 1.0,
        "x": 2.0,
    }


def shown(folder, **options) -> str:
    console = screen()
    given = {"axes": [], "metric": None, "rank": "agent", "people": None, "format": "text"}
    show_validity(str(folder), **{**given, **options}, console=console)
    return printed(console)


def played(folder, cells, chance, **opening):
    built = Built(cells, case_ids=[f"u{n}" for n in range(20)], seeds=[0])
    rng = np.random.default_rng(2)
    for cell in cells:
        for case_id in built.case_ids:
            won = 1 if rng.random() < chance(cell) else None
            turns = [said(opening.get("user_text", "yes"), "accept", "i0")]
            built.episode(cell, case_id, 0, success_turn=won, turns=turns, opening=opening)
    return built.write(folder)


def test_people_have_a_row_of_their_own_and_rank_the_agents_too(tmp_path):
    chance = {"a": 0.0, "b": 0.5, "c": 1.0}
    ours = played(tmp_path / "o", grid(), lambda cell: chance[cell.axes["agent"]])
    labels = [f"recordings(path=x/{name}.jsonl)" for name in "abc"]
    theirs = played(
        tmp_path / "t",
        [Cell(label, {"domain": label}) for label in labels],
        lambda cell: 1 - chance[cell.axes["domain"][-8]],
    )
    text = shown(ours, people=str(theirs))
    assert "people" in text
    assert "rank correlation of agent by sr@5, p and q: +1.00 over 3" in text
    assert "rank correlation of agent by sr@5, p and people: -1.00 over 3" in text
    assert "variance of sr@5 between cells" in text


def test_little_is_said_in_one_line_each(tmp_path):
    text = shown(played(tmp_path / "o", grid("p", "a"), lambda _: 0.5))
    assert "all cells have the same simulated user" in text
    assert "nan" not in text
    assert "agents are not ranked: the grid has no axis 'x'" in shown(tmp_path / "o", rank="x")
    with pytest.raises(UsageError, match="no finished dialogue"):
        shown(Built(grid()).write(tmp_path / "e"))


def test_without_texts_there_is_no_table_of_words(tmp_path):
    text = shown(played(tmp_path / "o", grid(), lambda _: 0.5, user_text=""))
    assert "the messages have no texts, so words are not counted" in text
    assert "words by turn" not in text


@pytest.mark.parametrize("format", ["csv", "markdown", "latex", "html"])
def test_both_tables_are_in_every_format(tmp_path, capsys, format):
    shown(played(tmp_path, grid(), lambda _: 0.5), format=format)
    text = capsys.readouterr().out
    assert "refuse" in text and "opening" in text
