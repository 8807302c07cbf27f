"""The stages and the notes of a sweep's own plan."""

import io
import re

import pytest
from rich.console import Console

from runner.commands import plan as plan_command
from runner.driver.work import remaining
from runner.placement import cluster, groups
from runner.placement.groups import EngineNeeds, run_plan
from runner.placement.packing import Node
from tests.runner.placement.world import THREE
from tests.sweep_files import plan_of, write_sweep


def test_nothing_is_loaded_for_cells_whose_episodes_are_all_done(tmp_path, monkeypatch):
    plan = plan_of(write_sweep(tmp_path))
    assert len(plan.cells) == 4
    cells = [frozenset(c) for c in (("a", "u"), ("b", "u"), (), ("a",))]
    needs = EngineNeeds({s.key: s for s in THREE}, cells, {})
    monkeypatch.setattr(groups, "needs_of", lambda plan, cpu: needs)
    nodes = [Node("n", 2)]

    def done_but(cell):
        return {ref.id for ref in plan.episode_tasks() if ref.cell != cell}

    everything = run_plan(plan, nodes, cpu=False)
    assert set(everything.needs.specs) == {"a", "b", "u"}  # c is in no cell
    assert frozenset().union(*(part.cells for part in everything.stages)) == {0, 1, 2, 3}
    [part] = run_plan(plan, nodes, cpu=False, cells=remaining(plan, done_but(1)).cells).stages
    assert part.cells == {1}
    assert part.stage is not None
    assert set(part.stage.loads) == {"b", "u"}
    rest = run_plan(plan, nodes, cpu=False, cells=remaining(plan, done_but(2)).cells)
    assert (rest.needs.specs, [p.cells for p in rest.stages]) == ({}, [{2}])


@pytest.mark.parametrize("executor", ["ray", "local"])
@pytest.mark.parametrize("gpus", [(), (80.0,)])
def test_the_plan_says_what_dtype_a_cpu_computes_with(tmp_path, monkeypatch, executor, gpus):
    for where in (cluster, plan_command):
        monkeypatch.setattr(where, "gpu_memories", lambda: list(gpus))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    path = write_sweep(
        tmp_path,
        models={"tiny": {"backend": "vllm", "model": str(tmp_path / "model")}},
        roles={"user": "tiny"},
        grid={"agent": ["zero_shot"], "roles.agent": ["tiny"], "seed": [0]},
        run={"executor": executor},
    )
    screen = io.StringIO()
    plan_command.show_plan(
        path, [], gpus=(), as_json=False, console=Console(file=screen, width=200)
    )
    lines = [line for line in screen.getvalue().splitlines() if "dtype" in line]
    assert len(lines) == (0 if gpus else 1)
    assert all(re.match(r" *tiny: dtype auto is (float32|bfloat16): ", line) for line in lines)
