"""Names of metrics, and what each makes of single episodes."""

from __future__ import annotations

import math

import pytest

from agents.core import plugins
from agents.core.errors import UsageError
from analysis.metrics.core import METRICS, parse_metric
from analysis.results import Results
from analysis.tables.table import Value, make_table
from tests.analysis.builder import Built, grid_of


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sr", "such as sr@5"),
        ("sr@", "such as sr@5"),
        ("sr@x", "'sr@x'.*such as sr@5"),
        ("sr@0", "such as sr@5"),
        ("sr@-1", "such as sr@5"),
        ("sr@٥", "such as sr@5"),
        ("sr@" + "9" * 50, "such as sr@5"),
        ("sr_completed", "such as sr@5"),
        ("hr", "hr@50_turn or hr@50_session"),
        ("hr@", "hr@50_turn or hr@50_session"),
        ("hr@50", "hr@50_turn or hr@50_session"),
        ("at_fail_t@5", "takes no argument"),
        ("at_fail_t@", "takes no argument"),
        ("tokens@", "tokens@agent"),
        ("tokens@agent'; DROP", "tokens@agent"),
        ("dsr@5", "dsr_dialogue, dsr_pooled"),
        ("at", "at_fail_plus_1, at_fail_t, at_success_only"),
        ("recal@5", "did you mean 'recall'"),
        ("swr@3", "takes no argument"),
        ("turn_share", "such as turn_share@persuade"),
        ("turn_share@a'b", "such as turn_share@persuade"),
        ("turn_share@persuade:4/3", "1/3 for the first third"),
        ("acceptance_after@", "such as acceptance_after@social_proof"),
        ("sr@5[]", "found the group ''"),
        ("sr[Active]", "such as sr@5"),
        ("", "no metric"),
        ("my_lab.missing@5", "my_lab.missing"),
    ],
)
def test_a_bad_name_says_what_was_expected(text, message):
    with pytest.raises(UsageError, match=message) as raised:
        parse_metric(text)
    assert "\n" not in raised.value.message


def test_every_plug_in_is_a_metric_under_its_own_name():
    arguments = {"hr": "@50_turn", "win_rate": "@overall", "order_bias": "@overall"}
    arguments |= {"improve_over": "@published:UniCRS"}
    arguments |= {"turn_share": "@persuade", "acceptance_after": "@framing"}
    for name in plugins.names(METRICS):
        plain = name.startswith(("at_", "cred", "empty_", "prs_", "relevance", "swr", "tokens",
                                 "conv_sr", "dist2", "rec_sr", "wi"))  # fmt: skip
        text = name + arguments.get(name, "" if plain else "@3")
        metric = parse_metric(text)
        assert (metric.name, metric.completed_only) == (text, False)
        assert metric.needs_probe == name.startswith(("dsr_", "recall_any", "improve_over"))


def test_at_is_lower_better_and_sr_higher():
    assert parse_metric("at_fail_t").better == "lower"
    assert parse_metric("sr_completed@3").better == "higher"
    assert parse_metric("sr_completed@3").completed_only


def value(folder, metric: str, *episodes: dict) -> Value:
    """The metric over single episodes of one cell, one case each; `blame` makes a failure."""
    built = Built(
        grid_of("a", backbones=["s"]), seeds=[0], case_ids=[f"u{n}" for n in range(len(episodes))]
    )
    for case_id, episode in zip(built.case_ids, episodes, strict=True):
        add = built.failed if "blame" in episode else built.episode
        add(built.cells[0], case_id, 0, **episode)  # type: ignore[operator]
    return make_table(Results.open(built.write(folder)), [metric]).rows[0].values[0]


@pytest.mark.parametrize(
    ("metric", "mean", "n"),
    [
        ("sr@5", 1 / 3, 3),
        ("sr@1", 0, 3),
        ("sr_completed@5", 1 / 2, 2),
        ("at_fail_plus_1", (2 + 6 + 6) / 3, 3),
        ("at_fail_t", (2 + 5 + 5) / 3, 3),
        ("at_success_only", 2, 1),
        ("at_fail_t_completed", (2 + 5) / 2, 2),
    ],
)
def test_failures_count_by_blame(tmp_path, metric, mean, n):
    found = value(
        tmp_path,
        metric,
        {"success_turn": 2},
        {},
        {"blame": "agent"},
        {"blame": "user"},
        {"blame": "critic"},
        {"blame": "infrastructure"},
    )
    assert (found.mean, found.episodes) == (pytest.approx(mean), n)


RIGHT = {"action": "recommend", "shown": ["i0"]}
WRONG = {"action": "recommend", "shown": ["i1"], "ranking": ["i1", "i2", "i3", "i0"]}
ASKED_WELL = {"action": "ask", "ranking": []}
ASKED_BADLY = {"action": "ask", "ranking": ["i0"]}
UNKNOWN = {"action": "ask"}


def turns(*rows: dict) -> dict:
    return {"turns": [{"turn": n, **row} for n, row in enumerate(rows, start=1)]}


def test_dsr_judges_the_would_be_list_and_both_ways_of_averaging_differ(tmp_path):
    episodes = [
        turns(RIGHT, WRONG, ASKED_WELL, ASKED_BADLY),
        turns(RIGHT, {"action": "chat"}),
        {"blame": "agent", **turns(WRONG)},
        turns(RIGHT, UNKNOWN),
        turns(),
    ]
    pooled = value(tmp_path / "p", "dsr_pooled@5", *episodes)
    assert (pooled.mean, pooled.episodes) == (pytest.approx(3 / 6), 3)
    shares = value(tmp_path / "d", "dsr_dialogue@5", *episodes)
    assert (shares.mean, shares.episodes) == (pytest.approx((0.5 + 1 + 0) / 3), 3)
    first = value(tmp_path / "f", "dsr_pooled@1", *episodes)
    assert (first.mean, first.episodes) == (pytest.approx(3 / 4), 4)  # the unknown one comes later


def test_hit_rate_is_undefined_not_0_without_a_tool(tmp_path):
    assert value(tmp_path / "none", "hr@50_turn", turns(RIGHT)).mean is None
    tool = turns(RIGHT, {"candidates": ["i1", "i0"]}, {"candidates": []})
    assert value(tmp_path / "turn", "hr@50_turn", tool, turns(RIGHT)).mean == 1 / 2
    assert value(tmp_path / "cut", "hr@1_turn", tool).mean == 0
    session = value(tmp_path / "session", "hr@2_session", tool, turns(RIGHT))
    assert (session.mean, session.episodes) == (1, 1)


def test_ranks_are_of_the_last_known_ranking_and_the_best_target(tmp_path):
    episode = turns({"ranking": ["i0"]}, {"ranking": ["i9", "i8", "i0", "i7"]}, {"shown": ["i0"]})
    both = {**episode, "targets": ["i7", "i0"]}
    assert value(tmp_path / "r3", "recall@3", both).mean == 1
    assert value(tmp_path / "r2", "recall@2", both).mean == 0
    assert value(tmp_path / "n3", "ndcg@3", both).mean == pytest.approx(1 / math.log2(4))
    assert value(tmp_path / "n2", "ndcg@2", both).mean == 0
    assert value(tmp_path / "no", "recall@2", turns({"shown": ["i0"]})).mean is None


def test_a_deeper_metric_than_the_stored_lists_reads_the_exact_rank(tmp_path):
    """The lists are 2 deep: what the sweep's own metrics asked for."""
    built = Built(grid_of("a", backbones=["s"]), seeds=[0], case_ids=["u0", "u1", "u2", "u3"])
    stored = {"ranking": ["i8", "i9"], "ranked": 3000}
    for case_id, turn in {
        "u0": {**stored, "target_rank": 150},
        "u1": {**stored, "target_rank": 250},
        "u2": {**stored, "target_rank": None},
        "u3": {"ranking": ["i8", "i9"], "ranked": 120, "target_rank": None},
    }.items():
        built.episode(built.cells[0], case_id, 0, turns=[turn])
    table = make_table(Results.open(built.write(tmp_path)), ["recall@2", "recall@200", "ndcg@300"])
    means = [value.mean for value in table.rows[0].values]
    assert means == [0, 0.25, pytest.approx((1 / math.log2(151) + 1 / math.log2(251)) / 4)]
    assert (
        "rankings with fewer items than the metric reads, where a target that is not among them "
        "is missed: recall@200 (1 of 4), ndcg@300 (1 of 4)"
    ) in table.notes


def test_rankings_of_older_folders_are_whole_or_have_the_exact_rank(tmp_path):
    built = Built(grid_of("a", backbones=["s"]), seeds=[0], case_ids=["u0", "u1"])
    whole, cut = [f"i{n}" for n in range(150, -1, -1)], [f"j{n}" for n in range(100)]
    built.episode(built.cells[0], "u0", 0, turns=[{"ranking": whole}])  # no rank was stored
    built.episode(built.cells[0], "u1", 0, turns=[{"ranking": cut, "target_rank": 180}])
    table = make_table(Results.open(built.write(tmp_path)), ["recall@150", "recall@200"])
    assert [value.mean for value in table.rows[0].values] == [0, 1]
    assert [note for note in table.notes if "recall" in note] == [
        "rankings with fewer items than the metric reads, where a target that is not among them "
        "is missed: recall@200 (1 of 2)"
    ]


def test_recommendations_that_show_nothing_are_counted_among_recommendations(tmp_path):
    empty = {"action": "recommend", "extra": '{"empty_reason": "history"}'}
    found = value(tmp_path / "some", "empty_recommendations", turns(RIGHT, empty, UNKNOWN, empty))
    assert found.mean == pytest.approx(2 / 3)
    assert value(tmp_path / "none", "empty_recommendations", turns(UNKNOWN)).mean is None


CALLS = [
    {"role": "agent", "step": "decide", "thinking_tokens": 4},  # 10 + 5, the 4 are within the 5
    {"role": "agent.planner", "step": "plan", "input_tokens": 100},
    {"role": "agent.probe", "step": "decide", "input_tokens": 1000},
    {"role": "agents_other", "step": "decide", "input_tokens": 10_000},
    {"role": "user", "step": "reply", "input_tokens": 20},
]


@pytest.mark.parametrize(
    ("metric", "mean"),
    [
        ("tokens@agent", (15 + 105) / 2),
        ("tokens@agent:decide", 15 / 2),
        ("tokens@agent.planner", 105 / 2),
        ("tokens@agent.probe", 1005 / 2),
        ("tokens@user", 25 / 2),
        ("tokens@no_role", None),
        ("tokens@agent:nothing", None),
    ],
)
def test_tokens_are_counted_by_role_and_step_and_an_absent_one_is_undefined(tmp_path, metric, mean):
    found = value(tmp_path, metric, {"calls": CALLS}, {"calls": []})
    assert (found.mean, found.episodes) == (mean, 0 if mean is None else 2)


def test_tokens_are_undefined_where_a_server_counts_none(tmp_path):
    uncounted = {"input_tokens": None, "output_tokens": None}
    lost = {**uncounted, "finish_reason": None, "error_class": "Timeout"}
    assert value(tmp_path / "no", "tokens", {"calls": [uncounted]}).mean is None
    assert value(tmp_path / "lost", "tokens", {"calls": [{}, lost]}).mean == 15


def test_hdcg_by_hand(tmp_path):
    place_two = {"action": "recommend", "shown": ["i1", "i0"]}
    third = turns(ASKED_WELL, WRONG, place_two) | {"success_turn": 3}
    first = turns(RIGHT) | {"success_turn": 1}
    # In turn 3 at place 2: 1/log2(5) + (1/log2(4) - 1/log2(5)) / log2(3).
    gain = 1 / math.log2(5) + (1 / 2 - 1 / math.log2(5)) / math.log2(3)
    assert value(tmp_path / "one", "hdcg@15", third).mean == pytest.approx(gain)
    # In turn 1 at place 1: 1/log2(3) + 1/log2(2) - 1/log2(3) = 1.
    assert value(tmp_path / "first", "hdcg@15", first).mean == pytest.approx(1)
    failed = turns(WRONG)
    without = {"success_turn": 1, **turns(WRONG)}
    episodes = (third, first, failed, without, {"blame": "agent"}, {"blame": "user"})
    found = value(tmp_path / "all", "hdcg@15", *episodes)
    assert (found.mean, found.episodes) == (pytest.approx((gain + 1) / 5), 5)
    assert value(tmp_path / "cut", "hdcg@2", third, first).mean == pytest.approx(1 / 2)
