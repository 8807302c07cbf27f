"""Loads a sweep file into a checked plan."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from agents.core import plugins
from agents.core.errors import UsageError, near
from analysis import published
from analysis.metrics.core import KnownJudge, Metric, of_sweep, parse_metric, split_group
from analysis.results import sweep_at
from analysis.tables.pivot import GROUP, METRIC
from analysis.tables.table_notes import beyond
from runner.core.locations import (
    check_match,
    check_paths,
    find_profiles,
)
from runner.core.read_progress import reading_shown
from runner.driver import manifest as sweep_folder
from runner.driver.budget import check_caps
from simulators.core.critic import CRITICS, Critic
from sweeps import manifest as manifests
from sweeps.load import LoadedSweep, load, load_recorded
from sweeps.origins import Origins
from sweeps.plan import Plan, make_plan
from sweeps.schema import FigureSpec, TableSpec
from sweeps.storage import folder as folders
from workers.models import backend_of, declare


def load_plan(sweep: Path, overrides: Sequence[str]) -> Plan:
    """Loads, checks and expands a sweep, including its metrics. Writes nothing."""
    return _checked(load(sweep, overrides))


def load_plan_of(what: str, overrides: Sequence[str]) -> Plan:
    """Loads the plan of a sweep file, or of the last run in an output folder.

    For a folder, this is the resolved sweep in its manifest, with environment variables looked up
    again. Raises UsageError.
    """
    path = Path(what)
    if path.suffix in (".yaml", ".yml") or (path.is_file()):
        return load_plan(path, overrides)
    folder, manifest = sweep_at(what)
    folder = folder.absolute()
    config = {**manifest.config, "out": str(folder)}
    loaded = load_recorded(config, f"{folder}/{manifests.FILE}", overrides)
    with suppress(FileNotFoundError):
        text = folders.read(folder, "sweep.yaml").decode("utf-8", "replace")
        loaded = replace(loaded, text=text)  # as it was given
    return _checked(loaded)


def _checked(loaded: LoadedSweep) -> Plan:
    metrics = _metrics(loaded)
    with reading_shown():
        plan = make_plan(
            loaded,
            declare,
            probe=any(metric.needs_probe for metric in metrics),
            find_profiles=partial(find_profiles, loaded.header.artifacts),
        )
    plan.remarks += _beyond_the_end(metrics, plan)
    _check_metrics(metrics, plan)
    _check_tables(plan)
    plan.depth = _depth(metrics, plan)
    _check_samples(plan)
    _check_draws(plan)
    check_caps(plan)
    check_paths(plan)
    check_match(plan)
    sweep_folder.check_is_ours(loaded.out, loaded.header.name)
    return plan


def _beyond_the_end(metrics: Sequence[Metric], plan: Plan) -> list[str]:
    """Remarks on metrics of a turn that no dialogue of the plan has."""
    turns = max(cell.config.limits.max_turns for cell in plan.cells)
    notes = ((index, beyond(metric.name, turns)) for index, metric in enumerate(metrics))
    place = plan.loaded.origins.of
    return [f"{place(('metrics', index))}: {note}" for index, note in notes if note]


def _depth(metrics: Sequence[Metric], plan: Plan) -> int:
    """How many items of a ranking the sweep's metrics, tables and figures read."""
    tables, figures = plan.loaded.header.tables.values(), plan.loaded.header.figures.values()
    names = [name for table in tables for name in table.metrics]
    names += [name for figure in figures if figure.kind != "curves" for name in figure.metrics]
    for table in tables:
        names += published.read(table.published).metrics if table.published else []
    return max(metric.depth for metric in [*metrics, *map(parse_metric, names)])


def _check_tables(plan: Plan) -> None:
    """Refuses tables and figures with metrics or axes that the sweep does not have."""
    header, refuse = plan.loaded.header, plan.loaded.origins.refuse
    judges = _known_judges(plan)
    for part, specs in (("tables", header.tables), ("figures", header.figures)):
        for name, spec in specs.items():
            trainings = isinstance(spec, FigureSpec) and spec.kind == "curves"
            # Training curves are known only after training.
            for index, metric in enumerate([] if trainings else spec.metrics):
                try:
                    of_sweep(parse_metric(metric), judges, len(plan.cells))
                except UsageError as error:
                    raise refuse((part, name, "metrics", index), error.message) from None
            if isinstance(spec, TableSpec) and spec.published:
                try:
                    published.read(spec.published)
                except UsageError as error:
                    raise refuse((part, name, "published"), error.message) from None
            for place, axis in _axes_of(spec):
                known = list(plan.axes)
                if place[0] in ("rows", "columns"):
                    known += [METRIC, *([GROUP] if _has_groups(spec) else [])]
                if axis not in known:
                    raise refuse(
                        (part, name, *place),
                        f"the grid has no axis {axis!r}{near(axis, known)} "
                        f"(known: {', '.join(known)})",
                    )


def _has_groups(spec: TableSpec | FigureSpec) -> bool:
    """Whether a table has metrics of groups of users, which `group` takes out of their names."""
    return bool(spec.by) or any(split_group(metric)[1] for metric in spec.metrics)


def _axes_of(spec: TableSpec | FigureSpec) -> list[tuple[tuple[str | int, ...], str]]:
    """The axes that a table or figure names, with their places."""
    if isinstance(spec, FigureSpec):
        return [(("axis",), spec.axis)] if spec.axis else []
    found: list[tuple[tuple[str | int, ...], str]] = [
        ((part, index), axis)
        for part in ("rows", "columns")
        for index, axis in enumerate(getattr(spec, part))
    ]
    return [*found, (("ties",), spec.ties)] if spec.ties else found


def _known_judges(plan: Plan) -> list[KnownJudge]:
    return [
        KnownJudge(
            judge.title,
            judge.ref.name,
            tuple(d.name for d in judge.dimensions),
            judge.pairs is not None,
        )
        for judge in plan.judges
    ]


def _check_samples(plan: Plan) -> None:
    """Refuses several samples of a greedy model, which would all give the same verdict."""
    for index, judge in enumerate(plan.judges):
        if judge.ref.samples == 1:
            continue
        for role in judge.roles:
            name = plan.cells[0].judges[role]
            cls, options = backend_of(plan.cells[0].config.models[name], Origins(), ())
            if cls.is_greedy(options):
                raise plan.loaded.origins.refuse(
                    ("judges", index, "samples"),
                    f"{judge.title} is asked {judge.ref.samples} times, but its model {name!r} is "
                    "greedy (temperature 0) and gives the same verdict each time",
                )


def _check_draws(plan: Plan) -> None:
    """Refuses a critic that would compare equal replies because its model is greedy."""
    for cell in plan.cells:
        ref = cell.config.critic
        if ref is None:
            continue
        cls: type[Critic] = plugins.load(CRITICS, ref.name, "critic")
        options = plugins.build_options(cls.Options, ref.options)
        draws, at = cls.draws(options), cls.temperature(options)
        for role in cls.roles if draws > 1 and not at else ():
            name = cell.roles[role]
            backend, own = backend_of(cell.config.models[name], Origins(), ())
            if at == 0 or backend.is_greedy(own):
                raise plan.loaded.origins.refuse(
                    ("critic",),
                    f"{ref.name} draws {draws} verdicts, but its model {name!r} is greedy "
                    "(temperature 0) and gives the same one each time; set a temperature above 0",
                )


def _metrics(loaded: LoadedSweep) -> list[Metric]:
    """The metrics of a sweep. Raises UsageError for an invalid or duplicate name."""
    found: list[Metric] = []
    names = loaded.header.metrics
    for index, name in enumerate(names):
        if name in names[:index]:
            raise loaded.origins.refuse(("metrics", index), f"{name!r} is listed twice")
        try:
            found.append(parse_metric(name))
        except UsageError as error:
            raise loaded.origins.refuse(("metrics", index), error.message) from None
    return found


def _check_metrics(metrics: Sequence[Metric], plan: Plan) -> None:
    """Raises UsageError for a metric whose judge, or the cell it compares with, is not in the
    plan."""
    judges = _known_judges(plan)
    for index, metric in enumerate(metrics):
        try:
            of_sweep(metric, judges, len(plan.cells))
        except UsageError as error:
            raise plan.loaded.origins.refuse(("metrics", index), error.message) from None
