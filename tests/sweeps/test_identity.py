"""What makes two episodes the same, and what does not."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.core.errors import DataError
from agents.core.seeds import Seeds
from simulators.domains.synthetic import Synthetic
from sweeps import identity
from tests.sweep_files import BASE, plan_of, write_sweep


def ids(path, *overrides) -> set[str]:
    return {ref.id for ref in plan_of(path, *overrides).episode_tasks()}


def test_ids_are_the_same_for_what_no_dialogue_can_observe(tmp_path):
    path = write_sweep(tmp_path)
    before = ids(path)
    renamed = write_sweep(
        tmp_path,
        name="renamed.yaml",
        models={"clever": BASE["models"]["strong"], "simple": BASE["models"]["weak"]},
        roles={"user": "clever", "agent.planner": "simple"},
        grid={**BASE["grid"], "roles.agent": ["clever", "simple"]},
    )
    assert ids(renamed) == before
    same = [
        "name=other",
        "out=elsewhere",
        "metrics=[dsr_pooled@5, sr@2]",
        "run.concurrency=64",
        "run.executor=ray",
        "retries.episode=0",
        "max_failed=0.05",
        "caps.tokens=100",
        "models.strong.price={input: 1, output: 2.5}",
        "simulator.decides=model",
        "limits.max_turns=5",
        "roles.agent.planner=weak",
        "cases.sample_seed=0",
    ]
    for override in same:
        assert ids(path, override) == before, override


def test_ids_change_with_what_a_dialogue_can_observe(tmp_path):
    path = write_sweep(tmp_path)
    before = ids(path)
    other = [
        "simulator.decides=rule",
        "simulator.max_facts=2",
        "limits.max_turns=4",
        "limits.shown_items=3",
        "limits.episode_tokens=500",
        "success=target_in_shown",
        "models.strong.skill=0.8",
        "domain.items=121",
        "cases.split=validation",
    ]
    for override in other:
        assert not ids(path, override) & before, override


def test_seeds_may_be_an_axis_as_a_whole(tmp_path):
    path = write_sweep(
        tmp_path, grid={"agent": ["zero_shot"]}, roles={"user": "weak", "agent": "weak"}
    )
    seeds = '[{"sampling": 1, "training": 2}, {"sampling": 3}]'
    (cell,) = plan_of(path, f"grid.seeds={seeds}").cells
    assert cell.seeds == (Seeds(1, 2, 0), Seeds(3, 0, 0))


def test_the_order_can_follow_the_seed(tmp_path):
    agent = {"name": "tests.remembering_agent"}
    forgets = {**agent, "remembers": False}
    grid = {"agent": [agent, forgets], "seed": [0, 7]}
    path = write_sweep(
        tmp_path, grid=grid, roles={"user": "weak", "agent": "weak"}, seeds={"order": "seed"}
    )
    first, second = plan_of(path).cells
    assert first.seeds == (Seeds(0, 0, 0), Seeds(7, 7, 7))
    assert second.seeds == (Seeds(0, 0, 0), Seeds(7, 7, 0))
    path = write_sweep(
        tmp_path, grid={**grid, "agent": [forgets]}, roles={"user": "weak", "agent": "weak"},
        seeds={"order": "seed"},
    )  # fmt: skip
    assert plan_of(path).cells[0].seeds == second.seeds


def test_a_larger_sample_keeps_the_smaller_one(tmp_path):
    path = write_sweep(tmp_path)
    few, many = ids(path, "cases.sample=4"), ids(path, "cases.sample=20")
    assert few < many
    assert len(many) == 5 * len(few)


def test_another_option_of_one_agent_changes_its_cells_alone(tmp_path):
    path = write_sweep(tmp_path)
    grid = {**BASE["grid"], "agent": ["zero_shot", {"name": "react", "max_thoughts": 3}]}
    changed = write_sweep(tmp_path, name="changed.yaml", grid=grid)
    assert len(ids(path) & ids(changed)) == len(ids(path)) // 2


def test_other_prompts_change_the_cells_that_use_them(tmp_path):
    import shutil

    copied = tmp_path / "prompts"
    shutil.copytree("agents/zero_shot/prompts", copied)
    agents = ["zero_shot", {"name": "zero_shot", "prompts": str(copied)}]
    path = write_sweep(tmp_path, grid={**BASE["grid"], "agent": agents})
    assert len(plan_of(path).cells) == 2  # the same prompts elsewhere: the same cells
    (copied / "ask.md.j2").write_text("Ask. {{ reply_form }}")
    assert len(plan_of(path).cells) == 4


def test_points_that_differ_in_nothing_observable_run_once(tmp_path):
    grid = {"agent": ["zero_shot"], "roles.agent": ["strong"], "limits.max_turns": [5], "seed": [0]}
    path = write_sweep(tmp_path, grid=None, grids=[grid, {**grid, "seed": [0, 1]}])
    plan = plan_of(path)
    assert len(plan.cells) == 1
    assert [s.sampling for s in plan.cells[0].seeds] == [0, 1]


def test_episodes_come_in_blocks_of_one_case_across_all_cells_and_seeds(tmp_path):
    plan = plan_of(write_sweep(tmp_path))
    refs = list(plan.episode_tasks())
    assert len(refs) == plan.episodes == 32
    blocks = [refs[i : i + 8] for i in range(0, 32, 8)]
    assert all(len({r.spec.case_id for r in block}) == 1 for block in blocks)
    assert len({r.id for r in refs}) == 32


def test_what_is_done_is_not_planned_again(tmp_path):
    plan = plan_of(write_sweep(tmp_path))
    refs = list(plan.episode_tasks())
    done = {r.id for r in refs[::2]}
    assert list(plan.episode_tasks(done)) == refs[1::2]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(max_size=8),
    lambda below: (
        st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=4), below, max_size=3)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=4), JSON, max_size=4))
def test_the_order_of_keys_never_matters(value):
    backwards = dict(reversed(value.items()))
    assert identity.digest(value) == identity.digest(backwards)


@given(JSON, JSON)
def test_different_values_have_different_digests(first, second):
    same = identity.canonical(first) == identity.canonical(second)
    assert (identity.digest(first) == identity.digest(second)) == same


def test_episode_ids_tell_case_and_every_seed_apart():
    made = {
        identity.episode_id("c", case, Seeds(*seeds))
        for case in ("u1", "u2")
        for seeds in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))
    }
    assert len(made) == 8


@given(st.sets(st.text(max_size=6), max_size=30), st.integers(0, 99))
def test_the_sample_does_not_depend_on_the_order_of_the_data(cases, seed):
    there = sorted(cases)
    back = there[::-1]
    order = [there[i] for i in identity.sample_order(there, seed)]
    assert order == [back[i] for i in identity.sample_order(back, seed)]
    assert sorted(order) == there


@pytest.mark.parametrize("odd", ["half \ud83d", 7, None])
def test_a_case_id_that_no_file_can_hold_is_refused_before_anything_starts(
    tmp_path, monkeypatch, odd
):
    ids = Synthetic.case_ids
    monkeypatch.setattr(Synthetic, "case_ids", lambda *given: [*ids(*given), odd])
    with pytest.raises(DataError, match=re.escape(f"a case has the id {odd!r}")):
        plan_of(write_sweep(tmp_path))
