"""Notes below a table about missing verdicts, and about values that verdicts leave undefined."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from agents.core.plural import many
from analysis.metrics.core import Metric
from analysis.results import Results
from analysis.sql.verdicts import of_judge, pairs, persuasion, sql_string
from analysis.tables.false_successes import cell_names

if TYPE_CHECKING:
    from analysis.tables.table import TableRow

_CELLS_NAMED = 20
_BOUNDED = ("prs_zero_if_rejected", "ca_over_all")
"""Metrics, x 100, to which dialogues without acceptance contribute 0."""


class _Intentions(NamedTuple):
    """Recommendations of one cell whose three intentions are known."""

    judged: int
    used: int
    equal: int
    over: int
    outside: int
    above: int


def notes(results: Results, metrics: Sequence[Metric], rows: Sequence[TableRow]) -> list[str]:
    """Notes on the judges whose verdicts `metrics` read, over the dialogues in `scored`."""
    wanted = {m.judge.label: m.judge.plugin for m in metrics if m.judge is not None}
    of_pairs = {judge.title for judge in results.manifest.judges if judge.pairs is not None}
    lines: list[str] = []
    intentions: dict[str, dict[int, _Intentions]] = {}
    for label, plugin in wanted.items():
        assert label is not None  # both filled in by `judged_by`
        assert plugin is not None
        lines += missing(results, label)
        lines += _uneven(results, label)
        lines += _labelled(results, plugin)
        if plugin == "intention":
            intentions[label] = _intentions(results, label)
            lines += _persuasion_lines(results, label, intentions[label])
        if label in of_pairs:
            lines += _order_bias(results, label)
    return [*lines, *_impossible(results, metrics, rows, intentions)]


def has_labels_for(results: Results, plugin: str) -> bool:
    """Whether people have answered any question of the judges of this plug-in.

    Asked of the stored rows: the view of judgements joins all of them.
    """
    rows = results.query(
        "SELECT 1 FROM all_judgements WHERE annotator IS NOT NULL AND judge = ? LIMIT 1", [plugin]
    )
    return rows.fetchone() is not None


def by_cell(results: Results, counts: Sequence[int]) -> str:
    """`react 12, zero_shot 9`: a number for each cell of the plan; empty with a single cell."""
    names = cell_names(results)
    if len(names) < 2 or len(names) > _CELLS_NAMED:
        return ""
    return "; ".join(f"{name} {count:,}" for name, count in zip(names, counts, strict=True))


def missing(results: Results, label: str) -> Iterator[str]:
    """How many verdicts on dialogues in `scored` are missing although the judge was asked."""
    rows = results.query(
        "SELECT dimension, count(*), count(*) FILTER (WHERE status = 'unparsed') "
        "FROM judgements j SEMI JOIN scored USING (attempt_id) "
        f"WHERE judge = {sql_string(label)} AND annotator IS NULL AND status <> 'failed' "
        "GROUP BY dimension ORDER BY dimension"
    ).fetchall()
    unparsed = sum(row[2] for row in rows)
    if unparsed:
        which = ", ".join(f"{name} {count:,}" for name, _, count in rows if count)
        yield (
            f"judge {label}: {unparsed:,} of {sum(row[1] for row in rows):,} verdicts are unparsed "
            f"and left out ({which})"
        )
    ((failed,),) = results.query(
        "SELECT count(DISTINCT task_id) FROM judgements j SEMI JOIN scored USING (attempt_id) "
        f"WHERE judge = {sql_string(label)} AND status = 'failed'"
    ).fetchall()
    if failed:
        what = "judgement" if failed == 1 else "judgements"
        yield (
            f"judge {label}: {failed:,} {what} failed, left out; `crsweep status DIR` says how to "
            "run them again"
        )


def _uneven(results: Results, label: str) -> Iterator[str]:
    """That dialogues in `scored` have different numbers of a judge's samples."""
    (wanted,) = (judge.samples for judge in results.manifest.judges if judge.title == label)
    ((read, short),) = results.query(
        "SELECT count(*), count(*) FILTER (WHERE samples < ?) FROM ("
        "SELECT min(samples) AS samples FROM ("
        "SELECT attempt_id, count(DISTINCT sample) AS samples FROM judgements "
        "SEMI JOIN scored USING (attempt_id) "
        f"WHERE judge = {sql_string(label)} AND annotator IS NULL AND status <> 'failed' "
        'GROUP BY attempt_id, other_attempt_id, prefix, "order", turn, item, dimension) '
        "GROUP BY attempt_id)",
        [wanted],
    ).fetchall()
    if short:
        yield (
            f"judge {label}: {short:,} of {read:,} dialogues have fewer than {wanted} samples; "
            "each dialogue counts once, as the mean of those that it has"
        )


def _labelled(results: Results, plugin: str) -> Iterator[str]:
    """That people have labelled dialogues in `scored` for this judge's questions."""
    if not has_labels_for(results, plugin):
        return
    ((found,),) = results.query(
        "SELECT count(DISTINCT attempt_id) FROM judgements SEMI JOIN scored USING (attempt_id) "
        f"WHERE judge = {sql_string(plugin)} AND annotator IS NOT NULL"
    ).fetchall()
    if found:
        yield (
            f"people have labelled {many(found, 'dialogue')} for {plugin}: `crsweep table DIR "
            "--corrected` corrects its metrics by them"
        )


def _intentions(results: Results, label: str) -> dict[int, _Intentions]:
    rows = results.query(
        "SELECT s.cell, count(*), count(*) FILTER (WHERE i_true <> i_pre AND i_post <= i_true), "
        "count(*) FILTER (WHERE i_true = i_pre), "
        "count(*) FILTER (WHERE i_true <> i_pre AND i_post > i_true), "
        "count(*) FILTER (WHERE p < 0 OR p > 1), count(*) FILTER (WHERE p > 1) "
        f"FROM ({of_judge(persuasion(), label)}) v JOIN scored s USING (attempt_id) "
        "GROUP BY s.cell ORDER BY s.cell"
    ).fetchall()
    return {cell: _Intentions(*counts) for cell, *counts in rows}


def _persuasion_lines(results: Results, label: str, found: dict[int, _Intentions]) -> Iterator[str]:
    """How many values persuasiveness has, and how many are undefined or out of range."""
    if not found:
        return
    total = _Intentions(*(sum(counts) for counts in zip(*found.values(), strict=True)))
    yield f"persuasiveness by judge {label}: {_in_words(total)}"
    names = cell_names(results)
    if 1 < len(found) <= _CELLS_NAMED:
        yield from (f"{names[cell]}: {_in_words(counts)}" for cell, counts in found.items())


def _in_words(n: _Intentions) -> str:
    return (
        f"{n.judged:,} recommendations, {n.used:,} used by prs_filtered, {n.equal:,} with i_true = "
        f"i_pre (undefined), {n.over:,} with i_post > i_true; {n.outside:,} outside [0, 1]"
    )


def _order_bias(results: Results, label: str) -> Iterator[str]:
    rows = results.query(
        "SELECT dimension, count(*) FILTER (WHERE order_bias), count(*) "
        f"FROM ({of_judge(pairs(), label)}) p SEMI JOIN scored USING (attempt_id) "
        "GROUP BY dimension ORDER BY dimension"
    ).fetchall()
    biased = [f"{name} {bias:,} of {total:,}" for name, bias, total in rows if bias]
    if biased:
        yield (
            f"judge {label}: verdicts that depend on the order of the two sides count as ties: "
            f"{', '.join(biased)}"
        )


def _impossible(
    results: Results,
    metrics: Sequence[Metric],
    rows: Sequence[TableRow],
    intentions: dict[str, dict[int, _Intentions]],
) -> Iterator[str]:
    """Values above 100 x the success rate, which averages over all dialogues cannot be unless
    dialogues are left out, P exceeds 1, or an acceptance is not a success (see
    `analysis.published.bounds`)."""
    rates = {
        int(m.name.partition("@")[2]): (index, m.name)
        for index, m in enumerate(metrics)
        if _plain_name(m) == "sr" and not m.group
    }
    bounded = [
        (index, m)
        for index, m in enumerate(metrics)
        if m.judge and not m.group and _plain_name(m) in _BOUNDED
    ]
    if not rates or not bounded:
        return
    rate, rate_name = rates[max(rates)]
    names = cell_names(results)
    last_turn: dict[int, int] = dict(
        results.query("SELECT cell, max(max_turns) FROM scored GROUP BY cell").fetchall()
    )
    for cell, row in enumerate(rows):
        bound = row.values[rate].mean
        if bound is None or max(rates) < last_turn.get(cell, 0):
            continue
        for index, metric in bounded:
            value = row.values[index]
            if value.mean is None or value.mean <= 100 * bound + 1e-9:
                continue
            assert metric.judge is not None
            reasons = []
            left_out = row.counted - value.episodes
            if left_out:
                reasons.append(f"left out: {many(left_out, 'episode')}")
            found = intentions.get(metric.judge.label or "", {}).get(cell)
            if found is not None and found.above:
                reasons.append(f"P is above 1 in {many(found.above, 'dialogue')}")
            where = f"{names[cell]}: " if names[cell] else ""
            why = f" ({'; '.join(reasons)})" if reasons else ""
            yield (
                f"{where}{metric.name} {value.mean:.2f} exceeds 100 x {rate_name} = "
                f"{100 * bound:.2f}{why}"
            )


def _plain_name(metric: Metric) -> str:
    return metric.name.partition("@")[0]
