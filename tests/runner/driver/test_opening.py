"""Opening a folder: each step once, or again if it found damage; each fact worked out once."""

from __future__ import annotations

import io
from collections import Counter

import pytest
from rich.console import Console

from runner.driver import opening, repair, work
from runner.driver.run import run
from sweeps import identity
from sweeps.plan import Plan
from sweeps.storage.parts import PartDamaged
from tests.runner.reading import outcomes
from tests.sweep_files import write_sweep

GRID = {"agent": ["zero_shot"], "roles.agent": ["strong", "weak"], "seed": [0]}
STEPS = {
    "set aside": (opening, "set_aside"),
    "remove replaced": (opening, "remove_replaced"),
    "describe": (opening, "make_manifest"),
    "find work": (work, "find_settled"),
    "merge": (repair, "compact"),
}


@pytest.fixture
def ran(tmp_path):
    """Runs a sweep of 8 episodes, and again with overrides; what it printed."""
    path = write_sweep(tmp_path, grid=GRID)

    def of(*overrides):
        console = Console(file=io.StringIO(), width=200)
        assert run(path, overrides, accept_source_change=False, console=console).left == 0
        return console.file.getvalue()

    of()
    return of


def count_steps(patch, *, damaged_at=None, part=None):
    """Counts how often each step is done; the first time at `damaged_at`, `part` is damaged."""
    counts = Counter()

    def counted(step, do):
        def done(*given, **named):
            counts[step] += 1
            if step == damaged_at and counts[step] == 1:
                raise PartDamaged(given[0], part, "is damaged")
            return do(*given, **named)

        return done

    for step, (where, name) in STEPS.items():
        patch.setattr(where, name, counted(step, getattr(where, name)))
    return counts


@pytest.mark.parametrize("step", ["remove replaced", "describe", "find work"])
def test_damage_found_in_one_step_repeats_that_step_alone(ran, tmp_path, monkeypatch, step):
    before = outcomes(tmp_path / "out")
    [part] = (tmp_path / "out" / "episodes").glob("*.parquet")
    counts = count_steps(monkeypatch, damaged_at=step, part=f"episodes/{part.name}")
    said = ran()
    assert f"{part} is damaged; renamed it to episodes/{part.name}.damaged" in said
    assert "8 episodes, 8 to run" in said
    assert outcomes(tmp_path / "out") == before
    once = dict.fromkeys(STEPS, 1)
    assert counts == {**once, step: 2}


def test_damage_found_when_parts_of_a_finished_sweep_are_merged_repeats_only_what_it_changed(
    ran, tmp_path, monkeypatch
):
    [part] = (tmp_path / "out" / "episodes").glob("*.parquet")
    counts = count_steps(monkeypatch, damaged_at="merge", part=f"episodes/{part.name}")
    assert "8 episodes, 8 to run" in ran()
    # Merged again at once, and at the end; what is left is other than before.
    assert counts == {**dict.fromkeys(STEPS, 1), "find work": 2, "merge": 3}


def test_a_plan_is_walked_once_if_finished_and_once_more_to_lease_what_is_left(ran, monkeypatch):
    hashed, walked = [], []
    episode_id, refs = identity.episode_id, Plan.single_tasks

    def counted(*given):
        hashed.append(given)
        return episode_id(*given)

    def listed(*given):
        walked.append(given)
        return refs(*given)

    monkeypatch.setattr(identity, "episode_id", counted)
    monkeypatch.setattr(Plan, "single_tasks", listed)
    assert "nothing to do" in ran()
    assert (len(hashed), len(walked)) == (8, 1)
    assert "12 episodes, 8 done, 4 to run" in ran("cases.sample=6")
    assert (len(hashed) - 8, len(walked) - 1) == (24, 2)
