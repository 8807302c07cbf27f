"""Our table next to a paper's: which rows correspond, and how their settings differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from agents.core.errors import UsageError
from agents.core.plural import many
from analysis.metrics.core import Metric, parse_metric
from analysis.published import IMPOSSIBLE, SIGNS, PrintedNumber, PublishedRow, PublishedTable
from analysis.published.bounds import (
    impossible,
    impossible_means,
    impossible_ranks,
    impossible_shares,
)
from analysis.results import Results
from analysis.tables.table import Table, TableRow, make_table
from sweeps.manifest import CellEntry, SourceEntry

_NOT_STATED = "not stated"
_AT_MOST = 4  # rows named in a note


class _Pair(NamedTuple):
    """A cell and the published row it is compared with."""

    theirs: PublishedRow
    cell: CellEntry
    source: SourceEntry
    ours: TableRow


def table_with_published(
    results: Results,
    published: PublishedTable,
    metrics: Sequence[str] = (),
    *,
    complete_only: bool = True,
) -> Table:
    """The rows of `results` that have a published row, in the paper's order, with its numbers.

    `metrics` are those of the published table if none is named. Raises UsageError for results of
    backends that are not language models, if no cell has a published row, and if no metric is named
    and none of the published numbers has one.
    """
    _refuse_watermarked(results)
    unjudged = {} if metrics else _unjudged(results, published)
    if not metrics and not published.metrics:
        reasons = "; ".join(dict.fromkeys(published.without_metric.values()))
        raise UsageError(
            f"{published.name}: none of its numbers has a metric here: {reasons}; name the metrics "
            "to show with --metric"
        )
    metrics = metrics or [name for name in published.metrics if name not in unjudged]
    table = make_table(results, metrics, complete_only=complete_only)
    _refuse_watermarked_judges(results, table.metrics)
    pairs = _pairs(results, published, table)
    axes = _axes_that_differ(pairs, table.axes)
    return replace(
        table,
        axes=["dataset", "row", *axes],
        rows=[
            replace(
                pair.ours,
                axes={"dataset": pair.theirs.dataset, "row": pair.theirs.row}
                | {axis: pair.ours.axes[axis] for axis in axes},
            )
            for pair in pairs
        ],
        notes=[
            *table.notes,
            *_legend(published, pairs),
            *_differences(results, pairs),
            *_left_out(results, published, pairs),
            *_remarks(published, table.metrics),
            *_without_metric({**published.without_metric, **unjudged}, pairs),
        ],
        published=[_numbers(pair.theirs, table) for pair in pairs],
    )


def _refuse_watermarked(results: Results) -> None:
    for cell in results.manifest.cells:
        for role, backend in cell.backends.items():
            if backend in results.manifest.watermark:
                raise UsageError(
                    f"{results.folder} holds results of the {backend} backend (role {role}): they "
                    "test the plumbing, not language models, and are never compared with published "
                    "numbers; run the sweep with language models, into another `out`"
                )


def _refuse_watermarked_judges(results: Results, metrics: Sequence[Metric]) -> None:
    used = {metric.judge.label for metric in metrics if metric.judge is not None}
    models = results.manifest.config.get("models") or {}
    for judge in results.manifest.judges:
        for role, model in judge.models.items():
            backend = (models.get(model) or {}).get("backend")
            if judge.title in used and backend in results.manifest.watermark:
                raise UsageError(
                    f"{results.folder} holds verdicts of the {backend} backend (role {role}): they "
                    "are never compared with published numbers; judge again with a language model "
                    f"(crsweep judge {results.folder} roles.{role}=MODEL)"
                )


def _unjudged(results: Results, published: PublishedTable) -> dict[str, str]:
    """The published metrics that need a judge which this sweep does not have."""
    judges = {judge.name for judge in results.manifest.judges}
    pairs = any(judge.pairs is not None for judge in results.manifest.judges)
    found = {}
    for name in published.metrics:
        wanted = parse_metric(name).judge
        if wanted is None:
            continue
        if wanted.plugin is None and not pairs:
            found[name] = "this sweep has no judge of pairs"
        elif wanted.plugin is not None and wanted.plugin not in judges:
            found[name] = f"this sweep has no judge {wanted.plugin}"
    return found


def _pairs(results: Results, published: PublishedTable, table: Table) -> list[_Pair]:
    manifest = results.manifest
    if not any(cell.settings for cell in manifest.cells):
        raise UsageError(
            f"{results.folder} does not record what its cells ran with, because an earlier crsweep "
            "wrote its manifest; the next `crsweep run` of the sweep rewrites it"
        )
    sources = {source.source_id: source for source in manifest.sources}
    found = [
        _Pair(theirs, cell, sources[cell.source_id], ours)
        for theirs in published.rows
        for cell, ours in zip(manifest.cells, table.rows, strict=True)
        if published.datasets[theirs.dataset] == sources[cell.source_id].dataset
        and _is(cell.settings.get("agent", {}), published.agents[theirs.row])
    ]
    found = [pair for pair in found if _is_of_its_model(pair, found, published)]
    if not found:
        ours = sorted({_words(c, sources[c.source_id]) for c in manifest.cells})
        raise UsageError(
            f"no cell of {results.folder} has a row in {published.name}: found {_some(ours)}; "
            f"expected data sets {', '.join(published.datasets.values())} and agents "
            f"{', '.join(dict.fromkeys(str(a['name']) for a in published.agents.values()))}"
        )
    return found


def _is(settings: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether `settings` have all that is wanted; of a mapping, all that is wanted of it."""
    return all(
        isinstance(found := settings.get(key), Mapping) and _is(found, value)
        if isinstance(value, Mapping)
        else key in settings and settings[key] == value
        for key, value in wanted.items()
    )


def _is_of_its_model(pair: _Pair, pairs: Sequence[_Pair], published: PublishedTable) -> bool:
    """False for a cell whose agent has two published rows that differ in the model, and whose model
    is that of the other one."""
    agents, row = published.agents, pair.theirs.row
    rivals = [p for p in pairs if p.cell is pair.cell and agents[p.theirs.row] == agents[row]]
    return _has_its_model(pair) or not any(map(_has_its_model, rivals))


def _has_its_model(pair: _Pair) -> bool:
    """Whether the agent's model is the published one; its name may have other signs in it."""
    model = pair.cell.settings.get("models", {}).get("agent", {}).get("model") or ""
    theirs = _letters(pair.theirs.settings.get("backbone", ""))
    return bool(theirs) and theirs in _letters(str(model))


def _letters(name: str) -> str:
    return "".join(sign for sign in name.casefold() if sign.isalnum())


def _axes_that_differ(pairs: Sequence[_Pair], axes: Sequence[str]) -> list[str]:
    """The axes that tell cells of one published row apart; the row says the rest."""
    labels: dict[tuple[str, str, str], set[str]] = {}
    for pair in pairs:
        for axis in axes:
            place = (axis, pair.theirs.dataset, pair.theirs.row)
            labels.setdefault(place, set()).add(pair.ours.axes[axis])
    return [a for a in axes if any(len(labels[p]) > 1 for p in labels if p[0] == a)]


def _numbers(theirs: PublishedRow, table: Table) -> list[PrintedNumber | None]:
    """The published numbers in the order of our columns, with impossible ones marked."""
    found = [theirs.numbers.get(metric.name) for metric in table.metrics]
    if _impossible(theirs) is None:
        return found
    return [f and replace(f, marks=f.marks | {IMPOSSIBLE}) for f in found]


def _impossible(theirs: PublishedRow) -> str | None:
    turns = theirs.settings.get("limits.max_turns")
    if turns is None:
        return None
    return impossible(_texts(theirs), int(turns))


def _texts(theirs: PublishedRow) -> dict[str, str]:
    return {metric: number.text for metric, number in theirs.numbers.items()}


def _legend(published: PublishedTable, pairs: Sequence[_Pair]) -> list[str]:
    notes = [f"published: {published.title}; difference: ours minus published"]
    used = {mark for pair in pairs for f in pair.theirs.numbers.values() for mark in f.marks}
    notes += [
        f"{SIGNS[mark]} {meaning}, as the paper says"
        for mark, meaning in published.marks.items()
        if mark in used
    ]
    for row in published.rows:
        reason = _impossible(row)
        if reason is not None:
            notes.append(
                f"! these published numbers of {_place(row)} cannot all be correct: {reason}"
            )
        reason = impossible_ranks(_texts(row)) or impossible_means(_texts(row))
        if reason is not None:
            notes.append(f"the published numbers of {_place(row)} cannot all be correct: {reason}")
        reason = impossible_shares(_texts(row))
        if reason is not None:
            notes.append(f"the published numbers of {_place(row)} contradict their text: {reason}")
    return notes


def _differences(results: Results, pairs: Sequence[_Pair]) -> list[str]:
    """A note for each setting that differs: the paper's, ours, and in which rows."""
    found: dict[tuple[str, str, str], list[PublishedRow]] = {}
    for pair in pairs:
        for setting, theirs in pair.theirs.settings.items():
            ours = _ours(results, pair, setting)
            if theirs == _NOT_STATED or not _same(theirs, ours):
                found.setdefault((setting, theirs, ours), []).append(pair.theirs)
    every = [pair.theirs for pair in pairs]
    return [
        f"differs: {setting}: published {theirs}, here {ours}{_where(rows, every)}"
        for (setting, theirs, ours), rows in found.items()
    ]


def _where(rows: Sequence[PublishedRow], every: Sequence[PublishedRow]) -> str:
    """In brackets which of `every` row is meant; nothing if all are."""
    if {_place(row) for row in rows} == {_place(row) for row in every}:
        return ""
    return f" ({_which(rows, every)})"


def _which(rows: Sequence[PublishedRow], every: Sequence[PublishedRow]) -> str:
    """`rows` in words; first the data sets of which they hold all that `every` has."""
    places = {_place(row) for row in rows}
    others = {row.dataset for row in every if _place(row) not in places}
    whole = [row.dataset for row in rows if row.dataset not in others]
    single = [_place(row) for row in rows if row.dataset in others]
    return _some(list(dict.fromkeys([*whole, *single])))


def _ours(results: Results, pair: _Pair, setting: str) -> str:
    """The settings of a cell, in words."""
    models = pair.cell.settings.get("models", {})
    if setting == "backbone":
        speakers = dict.fromkeys(_named(spec) for spec in models.values())
        return ", ".join(f"{name} ({_roles(models, name)})" for name in speakers)
    if setting == "temperature":
        agents = [spec for role, spec in models.items() if role.split(".")[0] == "agent"]
        found = [spec.get("sampling", {}).get("temperature") for spec in agents]
        return ", ".join(dict.fromkeys("the backend's" if t is None else f"{t:g}" for t in found))
    if setting == "cases":
        return f"{pair.source.sample}"
    if setting == "repetitions":
        return f"{many(len(pair.cell.seeds), 'seed')} (varied: {results.manifest.seed_varies})"
    value: Any = pair.cell.settings
    for key in setting.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    if isinstance(value, Mapping):
        value = value.get("name")
    return "no such setting" if value is None else str(value)


def _named(spec: Mapping[str, Any]) -> str:
    model, revision = spec.get("model", spec["backend"]), spec.get("revision")
    return f"{model}@{revision}" if revision else str(model)


def _roles(models: Mapping[str, Mapping[str, Any]], name: str) -> str:
    roles = [role.split(".")[0] for role, spec in models.items() if _named(spec) == name]
    return " and ".join(dict.fromkeys(roles))


def _same(theirs: str, ours: str) -> bool:
    try:
        return float(theirs) == float(ours)
    except ValueError:
        return theirs == ours


def _left_out(results: Results, published: PublishedTable, pairs: Sequence[_Pair]) -> list[str]:
    notes = []
    here = {_place(pair.theirs) for pair in pairs}
    missing = [row for row in published.rows if _place(row) not in here]
    if missing:
        notes.append(f"published and not run here: {_which(missing, published.rows)}")
    used = {pair.cell.cell_id for pair in pairs}
    sources = {source.source_id: source for source in results.manifest.sources}
    alone = [c for c in results.manifest.cells if c.cell_id not in used]
    if alone:
        words = dict.fromkeys(_words(cell, sources[cell.source_id]) for cell in alone)
        notes.append(f"run here and not published, left out: {_some(list(words))}")
    return notes


def _remarks(published: PublishedTable, metrics: Sequence[Metric]) -> list[str]:
    whole = {metric.name.partition("[")[0] for metric in metrics}
    compared = whole | {name.partition("@")[0] for name in whole}  # a remark may be on any sr@k
    return [
        f"differs: {name}: {why}" for name, why in published.remarks.items() if name in compared
    ]


def _without_metric(reasons: Mapping[str, str], pairs: Sequence[_Pair]) -> list[str]:
    """The published numbers without an equivalent metric, with the reasons."""
    notes = []
    for metric, reason in reasons.items():
        rows = {_place(p.theirs): p.theirs.numbers.get(metric) for p in pairs}
        found = [f"{place} {number.marked}" for place, number in rows.items() if number]
        if found:
            notes.append(f"published only: {metric} ({reason}): {', '.join(found)}")
    return notes


def _place(row: PublishedRow) -> str:
    return f"{row.dataset} {row.row}"


def _words(cell: CellEntry, source: SourceEntry) -> str:
    agent = cell.axes.get("agent") or cell.settings.get("agent", {}).get("name", "")
    return f"{agent} on {source.dataset or source.domain}"


def _some(words: Sequence[str]) -> str:
    more = len(words) - _AT_MOST
    return ", ".join(words[:_AT_MOST]) + (f" and {more} more" if more > 0 else "")
