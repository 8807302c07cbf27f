"""Wins, losses and ties of a baseline against its opponents (DESIRE, Table 5; CSI, Figure 4).

Shares are means over seeds, as in other tables. The sign test is over cases: a case is won where
the baseline wins more of its pairs than it loses, over all seeds. Pairs of one case are no
independent observations.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from agents.core.errors import UsageError
from analysis.results import Results
from analysis.sql.verdicts import literal, of_judge, pairs
from analysis.statistics.significance import holm, sign_test
from analysis.tables import verdicts
from analysis.tables.labels import brief
from analysis.tables.sheets import UNDEFINED, Cell, Sheet
from analysis.tables.table import Value, make_scored, origin_notes, over_seeds
from sweeps.manifest import JudgeEntry, PairEntry

_ALL = "all"


@dataclass(frozen=True)
class PairRow:
    """A baseline against one opponent, in one dimension, as one judge sees it.

    `context` has the other axes, where cells of several are compared: a value, or `all` of them.
    The shares are in per cent. `biased` of the `ties` depend on the order of the sides.
    """

    judge: str
    context: dict[str, str]
    baseline: str
    against: str
    dimension: str
    win: Value
    loss: Value
    tie: Value
    wins: int
    losses: int
    ties: int
    biased: int
    planned: int
    p: float
    p_holm: float = 1.0

    @property
    def pairs(self) -> int:
        return self.wins + self.losses + self.ties


@dataclass(frozen=True)
class PairTable:
    contexts: list[str]
    """The axes of the rows' contexts."""
    rows: list[PairRow]
    notes: list[str]


class _Pair(NamedTuple):
    cell: int
    other: int
    dimension: str
    source: int
    position: int
    seed: int
    result: int
    order_bias: bool


def make_pairs(results: Results, *, complete_only: bool = True) -> PairTable:
    """A row for each pairwise judge, context, opponent and dimension, over complete blocks.

    UsageError if no judge of the sweep compares pairs.
    """
    judges = [judge for judge in results.manifest.judges if judge.pairs is not None]
    if not judges:
        known = ", ".join(judge.title for judge in results.manifest.judges) or "none"
        raise UsageError(
            f"no judge of {results.folder} compares pairs (judges: {known}); add `pairwise` to "
            "`judges:`"
        )
    make_scored(results, complete_only, attempts=True)
    contexts = _contexts(results, judges)
    rows = [row for judge in judges for row in _rows(results, judge, contexts)]
    corrected = holm([row.p for row in rows])
    rows = [replace(row, p_holm=p) for row, p in zip(rows, corrected, strict=True)]
    notes = [
        *origin_notes(results),
        "win, loss and tie are of the baseline, in % of the pairs; a verdict that depends on the "
        "order of the two sides is a tie (order bias)",
        "p: exact sign test over cases, each counted once over its seeds, ties left out; corrected "
        "by Holm over this table",
    ]
    for judge in judges:
        notes += verdicts.missing(results, judge.title)
    return PairTable(contexts, rows, notes)


def sheet(table: PairTable) -> Sheet:
    """The table as it is printed; axes of which all rows have one value are in a note."""
    judges = {row.judge for row in table.rows}
    short = brief(label for row in table.rows for label in (row.baseline, row.against))
    contexts = {axis: brief(row.context[axis] for row in table.rows) for axis in table.contexts}
    rows = [
        [
            *([Cell(row.judge)] if len(judges) > 1 else []),
            *(Cell(contexts[axis].short[row.context[axis]]) for axis in table.contexts),
            Cell(short.short[row.baseline]),
            Cell(short.short[row.against]),
            Cell(row.dimension),
            *(Cell(_share(value)) for value in (row.win, row.loss, row.tie)),
            Cell(f"{row.pairs:,} of {row.planned:,}"),
            Cell(f"{row.biased:,}"),
            Cell(f"{row.p:.4f}"),
            Cell(f"{row.p_holm:.4f}"),
        ]
        for row in table.rows
    ]
    labels = [
        *(["judge"] if len(judges) > 1 else []),
        *table.contexts,
        "baseline",
        "against",
        "dimension",
    ]
    left_out = [b.left_out for b in (short, *contexts.values()) if b.left_out]
    notes = [f"left out above: {'; '.join(words)}" for words in left_out]
    figures = ["win", "loss", "tie", "pairs", "order bias", "p", "p (Holm)"]
    return Sheet(labels, figures, rows, [*notes, *table.notes])


def as_csv(table: PairTable) -> str:
    """Full precision; shares in per cent, empty where no pair was judged."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    shares = [f"{name}{part}" for name in ("win", "loss", "tie") for part in ("", "_std")]
    counts = ["wins", "losses", "ties", "order_bias", "pairs", "planned", "p", "p_holm"]
    labels = ["judge", *table.contexts, "baseline", "against", "dimension"]
    writer.writerow([*labels, *shares, *counts])
    for row in table.rows:
        cells: list[Any] = [row.judge, *row.context.values(), row.baseline, row.against]
        cells.append(row.dimension)
        for value in (row.win, row.loss, row.tie):
            cells += [value.mean, value.std]
        cells += [row.wins, row.losses, row.ties, row.biased, row.pairs, row.planned]
        writer.writerow(["" if cell is None else cell for cell in [*cells, row.p, row.p_holm]])
    return out.getvalue()


def _share(value: Value) -> str:
    if value.mean is None:
        return UNDEFINED
    return f"{value.mean:.1f}" + ("" if value.std is None else f" ± {value.std:.1f}")


def _contexts(results: Results, judges: Sequence[JudgeEntry]) -> list[str]:
    """The axes, other than those compared, in which baselines differ."""
    found: dict[str, None] = {}
    for judge in judges:
        assert judge.pairs is not None
        cells = [
            c.axes
            for c in results.manifest.cells
            if c.axes.get(judge.pairs.axis) == judge.pairs.baseline
        ]
        for axis in results.axes:
            if axis != judge.pairs.axis and len({cell.get(axis) for cell in cells}) > 1:
                found[axis] = None
    return list(found)


def _rows(results: Results, judge: JudgeEntry, contexts: Sequence[str]) -> Iterator[PairRow]:
    choice = judge.pairs
    assert choice is not None
    found = _pairs(results, judge.title)
    cells = results.manifest.cells
    planned = results.query(
        f"SELECT cell, other FROM plan_pairs WHERE title = {literal(judge.title)} "
        "ORDER BY cell, other"
    ).fetchall()
    groups: dict[tuple[tuple[str, ...], str], list[tuple[int, int]]] = {}
    for cell, other in planned:
        context = tuple(cells[cell].axes.get(axis, "") for axis in contexts)
        against = cells[other].axes[choice.axis]
        groups.setdefault((context, against), []).append((cell, other))
        if contexts:
            groups.setdefault(((_ALL,) * len(contexts), against), []).append((cell, other))
    order = {value: index for index, value in enumerate(choice.against)}
    pooled = (_ALL,) * len(contexts)
    places = {context: index for index, context in enumerate(dict.fromkeys(c for c, _ in groups))}
    for (context, against), members in sorted(
        groups.items(),
        key=lambda group: (group[0][0] == pooled, places[group[0][0]], order[group[0][1]]),
    ):
        within = dict(zip(contexts, context, strict=True))
        count = sum(results.planned[cells[cell].cell_id] for cell, _ in members)
        inside = set(members)
        chosen = [pair for pair in found if (pair.cell, pair.other) in inside]
        for dimension in judge.dimensions:
            of_it = [pair for pair in chosen if pair.dimension == dimension.name]
            yield _row(judge, choice, within, against, dimension.name, of_it, count)


def _pairs(results: Results, title: str) -> list[_Pair]:
    rows = results.query(
        "SELECT s.cell, o.cell, p.dimension, s.source, s.position, r.seed, p.result, p.order_bias "
        f"FROM ({of_judge(pairs(), title)}) p "
        "JOIN scored s USING (attempt_id) "
        "JOIN scored o ON o.attempt_id = p.other_attempt_id "
        "JOIN plan_repetitions r ON r.repetition = s.repetition"
    ).fetchall()
    return [_Pair(*row) for row in rows]


def _row(
    judge: JudgeEntry,
    choice: PairEntry,
    context: dict[str, str],
    against: str,
    dimension: str,
    found: Sequence[_Pair],
    planned: int,
) -> PairRow:
    total = Counter(pair.result for pair in found)
    cases: Counter[tuple[int, int]] = Counter()
    for pair in found:
        cases[pair.source, pair.position] += pair.result
    return PairRow(
        judge.title,
        context,
        choice.baseline,
        against,
        dimension,
        *(_shares(found, result) for result in (1, -1, 0)),
        wins=total[1],
        losses=total[-1],
        ties=total[0],
        biased=sum(pair.order_bias for pair in found),
        planned=planned,
        p=sign_test(_count(cases.values(), 1), _count(cases.values(), -1)),
    )


def _count(values: Iterable[int], sign: int) -> int:
    return sum(value * sign > 0 for value in values)


def _shares(found: Sequence[_Pair], result: int) -> Value:
    """The share of pairs with this result, in per cent: of each seed, then over seeds."""
    by_seed: dict[int, list[bool]] = {}
    for pair in found:
        by_seed.setdefault(pair.seed, []).append(pair.result == result)
    per_seed = [(100 * sum(hits) / len(hits), len(hits)) for _, hits in sorted(by_seed.items())]
    return over_seeds(per_seed, deterministic=False)
