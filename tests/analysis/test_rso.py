"""The metrics of RSO: scripted turns and verdicts give exactly what is computed by hand."""

from __future__ import annotations

import json

import pytest

from agents.core.errors import UsageError
from analysis import published
from analysis.metrics.core import parse_metric
from analysis.results import Results
from analysis.tables.table import make_table
from tests.analysis.builder import Built, Cell, grid_of


def built_of(episodes: int) -> Built:
    cases = [f"u{n}" for n in range(episodes)]
    return Built(grid_of("a", backbones=["s"]), seeds=[0], case_ids=cases)


def values(built: Built, folder, *metrics: str, **changes):
    """Mean and n of each metric in the first cell."""
    table = make_table(Results.open(built.write(folder, **changes)), metrics)
    return [(value.mean, value.episodes) for value in table.rows[0].values]


def turns(*rows, critic: bool = True):
    """Turns by number; what a critic says is stored where there is one."""
    record = json.dumps({"unparsed": 0}) if critic else None
    return {"turns": [{"turn": n, "critic_extra": record, **row} for n, row in enumerate(rows, 1)]}


def added(built, case, *rows, critic=True, **changes):
    found = turns(*rows, critic=critic)
    changes = {"turns": len(rows), **changes}
    row = built.episode(built.cells[0], case, 0, **found)
    row |= changes
    return row


def test_conversation_success_is_a_score_above_the_threshold_in_any_turn(tmp_path):
    built = built_of(4)
    added(built, "u0", {"critic_score": 0.2}, {"critic_score": 0.75})
    added(built, "u1", {"critic_score": 0.7}, {"critic_score": 0.6})  # not above
    added(built, "u2", {"critic_score": None}, {"critic_score": None})
    added(built, "u3", {"critic_score": None}, critic=False)
    found = values(built, tmp_path, "conv_sr", "conv_sr@0.65", "conv_sr@0.8", "conv_sr@1")
    assert found == [(pytest.approx(n / 3), 3) for n in (1, 2, 0, 0)]


def test_a_dialogue_that_the_agent_failed_before_the_critic_spoke_is_no_conversation_success(
    tmp_path,
):
    built = built_of(3)
    added(built, "u0", {"critic_score": 0.75})
    built.failed(built.cells[0], "u1", 0, "agent")
    built.failed(built.cells[0], "u2", 0, "infrastructure")
    found = values(built, tmp_path / "some", "conv_sr", "conv_sr_completed")
    assert found == [(0.5, 2), (1.0, 1)]
    # Where it failed all of them, the success rule says that there is a critic.
    for rule, expected in (("critic_above", (0.0, 1)), ("user_accepts", (None, 0))):
        built = built_of(1)
        built.failed(built.cells[0], "u0", 0, "agent")
        for row in built.rows["episodes"]:
            row["success_rule"] = rule
        assert values(built, tmp_path / rule, "conv_sr") == [expected]


def test_recommendation_is_read_off_the_last_turn_with_any_of_the_targets(tmp_path):
    built = built_of(4)
    wanted = {"targets": ["i3", "i4"]}
    hit = {"shown": ["i4"], "ranking": ["i1", "i4", "i3"], "target_rank": 2}
    miss = {"shown": ["i1"], "ranking": ["i1", "i2"], "target_rank": None}
    silent = {"shown": [], "ranking": ["i3"], "target_rank": 1}
    added(built, "u0", miss, hit, **wanted)
    added(built, "u1", hit, miss, **wanted)  # the last turn counts
    added(built, "u2", hit, silent, **wanted)  # nothing is recommended, a target is ranked first
    added(built, "u3", hit, {"shown": [], "ranking": None, "target_rank": None}, **wanted)
    found = values(built, tmp_path, "rec_sr", "recall_any@1", "recall_any@5", "recall@1")
    # recall@1 reads the last ranking that is known: of u3 that of the first turn.
    assert found == [(0.25, 4), (0.25, 4), (0.5, 4), (0.25, 4)]


def test_a_dialogue_that_the_agent_failed_at_once_recommends_nothing(tmp_path):
    built = built_of(2)
    added(built, "u0", {"shown": ["i0"], "ranking": ["i0"], "target_rank": 1})
    built.failed(built.cells[0], "u1", 0, "agent")
    found = values(built, tmp_path, "rec_sr", "recall_any@1", "rec_sr_completed")
    assert found == [(0.5, 2), (0.5, 2), (1.0, 1)]


def test_distinct_2_of_each_message_and_of_all(tmp_path):
    built = built_of(3)
    # "a b a b": a b, b a, a b. "A b.": a b, b . With case folded and the full stop as a word.
    added(built, "u0", {"agent_text": "a b a b"}, {"agent_text": "A b."})
    added(built, "u1", {"agent_text": "a  b"}, {"agent_text": "Hi"})
    added(built, "u2", {"agent_text": "Oui, ça va"}, {"agent_text": ""})
    found = values(built, tmp_path, "dist2_mean_response", "dist2_corpus")
    # Messages: 2/3, 1, 1, 1. Pairs: 3 + 2 + 1 + 3; different: a b, b a, b . and three of "Oui".
    assert found == [(pytest.approx((2 / 3 + 3) / 4), 3), (pytest.approx(6 / 9), 3)]


def judged(built, case, post, *, shown=("i1",), credibility=()):
    episode = added(built, case, *({"shown": list(shown)} for _ in credibility or (0,)))
    intention, facts = built.judges
    if shown:
        for name, value in zip(("pre", "post", "true"), (1, post, 5), strict=True):
            built.verdict(intention, episode, name, value, turn=1, item="i1")
    for turn, score in enumerate(credibility, start=1):
        built.verdict(facts, episode, "credibility", score, turn=turn)
    return episode


def with_judges(episodes: int) -> Built:
    built = built_of(episodes)
    built.judge("intention", "pre", "post", "true")
    built.judge("credibility", "credibility")
    return built


def test_watching_intention_is_what_is_wanted_after_the_words(tmp_path):
    built = with_judges(4)
    judged(built, "u0", 4)
    judged(built, "u1", 1)
    judged(built, "u2", None)
    judged(built, "u3", None, shown=())
    assert values(built, tmp_path, "wi", "prs_filtered") == [(2.5, 2), (0.375, 2)]


def test_credibility_of_a_dialogue_without_an_item_is_zero(tmp_path):
    built = with_judges(4)
    judged(built, "u0", 4, credibility=(5, 3))
    judged(built, "u1", 4, credibility=(2,))
    judged(built, "u2", 4, shown=())
    judged(built, "u3", 4, credibility=(None,))  # items, and no valid verdict
    found = values(built, tmp_path, "cred_per_turn", "cred_zero_if_no_item")
    assert found == [(3.0, 2), (2.0, 3)]


BASE = {"UniCRS": (0.172, 0.556, 0.838), "ReDial": (0.015, 0.652, 0.788)}


def test_the_published_improvements_follow_from_the_published_numbers():
    table = published.read("rso/table5")
    numbers = {(row.dataset, row.row): row.numbers for row in table.rows}
    for (dataset, row), found in numbers.items():
        if row == "UniCRS":
            continue
        base = numbers[dataset, "UniCRS"]
        change = sum(
            found[part].value / base[part].value - 1
            for part in ("rec_sr", "recall_any@1", "recall_any@5")
        ) / 3  # fmt: skip
        printed = found["improve"].value
        shown = 100 * change if dataset == "Inspired" else change
        assert shown == pytest.approx(printed, abs=0.06), (dataset, row)


def two_sources() -> Built:
    """A cell on ReDial and one on another data set; two agents on ReDial."""
    cells = [Cell("c0", {"agent": "rso"}, "redial"), Cell("c1", {"agent": "zero"}, "redial"),
             Cell("c2", {"agent": "rso"}, "other")]  # fmt: skip
    built = Built(cells, seeds=[0], case_ids=["u0", "u1"])
    hit = {"shown": ["i0"], "ranking": ["i0"], "target_rank": 1, "turn": 1}
    miss = {"shown": ["i1"], "ranking": ["i1", "i0"], "target_rank": 2, "turn": 1}
    for cell, rows in zip(cells, ((hit, hit), (hit, miss), (hit, hit)), strict=True):
        for case, row in zip(built.case_ids, rows, strict=True):
            built.episode(cell, case, 0, turns=[row])["turns"] = 1
    return built


def sources(built):
    return [
        {"source_id": name, "domain": name, "split": "test", "sample": 2, "fingerprint": "f",
         "dataset": dataset}
        for name, dataset in (("redial", "ReDial"), ("other", "Other"))
    ]  # fmt: skip


def test_improvement_is_the_mean_relative_change(tmp_path):
    built = two_sources()
    folder = built.write(tmp_path, sources=sources(built))
    metrics = ("improve_over@published:UniCRS", "improve_over@agent=zero")
    table = make_table(Results.open(folder), metrics)
    found = [[(value.mean, value.episodes) for value in row.values] for row in table.rows]
    base = BASE["ReDial"]
    whole = (1 / base[0] + 1 / base[1] + 1 / base[2]) / 3 - 1
    half = (0.5 / base[0] + 0.5 / base[1] + 1 / base[2]) / 3 - 1
    assert found[0] == [(pytest.approx(whole), 2), (pytest.approx((1 + 1 + 0) / 3), 2)]
    assert found[1] == [(pytest.approx(half), 2), (pytest.approx(0), 2)]
    # The paper has no numbers of that data set, and no cell of it is called zero.
    assert found[2] == [(None, 0), (None, 0)]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("improve_over", "expected a baseline, such as improve_over@published:UniCRS"),
        ("improve_over@published:UnCRS", "has no row 'UnCRS'; did you mean 'UniCRS'?"),
        ("improve_over@a'b=c", "expected a baseline"),
        ("conv_sr@2", "expected a threshold from 0 to 1"),
        ("conv_sr@x", "expected a threshold from 0 to 1"),
        ("rec_sr@5", "takes no argument"),
        ("recall_any", "such as recall_any@5"),
        ("dist2_corpus@2", "takes no argument"),
        ("turn_share@a'b", "expected an action or a strategy"),
    ],
)
def test_a_bad_name_says_what_was_expected(name, words):
    with pytest.raises(UsageError) as caught:
        parse_metric(name)
    assert words in caught.value.message


def test_strategies_with_several_words_have_shares_by_progress(tmp_path):
    built = built_of(1)
    asks, rest = {"strategy": "Opinion Inquiry"}, {"strategy": "Credibility"}
    added(built, "u0", asks, asks, rest, rest)
    found = values(built, tmp_path, "turn_share@Opinion Inquiry", "turn_share@Opinion Inquiry:1/2",
                   "turn_share@Credibility:2/2")  # fmt: skip
    assert [mean for mean, _ in found] == [0.5, 1.0, 1.0]
