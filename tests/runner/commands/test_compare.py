"""What `crsweep compare` and `crsweep power` print, ordinary results and others."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence

import pytest

from agents.core.errors import UsageError
from analysis.results import Results
from analysis.statistics.compare import compare_all, trained_apart
from runner.commands.compare import show_comparison
from runner.commands.power import show_power
from tests.analysis.builder import Built, Cell, grid_of
from tests.runner.commands.test_results import printed, screen
from tests.sweep_files import write_sweep

Outcome = Callable[[Cell, str, int], int | None]  # the turn of success


def sweep(folder, outcome: Outcome, *, cases=20, agents="ab", seeds=(0, 1, 2), skip=()) -> str:
    built = Built(
        grid_of(*agents, backbones=["m"]),
        seeds=list(seeds),
        case_ids=[f"u{n}" for n in range(cases)],
    )
    for cell in built.cells:
        for case_id in built.case_ids:
            for seed in built.seeds:
                if (cell.axes["agent"], case_id, seed) in skip:
                    built.failed(cell, case_id, seed, "infrastructure")
                else:
                    built.episode(cell, case_id, seed, success_turn=outcome(cell, case_id, seed))
    return str(built.write(folder))


def often(**chances: float) -> Outcome:
    rng = random.Random(7)
    return lambda cell, *_: 2 if rng.random() < chances[cell.axes["agent"]] else None


def compared(folder: str, *metrics: str, baseline: str | None = None) -> list[str]:
    console = screen()
    show_comparison(folder, axis="agent", metrics=metrics, baseline=baseline, console=console)
    return printed(console).splitlines()


def powers(what, *, metrics: Sequence[str] = (), detect=None, sd=None, share=0.5, axis=None):
    console = screen()
    show_power(
        str(what), axis=axis, metrics=metrics, detect=detect, deviation=sd, share=share,
        overrides=(), console=console,
    )  # fmt: skip
    return printed(console).splitlines()


def test_a_rate_has_newcombes_interval_its_effects_and_what_is_tied(tmp_path):
    folder = sweep(tmp_path, often(a=0.9, b=0.3, c=0.35), agents="abc", cases=30)
    verdict, *lines = compared(folder)
    assert verdict == "sr@5: best is a; no other value is tied with it"
    assert re.match(
        r"sr@5: agent a - b = \+0\.\d{3}, 95 % interval \[\+.*\] \(Newcombe, 30 cases\), "
        r"p = 0.0001, Holm 0.000\d \(sign flips over cases\)",
        lines[0],
    )
    assert re.search(
        r"against 0\.\d+, d_z \+\d.*, Cohen's h \+1\..*, bootstrap over cases", lines[1]
    )
    assert "variance of a pair's difference: case" in lines[2]
    verdict, *other = compared(folder, "at_fail_plus_1")
    assert "(t over cases, 30 cases)" in other[0]
    assert "bootstrap over cases [" in other[1]
    assert "best is a" in verdict  # where fewer turns are better


def test_values_that_no_test_separates_from_the_best_are_tied(tmp_path):
    lines = compared(sweep(tmp_path, often(a=0.5, b=0.5), cases=10))
    assert re.search(r"best is [ab]; tied with it .*: [ab]$", lines[0])
    assert not any("best is" in line for line in compared(str(tmp_path), baseline="a"))


def test_success_by_a_turn_that_no_dialogue_has_is_noted(tmp_path):
    folder = sweep(tmp_path, often(a=0.5, b=0.5), cases=10)
    note = "sr@9: dialogues end after 5 turns, so this is the value at 5"
    assert note in compared(folder, "sr@9")
    assert note in powers(folder, metrics=["sr@9"])
    assert not any("dialogues end" in line for line in compared(folder))


def test_missing_episodes_are_counted_and_what_they_could_change_is_said(tmp_path):
    def a_wins(cell, *_):
        return 1 if cell.axes["agent"] == "a" else None

    safe = sweep(tmp_path / "safe", a_wins, skip=[("a", "u0", 0)])
    assert any(
        line.startswith("  59 of 60 planned pairs of episodes; difference if the missing ones all ")
        and line.endswith("failed +0.983, if they all succeeded +1.000: the conclusion is the same")
        for line in compared(safe)
    )
    lost = [("a", f"u{n}", seed) for n in range(8) for seed in (0, 1, 2)]
    shaky = sweep(
        tmp_path / "shaky",
        lambda cell, case, _: 1 if cell.axes["agent"] == "a" and int(case[1:]) % 2 else None,
        skip=lost,
    )
    (line,) = (line for line in compared(shaky) if "planned pairs" in line)
    assert line.startswith("  36 of 60")
    (found,) = compare_all(Results.open(shaky), ["sr@5"], "agent").found
    # a has 6 of 12 known cases; b none of 20.
    assert found.bounds is not None
    assert (found.bounds.if_failed, found.bounds.if_succeeded) == pytest.approx((0.3, 0.7))


def test_failures_by_the_agent_are_no_missing_episodes(tmp_path):
    built = Built(grid_of("a", "b", backbones=["m"]), seeds=[0])
    for cell in built.cells:
        for case_id in built.case_ids:
            if cell.axes["agent"] == "a":
                built.failed(cell, case_id, 0, "agent")
            else:
                built.episode(cell, case_id, 0, success_turn=1)
    (found,) = compare_all(Results.open(built.write(tmp_path)), ["sr@5"], "agent").found
    assert (found.difference, found.counted, found.planned, found.bounds) == (-1, 4, 4, None)


def test_power_is_also_that_of_each_group_of_users(tmp_path):
    built = Built(grid_of("a", "b", backbones=["m"]), case_ids=[f"u{n}" for n in range(9)])
    built.groups = {f"u{n}": ["Active" if n < 6 else "Passive"] for n in range(9)}
    for cell in built.cells:
        for case_id in built.case_ids:
            for seed in built.seeds:
                won = cell.axes["agent"] == "a" and (int(case_id[1]) + seed) % 3 > 0
                built.episode(cell, case_id, seed, success_turn=1 if won else None)
    console = screen()
    show_power(
        str(built.write(tmp_path)), axis=None, metrics=[], detect=None, deviation=None, share=0.5,
        overrides=[], console=console, by=["openness"],
    )  # fmt: skip
    lines = printed(console).splitlines()
    assert "0.05 / 3 (Bonferroni" in lines[0]  # Active, Passive and both
    assert lines[1].startswith("sr@5[Active]: a - b: 6 cases x 3 seeds detect a difference of ")
    # Three cases detect nothing that a rate can differ by.
    assert any(
        line.startswith("sr@5[Passive]: a - b: 3 cases") and "cannot detect" in line
        for line in lines
    )
    assert any(line.startswith("sr@5[overall_pooled]: a - b: 9 cases") for line in lines)


def test_agents_trained_apart_are_compared_by_seed_too(tmp_path):
    rng = random.Random(3)
    built = Built(grid_of("a", "b", backbones=["m"]), case_ids=[f"u{n}" for n in range(30)])
    for cell in built.cells:
        trained = cell.axes["agent"] == "a"
        for case_id in built.case_ids:
            for seed in built.seeds:
                built.episode(
                    cell, case_id, seed, success_turn=1 if rng.random() < 0.5 else None,
                    artifacts=[("item_knn", f"digest {seed if trained else 0}")],
                )  # fmt: skip
    folder = str(built.write(tmp_path))
    results = Results.open(folder)
    assert trained_apart(results) == {0}
    (found,) = compare_all(results, ["sr@5"], "agent").found
    assert (found.shared, found.few_seeds, found.test) == (True, True, "two-way t")
    _, *lines = compared(folder)
    assert "] ! (two-way t, 30 cases)" in lines[0]
    assert any(line.startswith("! trained components differ between seeds") for line in lines)


def test_one_seed_and_one_case_are_said_to_be_one(tmp_path):
    lines = compared(sweep(tmp_path / "seed", often(a=0.9, b=0.4), seeds=[0]))
    assert any("one seed: variance between cases" in line for line in lines)
    _, *lines = compared(sweep(tmp_path / "case", often(a=1, b=0), cases=1))
    assert "(Newcombe, 1 case), p = 1.0000" in lines[0]
    (_, line, *_) = compared(str(tmp_path / "case"), "at_fail_t")
    assert "95 % interval n/a (t over cases, 1 case)" in line


def test_all_failed_and_nothing_varied(tmp_path):
    _, *lines = compared(sweep(tmp_path, often(a=0, b=0)))
    assert lines[0].startswith("sr@5: agent a - b = +0.000, 95 % interval [-0.161, +0.161]")
    assert "0.000 against 0.000, Cohen's h +0.00" in lines[1]


def test_without_a_common_value_there_is_one_clear_line(tmp_path):
    empty = Built(grid_of("a", "b")).write(tmp_path / "empty")
    with pytest.raises(UsageError, match=r"^no case has sr@5 for both agent=a and b$"):
        compared(str(empty))
    lacking = "cells that have nothing finished under some seed are left out"
    none_yet = "comparisons use cases that every cell and seed has finished, and there is none yet"
    # Cell b has no episode of seed 0, or each case under one seed alone.
    for skipped, why in (
        (lambda case, seed: seed == 0, lacking),
        (lambda case, seed: case % 3 != seed, none_yet),
    ):
        partly = Built(grid_of("a", "b", backbones=["m"]))
        for cell in partly.cells:
            for case, case_id in enumerate(partly.case_ids):
                for seed in partly.seeds:
                    if cell.cell_id == "a/m" or not skipped(case, seed):
                        partly.episode(cell, case_id, seed)
        with pytest.raises(UsageError, match=why):
            compared(str(partly.write(tmp_path / why[:5])))
    finished = sweep(tmp_path / "nan", often(a=1, b=0))
    with pytest.raises(UsageError, match="no case has hr@50_turn"):
        compared(finished, "hr@50_turn")
    lines = compared(finished, "sr@5", "hr@50_turn")
    assert "no case has hr@50_turn for both agent=a and b" in lines


def test_power_of_results_says_what_is_found_and_needed(tmp_path):
    folder = sweep(tmp_path, often(a=0.6, b=0.4), cases=40)
    lines = powers(folder, detect=0.05)
    assert lines[0].startswith("axis agent: power of a ")
    assert lines[0].endswith("at level 0.05; target 0.8")
    assert re.match(
        r"sr@5: a - b: 40 cases x 3 seeds detect a difference of 0\.\d{4}; 0.05 is detected "
        r"with power 0\.\d\d; a power of 0\.8 needs [\d,]+ cases at 3 seeds"
        r"(, or [\d,]+ seeds at 40 cases|; with 40 cases, no number of seeds is enough)$",
        lines[1],
    )
    with pytest.raises(UsageError, match="above 0"):
        powers(folder, detect=-1)
    with pytest.raises(UsageError, match="sweep file"):
        show_power(
            folder, axis=None, metrics=(), detect=None, deviation=None, share=0.5,
            overrides=["a=1"], console=screen(),
        )  # fmt: skip


def test_power_of_one_seed_says_what_it_does_not_know(tmp_path):
    lines = powers(sweep(tmp_path, often(a=0.6, b=0.4), seeds=[0]))
    assert any("gain from more seeds is unknown" in line for line in lines)


def test_power_of_results_that_never_differ_is_unknown(tmp_path):
    always = {
        "same": lambda *_: 2,
        "apart": lambda cell, *_: 2 if cell.axes["agent"] == "a" else None,
    }
    for name, outcome in always.items():
        text = " ".join(powers(sweep(tmp_path / name, outcome), detect=0.03))
        assert "the difference is the same in every case, so how much it varies is unknown" in text
    assert "is detected with power" not in text


def test_power_before_anything_has_run_needs_a_spread(tmp_path):
    path = write_sweep(tmp_path)
    lines = powers(path, sd=0.5, detect=0.1)
    assert "standard deviation 0.5; 50 % of its variance is between cases" in lines[1]
    assert lines[3].startswith("smallest difference")
    assert re.split(r" {2,}", lines[4].strip())[1:] == ["1 seed", "3 seeds", "5 seeds", "10 seeds"]
    assert "800" in lines[-1]
    for bad in ({"sd": 0.0}, {"sd": 0.5, "share": 2}):
        with pytest.raises(UsageError, match="expected"):
            powers(path, **bad)
    with pytest.raises(UsageError, match="no axis 'agnt'"):
        powers(path, sd=0.5, axis="agnt")
    with pytest.raises(UsageError, match="found the file"):
        powers(path)


def test_groups_of_users_are_compared_apart(tmp_path):
    names = [f"u{n}" for n in range(20)]
    groups = {name: ["Active" if n % 2 else "Passive"] for n, name in enumerate(names)}
    built = Built(grid_of("a", "b", backbones=["m"]), case_ids=names, groups=groups)
    for cell in built.cells:
        for case_id in names:
            for seed in built.seeds:
                won = cell.axes["agent"] == "a" and groups[case_id] == ["Active"]
                built.episode(cell, case_id, seed, success_turn=1 if won else None)
    console = screen()
    folder = str(built.write(tmp_path))
    show_comparison(
        folder, axis="agent", metrics=[], baseline=None, by=["openness"], console=console
    )
    lines = printed(console).splitlines()
    heads = {line.partition(":")[0]: line for line in lines if ": agent a - b" in line}
    assert "= +1.000" in heads["sr@5[Active]"] and "10 cases" in heads["sr@5[Active]"]
    assert "= +0.000" in heads["sr@5[Passive]"]
    assert "= +0.500" in heads["sr@5[overall_pooled]"]
