"""`crsweep power`: the cases and seeds that a difference needs, before or after a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from agents.core.errors import UsageError, near
from agents.core.plural import many
from analysis.metrics.core import by_group, groups_by, parse_metric
from analysis.results import Results
from analysis.statistics.compare import Comparison, compare_all
from analysis.statistics.components import Components
from analysis.statistics.power import (
    TARGET,
    cases_needed,
    detectable,
    of_spread,
    power,
    seeds_needed,
)
from analysis.statistics.scores import partners
from analysis.tables.labels import short_labels
from analysis.tables.table import metrics_of
from analysis.tables.table_notes import watermarks
from runner.driver.loading import load_plan
from sweeps.plan import Plan

_CASES, _SEEDS = (25, 50, 100, 200, 400, 800), (1, 3, 5, 10)


class _Design(NamedTuple):
    """The design of a test: cases, seeds, and the level `alpha` after correction."""

    cases: int
    seeds: int
    shared: bool
    alpha: float
    step: float
    """How much one dialogue can change its case's sum over seeds."""
    most: float | None = None
    """The largest difference that there is."""


def show_power(
    what: str,
    *,
    axis: str | None,
    metrics: Sequence[str],
    detect: float | None,
    deviation: float | None,
    share: float,
    overrides: Sequence[str],
    console: Console,
    by: Sequence[str] = (),
) -> None:
    """Power from the variances of finished results, or with `deviation` from an assumed one.

    With `by`, also within each group of users by these.
    """
    if detect is not None and detect <= 0:
        raise UsageError(f"--detect {detect}: expected a difference above 0, such as 0.03")
    if deviation is None:
        if overrides:
            raise UsageError("overrides need a sweep file, and a sweep file needs --sd")
        lines = _of_results(what, axis, metrics, detect, by)
    else:
        lines = _of_plan(what, deviation, share, detect, overrides, axis, by)
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)


def _of_results(
    folder: str,
    axis: str | None,
    metrics: Sequence[str],
    detect: float | None,
    by: Sequence[str],
) -> list[str]:
    results = Results.open(folder)
    if axis is None:
        axis = _only_axis(results)
    names = metrics or results.manifest.metrics[:1]
    names = by_group(names, by, compared=True) if by else names
    compared = compare_all(results, names, axis)
    labels = short_labels(
        label for found in compared.found for label in (found.first, found.second)
    )
    tests = len(compared.found)
    lines = [f"axis {axis}: {_preface(tests)}"]
    for found in compared.found:
        head = f"{found.metric}: {labels.short[found.first]} - {labels.short[found.second]}"
        if found.variance is None:
            lines.append(f"{head}: fewer than two cases have all seeds; power is unknown")
            continue
        if not found.variance.case and not found.variance.rest and not found.variance.seed:
            lines.append(
                f"{head}: the difference is the same in every case, so how much it varies is "
                "unknown; run more cases, or assume a standard deviation (--sd with the sweep file)"
            )
            continue
        design = _Design(
            found.cases,
            found.variance.seeds,
            found.shared,
            0.05 / tests,
            _step(results, found),
            _most(found.metric),
        )
        lines += [f"{head}: {line}" for line in _lines(found.variance, design, detect)]
        if found.variance.seeds == 1:
            lines.append(
                "  one seed: variance within a case counts as variance between cases, so the gain "
                "from more seeds is unknown"
            )
    return [*lines, *compared.notes, *watermarks(results)]


def _of_plan(
    sweep: str,
    deviation: float,
    share: float,
    detect: float | None,
    overrides: Sequence[str],
    axis: str | None,
    by: Sequence[str],
) -> list[str]:
    if deviation <= 0:
        raise UsageError(f"--sd {deviation}: expected a standard deviation above 0, such as 0.5")
    if not 0 <= share <= 1:
        raise UsageError(f"--case-share {share}: expected a share from 0 to 1")
    plan = load_plan(Path(sweep), overrides)
    cells = plan.cells
    seeds = min(len(cell.seeds) for cell in cells)
    sizes = _sizes(plan, by)
    values = _values(plan, axis)
    tests = max(1, values * (values - 1) // 2)
    if by:  # as `compare --by` corrects: each group, and all users together
        tests *= len(groups_by(by)) + 1
    variance = of_spread(deviation, share)
    lines = [
        _preface(tests),
        f"assumed: the difference between two dialogues with the same case and seed has the "
        f"standard deviation {deviation:g}; {100 * share:.0f} % of its variance is between cases",
    ]
    most = _most(plan.loaded.header.metrics[0])
    step = most or 0.0
    for size, groups in sizes.items():
        design = _Design(size, seeds, False, 0.05 / tests, step, most)
        found = _lines(variance, design, detect)
        lines += [f"{groups}: {line}" if groups else line for line in found]
    lines.append("smallest difference with a power of 0.8, by cases and seeds:")
    lines.append("  cases " + "".join(f"{many(n, 'seed'):>10}" for n in _SEEDS))
    for cases in sorted({*_CASES, *sizes}):
        found = [detectable(variance, cases, n, alpha=0.05 / tests, step=step) for n in _SEEDS]
        lines.append(f"  {cases:>5} " + "".join(f"{_number(each, most):>10}" for each in found))
    return lines


def _sizes(plan: Plan, by: Sequence[str]) -> dict[int, str]:
    """Numbers of cases, and with `by` the groups of users that have as many."""
    if not by:
        return dict.fromkeys((len(source) for source in plan.sources), "")
    found: dict[int, dict[str, None]] = {}
    for source in plan.sources:
        of_each = Counter(g for place in range(len(source)) for g in source.groups(place))
        for group in groups_by(by):
            if of_each[group]:
                found.setdefault(of_each[group], {})[group] = None
    if not found:
        raise UsageError(
            "the users of the plan are in no groups; expected a domain with profiles "
            "(`crsweep prepare SWEEP` makes them)"
        )
    return {size: ", ".join(groups) for size, groups in sorted(found.items())}


def _step(results: Results, found: Comparison) -> float:
    """1 for a rate of one pair of cells; less where a case's value is a mean over several pairs."""
    (metric,) = metrics_of(results, [found.metric])
    pairs = partners(results, found.axis, found.first, found.second)
    cells = results.manifest.cells
    sources = {cells[cell].source_id for cell, _ in pairs}
    return (metric.most or 0.0) * len(sources) / len(pairs)


def _values(plan: Plan, axis: str | None) -> int:
    """The number of values of the axis to compare; without a name, of the axis with the most
    values."""
    if axis is not None and axis not in plan.axes:
        known = f"axes: {', '.join(plan.axes)}" if plan.axes else "the grid has no axes"
        raise UsageError(f"there is no axis {axis!r}{near(axis, plan.axes)} ({known})")
    names = [axis] if axis else plan.axes
    return max((len({cell.axes.get(name) for cell in plan.cells}) for name in names), default=1)


def _preface(tests: int) -> str:
    return (
        "power of a two-sided paired test over cases at level 0.05"
        + (f" / {tests} (Bonferroni over the compared pairs)" if tests > 1 else "")
        + f"; target {TARGET}"
    )


def _lines(variance: Components, design: _Design, detect: float | None) -> list[str]:
    cases, seeds = design.cases, design.seeds
    options = {"shared": design.shared, "alpha": design.alpha, "step": design.step}
    least = detectable(variance, cases, seeds, **options)
    size = f"{many(cases, 'case')} x {many(seeds, 'seed')}"
    line = f"{size} detect a difference of {_number(least)}"
    if design.most is not None and least is not None and least > design.most:
        line = (
            f"{size} cannot detect any difference: it would have to be "
            f"{_number(least)}, and the largest possible one is {design.most:g}"
        )
    if detect is None:
        return [line]
    reached = power(detect, variance, cases, seeds, **options)
    more_cases = cases_needed(detect, variance, seeds, **options)
    more_seeds = seeds_needed(detect, variance, cases, **options)
    return [
        f"{line}; {detect:g} is detected with power {reached:.2f}; a power of {TARGET} "
        "needs "
        + (many(more_cases, "case") if more_cases else "an unreachable number of cases")
        + f" at {many(seeds, 'seed')}"
        + (
            f", or {many(more_seeds, 'seed')} at {many(cases, 'case')}"
            if more_seeds
            else f"; with {many(cases, 'case')}, no number of seeds is enough"
        )
    ]


def _most(metric: str) -> float | None:
    return parse_metric(metric).most


def _number(value: float | None, most: float | None = None) -> str:
    if most is not None and value is not None and value > most:
        return "none"
    return "n/a" if value is None else f"{value:.4f}"


def _only_axis(results: Results) -> str:
    """The axis to compare: `agent` if it has several values, otherwise the only one that has."""
    several = results.varying_axes
    if "agent" in several:
        return "agent"
    if len(several) != 1:
        known = ", ".join(several) or "none has more than one value"
        raise UsageError(f"name the axis to compare: --axis AXIS (axes: {known})")
    return several[0]
