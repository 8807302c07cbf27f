"""Agreement of the simulated user with people (CSI, Figure 6), calculated by hand."""

from __future__ import annotations

import csv
import io
import json

import pytest

from agents.core.errors import UsageError
from analysis.results import Results
from analysis.statistics import draws
from analysis.statistics.agreement import make_agreement
from sweeps.judgements import DECISION, DECISION_VALUES, DECISIONS
from tests.analysis.builder import Built, grid_of

LABELS = {"R": "accept recommendation", "P": "accept persuasion", "-": "reject"}
SIMULATOR = "RRRPPP"
PEOPLE = {"ann": "RR-PPR", "bo": "RRRP-P", "cy": "RP-PP-"}
# The majorities are R, R, -, P, P and none.


def label(built: Built, who: str, episode, letter: str) -> None:
    value = DECISION_VALUES[LABELS[letter]]
    built.label(who, DECISIONS, episode, DECISION, value, turn=2)


@pytest.fixture(scope="module")
def built() -> Built:
    found = Built(grid_of("a", backbones=["s"]), case_ids=[f"u{n}" for n in range(8)], seeds=[0])
    for number, letter in enumerate(SIMULATOR):
        bought = {"over_budget": letter == "P", "offers": [{"over_budget": letter != "P"}]}
        turns = [
            {"turn": 1, "user_extra": json.dumps({"offers": [{"over_budget": True}]})},
            {"turn": 2, "user_decision": "accept", "user_extra": json.dumps(bought)},
        ]
        episode = found.episode(found.cells[0], f"u{number}", 0, success_turn=2, turns=turns)
        for who, letters in PEOPLE.items():
            label(found, who, episode, letters[number])
    # Words that are no longer those of a dialogue, and a dialogue that was not run again: a user of
    # whom the price was unknown.
    first = found.rows["episodes"][0]
    label(found, "dee", {**first, "episode_id": first["episode_id"], "transcript_hash": "old"}, "R")
    unknown = [{"turn": 2, "user_decision": "accept", "user_extra": '{"over_budget": null}'}]
    label(found, "dee", found.episode(found.cells[0], "u6", 0, success_turn=2, turns=unknown), "R")
    return found


def test_the_simulated_user_and_people_agree_as_calculated_by_hand(built, tmp_path, crsweep):
    out = built.write(tmp_path / "out")
    printed = crsweep("agreement", out, "--format", "csv").stdout
    rows = list(csv.DictReader(io.StringIO(printed)))
    found = {(row["dimension"], row["between"], row["and"]): row for row in rows}
    assert {row["judge"] for row in rows} == {DECISIONS}
    assert {row["dimension"] for row in rows} == {"decision", "sr", "swr"}
    expected = {
        # n, equal, kappa, alpha
        ("decision", "simulator", "ann"): (6, 4 / 6, 3 / 7, 38 / 82),
        ("sr", "simulator", "ann"): (6, 5 / 6, None, 0),
        ("swr", "simulator", "ann"): (6, 5 / 6, 2 / 3, 48 / 70),
        ("decision", "simulator", "majority"): (5, 4 / 5, 2 / 3, 1 - (1 / 5) / (58 / 90)),
        ("sr", "simulator", "majority"): (6, 5 / 6, None, 0),
        ("swr", "simulator", "majority"): (6, 5 / 6, 2 / 3, 48 / 70),
        ("decision", "ann", "bo"): (6, 3 / 6, 2 / 11, 1 - (3 / 6) / (88 / 132)),
    }
    for raters, (units, equal, kappa, alpha) in expected.items():
        row = found[raters]
        assert int(row["n"]) == units, raters
        assert float(row["equal"]) == pytest.approx(equal), raters
        assert float(row["alpha"]) == pytest.approx(alpha), raters
        if kappa is None:
            assert row["kappa"] == "undefined", raters
        else:
            assert float(row["kappa"]) == pytest.approx(kappa), raters
        assert row["spearman"] == ""
    splits = {d: found[d, "simulator", "majority"]["split"] for d in ("decision", "sr", "swr")}
    assert splits == {"decision": "1", "sr": "0", "swr": "0"}
    everyone = found["decision", "people", "all 4"]
    assert (everyone["n"], everyone["split"]) == ("6", "1")
    assert found["decision", "simulator", "dee"]["n"] == "0"  # no price, or other words
    text = crsweep("agreement", out, "--judge", DECISIONS).stdout
    assert "undefined" in text


def test_decisions_are_those_of_no_judge_and_correct_no_metric(built, tmp_path):
    results = Results.open(built.write(tmp_path / "out"))
    with pytest.raises(UsageError, match="no judge 'user_decisions'; did you mean 'user_decision'"):
        make_agreement(results, "user_decisions")
    built.rows["judgements"].clear()
    unlabelled = Results.open(built.write(tmp_path / "unlabelled"))
    with pytest.raises(UsageError, match="has no decisions of people; collect some with"):
        make_agreement(unlabelled, DECISIONS)
    assert draws.remarks(results) == []
