"""Short labels: as distinct as the long ones, and nothing is lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.metrics.core import parse_metric
from analysis.tables.labels import short_labels, with_short_labels
from analysis.tables.table import Table, TableRow, Value
from sweeps.grid import label

TOOLS = "recommender=sasrec(max_length=50, max_epochs=10), candidates=50"


def test_what_all_labels_of_a_name_share_is_said_once():
    found = short_labels(
        ["zero_shot", f"macrec({TOOLS})", f"af_irs({TOOLS})", f"af_irs({TOOLS}, llm2rs=false)"]
    )
    assert list(found.short.values()) == ["zero_shot", "macrec", "af_irs", "af_irs(llm2rs=false)"]
    assert found.left_out == [f"macrec, af_irs ({TOOLS})"]


def test_what_is_shared_within_a_mapping_is_said_once_too():
    found = short_labels(
        ["rso(planner=(stage=rl, sft=(lr=1)), a=2)", "rso(planner=(stage=sft, sft=(lr=1)), a=2)"]
    )
    assert list(found.short.values()) == ["rso(planner=(stage=rl))", "rso(planner=(stage=sft))"]
    assert found.left_out == ["rso (a=2, planner=(sft=(lr=1)))"]
    whole = (
        ["rso(planner=(stage=rl))", "rso(planner=(stage=rl, x=1))"],
        ["rso(p=(x=1))", "rso(p=1)"],
    )
    for labels in whole:
        assert short_labels(labels) == ({label: label for label in labels}, [])


def test_an_option_that_some_lack_or_have_otherwise_stays():
    found = short_labels(["react(max_thoughts=1, a=2)", "react(max_thoughts=2, a=2)", "react(a=2)"])
    assert list(found.short.values()) == ["react(max_thoughts=1)", "react(max_thoughts=2)", "react"]
    assert found.left_out == ["react (a=2)"]


@pytest.mark.parametrize(
    "odd", ["", "x(y)", "a (b=1", "a(b=1)c", "a(b=1))", "a(b=(1)", "()", "a()", "a(b=1, b=1)", "["]
)
def test_a_label_that_is_written_otherwise_stays_as_it_is(odd):
    assert short_labels([odd]) == ({odd: odd}, [])


VALUES = st.recursive(
    st.booleans() | st.integers(0, 3) | st.text("ab(=), ", max_size=4),
    lambda inner: st.fixed_dictionaries({"name": st.sampled_from("pq")}, optional={"x": inner}),
    max_leaves=4,
)
PLUGINS = st.fixed_dictionaries(
    {"name": st.sampled_from(["n", "m"])}, optional={"a": VALUES, "b": VALUES, "c": VALUES}
)


@given(st.lists(st.one_of(PLUGINS.map(label), st.text("ab(=), ", max_size=8)), max_size=6))
def test_different_labels_stay_different_and_every_option_is_shown_or_left_out(labels):
    found = short_labels(labels)
    assert set(found.short) == set(labels)
    assert len(set(found.short.values())) == len(set(labels))
    for full, short in found.short.items():
        assert len(short.replace(" ", "")) <= len(full)  # it has a space after each comma


def test_a_table_shows_short_labels_and_says_what_they_leave_out():
    value = Value(0.5, None, False, 4, 1)
    agents = [f"af_irs({TOOLS})", f"af_irs({TOOLS}, llm2rs=false)"]
    rows = [TableRow({"domain": "movielens(k_core=10)", "agent": a}, [value], 4, 4) for a in agents]
    found = with_short_labels(Table(["domain", "agent"], [parse_metric("sr@5")], rows, ["a note"]))
    assert [list(row.axes.values()) for row in found.rows] == [
        ["movielens", "af_irs"],
        ["movielens", "af_irs(llm2rs=false)"],
    ]
    assert found.notes == [
        f"left out above: domain movielens (k_core=10); agent af_irs ({TOOLS})",
        "a note",
    ]
