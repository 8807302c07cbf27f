import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.core.errors import UsageError
from sweeps import grid

AXES = st.dictionaries(
    st.sampled_from(["agent", "roles.agent", "seed", "limits.max_turns"]),
    st.lists(st.integers(0, 9), min_size=1, max_size=4, unique=True),
    max_size=4,
)


@given(AXES)
def test_a_block_has_the_product_of_its_axes_each_point_once(block):
    found = list(grid.points([block]))
    assert len(found) == math.prod(len(v) for v in block.values())
    assert len({tuple(sorted(p.items())) for p in found}) == len(found)
    assert all(p[axis] in values for p in found for axis, values in block.items())


@given(AXES, AXES)
def test_blocks_are_a_union_in_order(first, second):
    assert list(grid.points([first, second])) == [*grid.points([first]), *grid.points([second])]


@given(AXES, st.dictionaries(st.sampled_from(["agent", "seed"]), st.integers(0, 9), min_size=1))
def test_exclude_drops_exactly_the_points_that_match_in_all_it_names(block, entry):
    everything = list(grid.points([block]))
    matching = [p for p in everything if all(p.get(k) == v for k, v in entry.items())]
    if matching:
        kept = list(grid.points([block], exclude=[entry]))
        assert kept == [p for p in everything if p not in matching]
    else:
        with pytest.raises(UsageError, match="no point of the grid matches"):
            list(grid.points([block], exclude=[entry]))


def test_paths_find_roles_and_models_whose_names_hold_dots():
    config = {"roles": {"agent": "a"}, "models": {"w1.5": {"skill": 1}, "w1": {"skill": 2}}}
    planner = grid.put(config, "roles.agent.planner", "b")
    assert planner["roles"] == {"agent": "a", "agent.planner": "b"}
    assert grid.get(planner, "roles.agent.planner") == "b"
    assert grid.put(config, "models.w1.5.skill", 3)["models"]["w1.5"] == {"skill": 3}
    assert grid.put(config, "models.w1.skill", 3)["models"]["w1"] == {"skill": 3}
    assert grid.get(config, "models.w1.5.skill") == 1


def test_zipped_lists_advance_together_and_multiply_with_the_rest():
    found = list(grid.points([{"seed": [0, 1]}], [{"a": [1, 2], "b": [3, 4]}]))
    assert found == [
        {"seed": 0, "a": 1, "b": 3},
        {"seed": 0, "a": 2, "b": 4},
        {"seed": 1, "a": 1, "b": 3},
        {"seed": 1, "a": 2, "b": 4},
    ]


def test_zipped_lists_of_different_length_and_double_axes_are_refused():
    with pytest.raises(UsageError, match="the same length"):
        list(grid.points([{}], [{"a": [1], "b": [1, 2]}]))
    with pytest.raises(UsageError, match="twice"):
        list(grid.points([{"a": [1]}], [{"a": [1]}]))


def test_exclude_finds_a_plugin_with_options_by_its_name():
    block = {"agent": ["zero_shot", {"name": "react", "max_thoughts": 2}]}
    assert list(grid.points([block], exclude=[{"agent": "react"}])) == [{"agent": "zero_shot"}]


def test_expansion_is_lazy():
    many = {f"axis{i}": list(range(10)) for i in range(12)}
    first = next(grid.points([many]))
    assert first == dict.fromkeys(many, 0)


def test_labels_read_like_calls():
    assert grid.label({"name": "react", "max_thoughts": 2}) == "react(max_thoughts=2)"
    assert grid.label({"name": "react"}) == "react"
    assert [grid.label(v) for v in (True, None, 0.5, "x")] == ["true", "null", "0.5", "x"]


def test_put_copies_only_what_changes_and_gives_a_bare_plugin_room_for_options():
    config = {"simulator": "target_item", "limits": {"max_turns": 5}, "kept": {"x": 1}}
    changed = grid.put(config, "simulator.max_facts", 2)
    assert changed["simulator"] == {"name": "target_item", "max_facts": 2}
    assert changed["kept"] is config["kept"]
    assert config["simulator"] == "target_item"
    assert grid.get(grid.put(config, "limits.max_turns", 3), "limits.max_turns") == 3
