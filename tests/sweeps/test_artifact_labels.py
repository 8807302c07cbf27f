"""Titles of artifacts name the settings in which they differ, and no others."""

import pytest

from sweeps.artifact_labels import differences
from tests.sweep_files import plan_of, write_sweep

PREPARED = {"name": "latentcrs", "window_users": 5, "validation_users": 5}


def titles(tmp_path, **changes):
    given = {
        "domain": {"name": "synthetic", "items": 60, "users": 20},
        "models": {"m": {"backend": "rules"}, "n": {"backend": "rules", "skill": 0.5}},
        "roles": {"user": "m", "agent": "m"},
        "agent": PREPARED,
        "cases": {"sample": 3},
        **changes,
    }
    return [a.title for a in plan_of(write_sweep(tmp_path, **given)).artifacts.values()]


def test_what_more_than_half_have_is_not_named():
    one, two = {("a", "x"): "1", ("a", "y"): "2"}, {("a", "x"): "1", ("a", "y"): "3"}
    assert differences([one, one, two]) == ["", "", "y=3"]
    assert differences([one, two]) == ["y=2", "y=3"]
    assert differences([one, {("a", "x"): "1"}, {("a", "x"): "1"}]) == ["y=2", "", ""]


def test_a_name_is_as_long_as_it_must_be():
    one = {("a", "lr"): "1", ("b", "lr"): "3", ("c", "recommender", "name"): "sasrec"}
    two = {("a", "lr"): "2", ("b", "lr"): "2", ("c", "recommender", "name"): "iclrec"}
    assert differences([one, two]) == [
        "a.lr=1, b.lr=3, recommender=sasrec",
        "a.lr=2, b.lr=2, recommender=iclrec",
    ]


def test_what_several_parts_share_is_named_once():
    one, two = {("a", "x"): "1", ("x",): "1"}, {("a", "x"): "2", ("x",): "2"}
    assert differences([one, two]) == ["x=1", "x=2"]


def test_one_setting_alone_changes_no_title(tmp_path):
    assert "latentcrs on synthetic, seed 0" in titles(tmp_path, grid={"seed": [0, 1]})


@pytest.mark.parametrize(
    ("axis", "values", "expected"),
    [
        ("agent.recommender", ["item_knn", "popularity"], "latentcrs (recommender={})"),
        ("roles.agent.encoder", ["m", "n"], "latentcrs (agent.encoder={})"),
        ("domain.users", [20, 30], "latentcrs (users={})"),
    ],
)
def test_what_an_input_is_made_with_counts_too(tmp_path, axis, values, expected):
    found = titles(tmp_path, grid={axis: values})
    assert len(set(found)) == len(found)
    for value in values:
        assert f"{expected.format(value)} on synthetic, seed 0" in found
