"""Tables: one row per cell, mean and standard deviation over seeds, and their number."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from agents.core.errors import UsageError
from agents.core.plural import many
from analysis import sql
from analysis.metrics.core import MACRO, OVERALL, KnownJudge, Metric, of_sweep, parse_metric
from analysis.published import PrintedNumber
from analysis.results import Results
from analysis.tables import false_successes, verdicts
from analysis.tables.table_notes import (
    beyond_the_end,
    origin_notes,
    over_published,
    shorter_rankings,
)

_DIFFERENT = (
    "cells count different cases, some of which may be easier: do not compare their numbers "
    "(without --all, only cases that every cell and seed has finished count)"
)
_PARTS = 8
"""Cases are compared over seeds in so many passes: fewer of them in memory at once."""


_NAMED = 20  # cells in one note


@dataclass(frozen=True)
class Value:
    """One metric of one cell.

    `mean` is the mean of the per-seed means, None where no episode defines the metric. `std` is
    their sample standard deviation (n-1), None for one seed or where nothing varied
    (`deterministic`). `episodes` define the metric; `seeds` are the per-seed means.
    """

    mean: float | None
    std: float | None
    deterministic: bool
    episodes: int
    seeds: int


@dataclass(frozen=True)
class TableRow:
    """One cell. `counted` of its `planned` episodes are finished, or failed by the agent."""

    axes: dict[str, str]
    values: list[Value]
    counted: int
    planned: int
    source: str = ""  # where its cases come from: rows of two sources are not compared
    of_group: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Counted and planned episodes by group of users, where metrics have groups; overall with a
    user twice that was drawn for two."""

    def coverage(self, group: str = "") -> tuple[int, int]:
        """Counted and planned episodes, optionally of one group of users."""
        return self.of_group.get(group, (self.counted, self.planned))


@dataclass(frozen=True)
class Table:
    axes: list[str]
    metrics: list[Metric]
    rows: list[TableRow]
    notes: list[str] = field(default_factory=list)
    published: list[list[PrintedNumber | None]] = field(default_factory=list)
    """A paper's number next to each value of each row; empty if there are none."""
    comparable: bool = True
    """False if cells of one source count different cases: then none is the best."""


def make_table(results: Results, metrics: Sequence[str], *, complete_only: bool = True) -> Table:
    """The table of `metrics`, over complete blocks unless `complete_only` is false.

    A block is one case across all cells and seeds; a case that some cell has not finished is
    left out of all, because long dialogues must not go missing from one cell first. A cell that has
    nothing finished under some seed would leave nothing of the others: its own row is left empty
    instead, and a note says why. Raises UsageError for a bad metric.
    """
    parsed = metrics_of(results, metrics)
    with results.joins_as_written():
        make_scored(results, complete_only, attempts=any(m.per_attempt or m.clean for m in parsed))
        has_groups = any(metric.group for metric in parsed)
        if has_groups:
            make_groups(results)
        per_seed = _per_seed(results, parsed)
        fixed = _deterministic(results)
        counted: dict[int, int] = dict(
            results.query(
                "SELECT cell, count(*) FILTER (WHERE ours) FROM scored GROUP BY cell"
            ).fetchall()
        )
        of_group = _by_group(results) if has_groups else {}
    planned = results.planned
    rows = [
        TableRow(
            axes={axis: cell.axes.get(axis, "") for axis in results.axes},
            values=[
                over_seeds(per_seed.get((index, i), []), index in fixed) for i in range(len(parsed))
            ],
            counted=counted.get(index, 0),
            planned=planned[cell.cell_id],
            source=cell.source_id,
            of_group=of_group.get(index, {}),
        )
        for index, cell in enumerate(results.manifest.cells)
    ]
    comparable = complete_only or _count_the_same(results)
    notes = [
        *_notes(results, rows, complete_only),
        *([] if comparable else [_DIFFERENT]),
        *beyond_the_end(results, parsed),
        *over_published(parsed),
        *shorter_rankings(results, parsed),
        *_undefined(results, parsed, rows),
        *verdicts.notes(results, parsed, rows),
        *false_successes.notes(results),
    ]
    return Table(results.axes, parsed, rows, notes, comparable=comparable)


def metrics_of(results: Results, names: Sequence[str]) -> list[Metric]:
    """The metrics with these names. Raises UsageError for an invalid one, and for one that needs a
    judge or a cell that this sweep does not have."""
    judges = [
        KnownJudge(j.title, j.name, tuple(d.name for d in j.dimensions), j.pairs is not None)
        for j in results.manifest.judges
    ]
    cells = len(results.manifest.cells)
    return [of_sweep(parse_metric(name), judges, cells) for name in names]


def make_scored(results: Results, complete_only: bool, *, attempts: bool) -> None:
    """The narrow table that all metrics are read from; `attempts` says whether one reads attempts.

    `ours`: finished, and no one but the agent failed it. It is in memory: long texts stay out, and
    numbers of the plan stand for case, source and seeds. What users recorded against themselves
    is read once, in most sweeps from few turns or none.
    """
    results.query(f"CREATE OR REPLACE TEMP TABLE doubts AS {sql.read('doubts')}")
    (doubted,) = results.query("SELECT count(*) > 0 FROM doubts").fetchall()[0]
    recorded = (
        "d.first_leak, d.wrong_accept, coalesce(d.disagreed, false)"
        if doubted
        else "NULL::SMALLINT AS first_leak, NULL::SMALLINT AS wrong_accept, false"
    )
    results.query(
        "CREATE OR REPLACE TEMP TABLE scored AS "
        f"SELECT {'e.attempt_id, ' * attempts}e.cell, r.source, e.position, r.repetition, "
        "e.success_turn, e.max_turns, (SELECT max(max_turns) FROM episodes) AS most_turns, "
        "hash(e.transcript_hash) AS transcript, e.status = 'done' AS done, "
        "(e.status = 'done' OR coalesce(e.blame, '') = 'agent') AS ours, "
        f"{recorded} AS disagreed "
        "FROM episodes e "
        "JOIN plan_repetitions r USING (cell_id, seed, seed_training, seed_order)"
        f"{' LEFT JOIN doubts d ON d.attempt = hash(e.attempt_id)' if doubted else ''}"
    )
    results.query(
        "CREATE OR REPLACE TEMP TABLE without_block AS "
        "SELECT DISTINCT c.cell FROM plan_repetitions r JOIN plan_cells c USING (cell_id) "
        f"WHERE {complete_only} AND r.repetition NOT IN (SELECT repetition FROM scored)"
    )
    if complete_only:
        # Seldom many rows. To look for whole blocks in `episodes` first would read it twice, and
        # hold its rows in a join.
        results.query("DELETE FROM scored WHERE cell IN (FROM without_block)")
        results.query(
            "DELETE FROM scored WHERE (source, position) IN ("
            "SELECT s.source, s.position FROM scored s JOIN ("
            "SELECT r.source, count(*) AS expected FROM plan_repetitions r "
            "JOIN plan_cells c USING (cell_id) ANTI JOIN without_block w ON w.cell = c.cell "
            "GROUP BY r.source) p USING (source) "
            "GROUP BY s.source, s.position, p.expected HAVING count(*) <> p.expected)"
        )


def _per_seed(
    results: Results, metrics: Sequence[Metric]
) -> dict[tuple[int, int], list[tuple[float | None, int]]]:
    """(cell, metric) -> (value, episodes that define it) of each seed."""
    found: dict[tuple[int, int], list[tuple[float | None, int]]] = {}
    for index, metric in enumerate(metrics):
        for cell, value, episodes in results.query(_metric_sql(metric)).fetchall():
            found.setdefault((cell, index), []).append((value, episodes))
    return found


def make_groups(results: Results) -> None:
    """The table `drawn`: which cases stand for which groups. UsageError where none does."""
    columns = {row[0] for row in results.query("DESCRIBE all_cases").fetchall()}
    if "groups" in columns:
        results.query(
            "CREATE OR REPLACE TEMP TABLE drawn AS "
            'SELECT p.source, c.position, unnest(c.groups) AS "group" '
            "FROM cases c JOIN plan_sources p USING (source_id)"
        )
        (some,) = results.query("SELECT count(*) > 0 FROM drawn").fetchall()[0]
        if some:
            return
    raise UsageError(
        f"the users in {results.folder} are in no groups; expected a domain with profiles, such as "
        "amazon_2023 with the option `profiles`"
    )


def _count_the_same(results: Results) -> bool:
    """Whether the cells of each source count each case equally often."""
    ((different,),) = results.query(
        "SELECT count(*) FROM (SELECT source FROM ("
        "SELECT source, cell, count(*) AS cases, bit_xor(hash(position, n)) AS which FROM ("
        "SELECT source, cell, position, count(*) AS n FROM scored WHERE ours GROUP BY ALL) "
        "GROUP BY ALL) GROUP BY source HAVING count(DISTINCT (cases, which)) > 1)"
    ).fetchall()
    return different == 0


def group_sizes(results: Results, group: str) -> dict[str, int]:
    """Source id -> number of cases in a group, or in all groups together. Call `make_groups`
    before."""
    condition = "" if group in OVERALL else f"WHERE d.\"group\" = '{group}' "
    return dict(
        results.query(
            "SELECT p.source_id, count(DISTINCT d.position) FROM drawn d "
            f"JOIN plan_sources p USING (source) {condition}GROUP BY p.source_id"
        ).fetchall()
    )


def _by_group(results: Results) -> dict[int, dict[str, tuple[int, int]]]:
    """Cell -> group -> counted and planned episodes. Call `make_groups` before."""
    counted: dict[tuple[int, str], int] = {
        (cell, group): count
        for cell, group, count in results.query(
            'SELECT e.cell, g."group", count(*) FROM scored e JOIN drawn g ON g.source = e.source '
            "AND g.position = e.position WHERE e.ours GROUP BY ALL"
        ).fetchall()
    }
    names = [row[0] for row in results.query('SELECT DISTINCT "group" FROM drawn').fetchall()]
    sizes = {name: group_sizes(results, name) for name in names}
    found = {}
    for index, cell in enumerate(results.manifest.cells):
        own = {
            name: (counted.get((index, name), 0), len(cell.seeds) * size.get(cell.source_id, 0))
            for name, size in sizes.items()
        }
        total = (sum(n for n, _ in own.values()), sum(n for _, n in own.values()))
        found[index] = own | dict.fromkeys(OVERALL, total)
    return found


def _metric_sql(metric: Metric) -> str:
    if metric.group == MACRO:
        return (
            "SELECT cell, CASE WHEN bool_and(value IS NOT NULL) THEN avg(value) END, "
            "CASE WHEN bool_and(value IS NOT NULL) THEN sum(episodes) ELSE 0 END "
            "FROM (SELECT cell, repetition, sum(num) FILTER (WHERE den > 0) / nullif(sum(den), 0) "
            "AS value, count(*) FILTER (WHERE den > 0) AS episodes "
            f'FROM ({scored_sql(metric)}) GROUP BY cell, repetition, "group") '
            "GROUP BY cell, repetition ORDER BY cell, repetition"
        )
    return (
        "SELECT cell, sum(num) FILTER (WHERE den > 0) / nullif(sum(den), 0), "
        "count(*) FILTER (WHERE den > 0) "
        f"FROM ({scored_sql(metric)}) "
        "GROUP BY cell, repetition ORDER BY cell, repetition"
    )


def scored_sql(metric: Metric) -> str:
    """One row an episode that counts: cell, position, repetition, num and den of `metric`."""
    join = f"LEFT JOIN ({metric.per_attempt}) x USING (attempt_id)" if metric.per_attempt else ""
    scored = f"({sql.read('clean')})" if metric.clean else "scored"
    den = f"CASE WHEN e.known THEN {metric.denominator} END" if metric.clean else metric.denominator
    group = ""
    if metric.group:
        join += " JOIN drawn g ON g.source = e.source AND g.position = e.position"
        join += "" if metric.group in OVERALL else f" AND g.\"group\" = '{metric.group}'"
        group = 'g."group", '
    return (
        f"SELECT {group}e.cell, e.position, e.repetition, "
        f"({metric.numerator})::DOUBLE AS num, ({den})::DOUBLE AS den "
        f"FROM {scored} e {join} WHERE {'e.done' if metric.completed_only else 'e.ours'}"
    )


def _deterministic(results: Results) -> set[int]:
    """Cells with several seeds in which every case has the same transcript under all seeds."""
    same: dict[int, bool] = {}
    seeds: dict[int, int] = {}
    for part in range(_PARTS):
        # Episodes that infrastructure interrupted differ by chance, and no mean includes them.
        rows = results.query(
            "SELECT cell, bool_and(same), max(seeds) FROM ("
            "SELECT cell, min(transcript) = max(transcript) AS same, count(*) AS seeds "
            f"FROM scored WHERE ours AND position % {_PARTS} = {part} GROUP BY cell, position) "
            "GROUP BY cell"
        ).fetchall()
        for cell, alike, count in rows:
            same[cell] = same.get(cell, True) and alike
            seeds[cell] = max(seeds.get(cell, 0), count)
    return {cell for cell, alike in same.items() if alike and seeds[cell] > 1}


def over_seeds(per_seed: Sequence[tuple[float | None, int]], deterministic: bool) -> Value:
    """The value of a metric from (value, episodes that define it) of each seed."""
    if all(value is None for value, _ in per_seed):
        return Value(None, None, False, 0, 0)
    # Episodes that define the metric but add nothing (a step never called in one seed) sum to 0.
    means = [value or 0.0 for value, count in per_seed if count]
    episodes = sum(count for _, count in per_seed)
    std = statistics.stdev(means) if len(means) > 1 and not deterministic else None
    return Value(statistics.fmean(means), std, deterministic, episodes, len(means))


def _undefined(results: Results, metrics: Sequence[Metric], rows: Sequence[TableRow]) -> list[str]:
    """A note for each metric that some counted episodes do not define."""
    notes = []
    for index, metric in enumerate(metrics):
        counted = sum(row.coverage(metric.group)[0] for row in rows)
        defined = sum(row.values[index].episodes for row in rows)
        if defined < counted:
            note = f"{metric.name} is defined for {defined:,} of {counted:,} episodes"
            cells = verdicts.by_cell(results, [row.values[index].episodes for row in rows])
            if metric.judge is not None and cells:
                note += f" ({cells})"
            notes.append(f"{note}; left out: {metric.undefined}" if metric.undefined else note)
    return notes


def _notes(results: Results, rows: Sequence[TableRow], complete_only: bool) -> list[str]:
    notes = origin_notes(results)
    used = count_of(results, "scored")
    planned = sum(row.planned for row in rows)
    lacking = [cell for (cell,) in results.query("FROM without_block ORDER BY cell").fetchall()]
    notes += _lacking(results, lacking)
    if complete_only and used < planned:
        which = "every other" if 0 < len(lacking) < len(rows) else "every"
        notes.append(
            f"incomplete: only cases that {which} cell and seed has finished are counted "
            f"({used:,} of {count_of(results, 'episodes'):,} finished and {planned:,} planned "
            "episodes)"
        )
    left_out = used - sum(row.counted for row in rows)
    if left_out:
        notes.append(f"left out: {many(left_out, 'episode')} that failed by no fault of the agent")
    return notes


def _lacking(results: Results, cells: Sequence[int]) -> list[str]:
    """Notes on the cells that are left out of all blocks, and on what could not be prepared for
    them."""
    manifest = results.manifest
    reasons = manifest.runs[-1].unprepared if manifest.runs else {}
    unprepared = [
        f"{artifact.title} cannot be prepared: {reasons[artifact.title]}"
        for artifact in manifest.artifacts
        if artifact.title in reasons and not set(cells).isdisjoint(artifact.cells)
    ]
    if not cells or len(cells) == len(manifest.cells):
        return unprepared
    names = false_successes.cell_names(results)
    more = f"; {len(cells) - _NAMED:,} more" if len(cells) > _NAMED else ""
    return [
        "left out, because nothing is finished under some seed: "
        f"{'; '.join(names[cell] for cell in cells[:_NAMED])}{more}",
        *unprepared,
    ]


def count_of(results: Results, view: str) -> int:
    """The rows of a view or table."""
    (found,) = results.query(f"SELECT count(*) FROM {view}").fetchall()
    return found[0]
