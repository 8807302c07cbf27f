"""Replies that were cut off, and counts that cannot be."""

from __future__ import annotations

import pytest

from agents.core.calls import MOST_TOKENS
from analysis.replies import cut_off_lines, uncounted
from analysis.results import Results
from analysis.tables.table import make_table
from tests.analysis.builder import Built, grid_of

CUT = {"finish_reason": "length", "output_tokens": 512, "valid": False}
LOST = {"finish_reason": None, "input_tokens": None, "output_tokens": None}


def results(folder, *calls: dict, **manifest) -> Results:
    built = Built(grid_of("a", backbones=["s"]), seeds=[0], case_ids=["u0"])
    built.episode(built.cells[0], "u0", 0, calls=calls)
    return Results.open(built.write(folder, **manifest))


def config(limit: int | None) -> dict:
    return {"models": {"strong": {"backend": "openai", "sampling": {"max_tokens": limit}}}}


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        ({}, "max_tokens (model strong), the longest of them after 512 tokens"),
        (
            {"config": config(512)},
            "max_tokens 512 (model strong), the longest of them after 512 tokens",
        ),
        (
            {"config": config(2048)},
            "max_tokens 2,048 (model strong), the longest of them after 512 tokens: the server has "
            "a lower limit, or its context was full",
        ),
        (
            {"config": config(None)},
            "max_tokens (model strong), the longest of them after 512 tokens",
        ),
    ],
)
def test_replies_that_were_cut_off_are_counted_by_model(tmp_path, manifest, words):
    calls = [CUT, {**CUT, "output_tokens": 17}, {}, {"model": "weak"}, LOST]
    assert cut_off_lines(results(tmp_path, *calls, **manifest)) == [
        f"2 of 3 replies were cut off at {words}"
    ]


def test_a_server_without_counts_says_nothing_of_lengths(tmp_path):
    calls = [{**CUT, "output_tokens": None}, {"finish_reason": "content_filter"}]
    assert cut_off_lines(results(tmp_path, *calls)) == [
        "1 of 2 replies was cut off at max_tokens (model strong)"
    ]


def test_nothing_is_said_where_nothing_was_cut(tmp_path):
    assert cut_off_lines(results(tmp_path, {}, LOST)) == []


OLD = {"input_tokens": -27, "output_tokens": 5}


def test_impossible_counts_of_an_old_folder_are_as_unknown_as_missing_ones(tmp_path):
    large = {"input_tokens": 5, "output_tokens": 2**31 - 1}
    found = results(tmp_path, OLD, large, {}, {"output_tokens": None}, LOST)
    assert uncounted(found) == 3
    table = make_table(found, ["tokens", "tokens@agent"])
    assert [value.mean for value in table.rows[0].values] == [None, None]
    assert "tokens is defined for 0 of 1 episodes" in table.notes


def test_large_counts_add_up(tmp_path):
    most = MOST_TOKENS
    found = results(tmp_path, *[{"input_tokens": most, "output_tokens": most}] * 30)
    assert make_table(found, ["tokens"]).rows[0].values[0].mean == 60 * most
