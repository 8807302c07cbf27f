"""Wins, losses and ties of a baseline against its opponents (DESIRE, Table 5; CSI, Figure 4).

Shares are means over seeds, as in other tables. The sign test is over cases: a case is won if the
baseline wins more of its pairs than it loses, over all seeds. Pairs of one case are not independent
observations.

Labels of people are in the same table: for each pair, the label that more than half of its
annotators gave.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from agents.core.errors import UsageError
from agents.core.plural import many
from analysis import sql
from analysis.results import Results
from analysis.sql.verdicts import of_judge, pairs, sql_string
from analysis.statistics.agreement import majority
from analysis.statistics.draws import in_question_order
from analysis.statistics.significance import holm, sign_test
from analysis.tables import verdicts
from analysis.tables.labels import short_labels
from analysis.tables.sheets import UNDEFINED, Sheet, SheetCell
from analysis.tables.table import Value, make_scored, over_seeds
from analysis.tables.table_notes import origin_notes
from sweeps.manifest import JudgeEntry, PairEntry

_ALL = "all"


@dataclass(frozen=True)
class PairRow:
    """A baseline against one opponent, in one dimension, according to one judge or to people.

    `context` has the other axes, if cells of several are compared: a value, or `all` of them. The
    shares are in per cent. Of the `ties`, `biased` depend on the order of the sides, and `split`
    are those without a majority of people; each is None if it does not apply.
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
    biased: int | None
    split: int | None
    planned: int | None
    """None for people, who label a sample."""
    p: float
    p_holm: float = 1.0

    @property
    def pairs(self) -> int:
        return self.wins + self.losses + self.ties


@dataclass(frozen=True)
class PairTable:
    contexts: list[str]
    """The axes in the rows' contexts."""
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
    undecided: bool
    """A tie because the orders differ, or because people do."""


@dataclass(frozen=True)
class _Rater:
    """A judge, or the people who answered its questions, and the compared cells."""

    title: str
    choice: PairEntry
    dimensions: Sequence[str]
    found: Sequence[_Pair]
    cells: Sequence[tuple[int, int]]
    people: bool = False


def make_pairs(results: Results, *, complete_only: bool = True) -> PairTable:
    """A row for each judge of pairs, context, opponent and dimension, over complete blocks.

    Rows for people follow. Raises UsageError if no judge of the sweep compares pairs and no person
    has labelled any.
    """
    make_scored(results, complete_only, attempts=True)
    judges = [judge for judge in results.manifest.judges if judge.pairs is not None]
    people, notes_on_people = _people(results)
    raters = [*(_judge(results, judge) for judge in judges), *people]
    if not raters:
        known = ", ".join(judge.title for judge in results.manifest.judges) or "none"
        raise UsageError(
            f"no judge of {results.folder} compares pairs (judges: {known}), and people have "
            "labelled none; add `pairwise` or another judge of pairs to `judges:`, or collect "
            "labels with `crsweep annotate`"
        )
    contexts = _contexts(results, raters)
    rows = [row for rater in raters for row in _rows(results, rater, contexts)]
    tested = [index for index, row in enumerate(rows) if row.pairs]
    for index, p in zip(tested, holm([rows[index].p for index in tested]), strict=True):
        rows[index] = replace(rows[index], p_holm=p)
    notes = [
        *origin_notes(results),
        "win, loss and tie are of the baseline, in % of the pairs; a verdict that depends on the "
        "order of the two sides is a tie (order bias)",
        *notes_on_people,
        "p: exact sign test over cases, each counted once over its seeds, ties left out; corrected "
        "by Holm over this table",
    ]
    for judge in judges:
        notes += verdicts.missing(results, judge.title)
    return PairTable(contexts, rows, notes)


def sheet(table: PairTable) -> Sheet:
    """The table for printing; axes with a single value are in a note."""
    judges = {row.judge for row in table.rows}
    people = any(row.split is not None for row in table.rows)
    short = short_labels(label for row in table.rows for label in (row.baseline, row.against))
    contexts = {
        axis: short_labels(row.context[axis] for row in table.rows) for axis in table.contexts
    }
    rows = [
        [
            *([SheetCell(row.judge)] if len(judges) > 1 else []),
            *(SheetCell(contexts[axis].short[row.context[axis]]) for axis in table.contexts),
            SheetCell(short.short[row.baseline]),
            SheetCell(short.short[row.against]),
            SheetCell(row.dimension),
            *(SheetCell(_share(value)) for value in (row.win, row.loss, row.tie)),
            SheetCell(f"{row.pairs:,}" + ("" if row.planned is None else f" of {row.planned:,}")),
            SheetCell(_count_of(row.biased)),
            *([SheetCell(_count_of(row.split))] if people else []),
            *(SheetCell(f"{p:.4f}" if row.pairs else UNDEFINED) for p in (row.p, row.p_holm)),
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
    split = ["split"] if people else []
    figures = ["win", "loss", "tie", "pairs", "order bias", *split, "p", "p (Holm)"]
    return Sheet(labels, figures, rows, [*notes, *table.notes])


def as_csv(table: PairTable) -> str:
    """Full precision; shares in per cent. Empty if no pair was judged, or a value does
    not apply."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    shares = [f"{name}{part}" for name in ("win", "loss", "tie") for part in ("", "_std")]
    counts = ["wins", "losses", "ties", "order_bias", "split", "pairs", "planned", "p", "p_holm"]
    labels = ["judge", *table.contexts, "baseline", "against", "dimension"]
    writer.writerow([*labels, *shares, *counts])
    for row in table.rows:
        cells: list[Any] = [row.judge, *row.context.values(), row.baseline, row.against]
        cells.append(row.dimension)
        for value in (row.win, row.loss, row.tie):
            cells += [value.mean, value.std]
        cells += [row.wins, row.losses, row.ties, row.biased, row.split, row.pairs, row.planned]
        cells += [row.p, row.p_holm] if row.pairs else [None, None]
        writer.writerow(["" if cell is None else cell for cell in cells])
    return out.getvalue()


def _share(value: Value) -> str:
    if value.mean is None:
        return UNDEFINED
    return f"{value.mean:.1f}" + ("" if value.std is None else f" ± {value.std:.1f}")


def _count_of(count: int | None) -> str:
    return UNDEFINED if count is None else f"{count:,}"


def _contexts(results: Results, raters: Sequence[_Rater]) -> list[str]:
    """The axes, other than the compared ones, in which baselines differ."""
    found: dict[str, None] = {}
    for rater in raters:
        choice = rater.choice
        cells = [
            c.axes for c in results.manifest.cells if c.axes.get(choice.axis) == choice.baseline
        ]
        for axis in results.axes:
            if axis != choice.axis and len({cell.get(axis) for cell in cells}) > 1:
                found[axis] = None
    return list(found)


def _judge(results: Results, judge: JudgeEntry) -> _Rater:
    assert judge.pairs is not None
    cells = results.query(
        f"SELECT cell, other FROM plan_pairs WHERE title = {sql_string(judge.title)} "
        "ORDER BY cell, other"
    ).fetchall()
    dimensions = [dimension.name for dimension in judge.dimensions]
    return _Rater(judge.title, judge.pairs, dimensions, _pairs(results, judge.title), cells)


def _people(results: Results) -> tuple[list[_Rater], list[str]]:
    """What people said of pairs: one rater for each axis and baseline, and notes."""
    rows = results.query(
        "SELECT l.judge, l.dimension, s.cell, o.cell, s.source, s.position, r.seed, l.prefix, "
        "l.turn, l.other_reply, list(l.value), list(l.annotator) "
        f"FROM ({sql.read('labels')}) l JOIN scored s USING (attempt_id) "
        "JOIN scored o ON o.attempt_id = l.other_attempt_id "
        "JOIN plan_repetitions r ON r.repetition = s.repetition "
        "GROUP BY ALL ORDER BY ALL"
    ).fetchall()
    groups: dict[tuple[str, str, str], list[tuple[_Pair, str]]] = {}
    annotators: set[str] = set()
    votes: Counter[int] = Counter()
    cells = results.manifest.cells
    for name, dimension, cell, other, source, position, seed, *_, values, voters in rows:
        annotators |= set(voters)
        votes[len(values)] += 1
        label = majority(values)
        result = 0 if label is None else round(2 * label - 1)
        pair = _Pair(cell, other, dimension, source, position, seed, result, label is None)
        one, two = cells[cell].axes, cells[other].axes
        axis = next(axis for axis in results.axes if one.get(axis) != two.get(axis))
        groups.setdefault((name, axis, one[axis]), []).append((pair, two[axis]))
    several = len({name for name, *_ in groups}) > 1
    raters = []
    for (name, axis, baseline), members in groups.items():
        against = list(dict.fromkeys(label for _, label in members))
        choice = PairEntry(of="", axis=axis, baseline=baseline, against=against)
        found = [pair for pair, _ in members]
        dimensions = in_question_order(results, name, {pair.dimension for pair in found})
        compared = sorted({(pair.cell, pair.other) for pair in found})
        title = f"people on {name}" if several else "people"
        raters.append(_Rater(title, choice, dimensions, found, compared, people=True))
    if not raters:
        return [], []
    given = ", ".join(f"{count:,} with {n}" for n, count in sorted(votes.items(), reverse=True))
    note = (
        f"people: {many(len(annotators), 'annotator')} ({given} votes); a pair is won by the label "
        "of more than half of its votes, and without one it is a tie (split); shares are of all "
        "their pairs"
    )
    return raters, [note]


def _rows(results: Results, rater: _Rater, contexts: Sequence[str]) -> Iterator[PairRow]:
    choice = rater.choice
    cells = results.manifest.cells
    groups: dict[tuple[tuple[str, ...], str], list[tuple[int, int]]] = {}
    for cell, other in rater.cells:
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
        chosen = [pair for pair in rater.found if (pair.cell, pair.other) in inside]
        for dimension in rater.dimensions:
            of_it = [pair for pair in chosen if pair.dimension == dimension]
            yield _row(rater, within, against, dimension, of_it, count)


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
    rater: _Rater,
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
    undecided = sum(pair.undecided for pair in found)
    return PairRow(
        rater.title,
        context,
        rater.choice.baseline,
        against,
        dimension,
        *(_shares(found, result, pooled=rater.people) for result in (1, -1, 0)),
        wins=total[1],
        losses=total[-1],
        ties=total[0],
        biased=None if rater.people else undecided,
        split=undecided if rater.people else None,
        planned=None if rater.people else planned,
        p=sign_test(_count(cases.values(), 1), _count(cases.values(), -1)),
    )


def _count(values: Iterable[int], sign: int) -> int:
    return sum(value * sign > 0 for value in values)


def _shares(found: Sequence[_Pair], result: int, *, pooled: bool) -> Value:
    """The share of pairs with this result, in per cent: per seed, then averaged over seeds.

    If `pooled`, over all pairs: people label one repetition of a case, so seeds are not
    repetitions.
    """
    by_seed: dict[int, list[bool]] = {}
    for pair in found:
        by_seed.setdefault(0 if pooled else pair.seed, []).append(pair.result == result)
    per_seed = [(100 * sum(hits) / len(hits), len(hits)) for _, hits in sorted(by_seed.items())]
    return over_seeds(per_seed, deterministic=False)
