"""`crsweep compare`: differences between the values of an axis."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console

from agents.core.plural import many
from analysis.metrics.core import by_group
from analysis.results import Results
from analysis.statistics import draws
from analysis.statistics.compare import Comparison, Ties, compare_all
from analysis.statistics.components import advice
from analysis.statistics.corrected import labels_of_people
from analysis.statistics.prediction_powered import Corrected
from analysis.statistics.scores import partners
from analysis.tables import false_successes
from analysis.tables.labels import short_labels
from analysis.tables.table_notes import watermarks


def show_comparison(
    folder: str,
    *,
    axis: str,
    metrics: Sequence[str],
    baseline: str | None,
    console: Console,
    by: Sequence[str] = (),
) -> None:
    """Prints every pair of values of an axis, or each against the baseline, with interval and test.

    With `by`, each metric is compared within each group of users and pooled over all groups; Holm's
    correction is over all comparisons.
    """
    results = Results.open(folder)
    names = metrics or results.manifest.metrics[:1]
    names = by_group(names, by, compared=True) if by else names
    compared = compare_all(results, names, axis, baseline)
    labels = short_labels(
        label for found in compared.found for label in (found.first, found.second)
    )
    # The verdict first: what follows supports it.
    lines = [_tied(ties, labels.short) for ties in compared.ties]
    people = labels_of_people(results, [found.metric for found in compared.found])
    for found in compared.found:
        lines += _lines(found, labels.short)
        if found.metric in people:
            pairs = partners(results, axis, found.first, found.second)
            lines.append(_corrected(people[found.metric].difference(pairs)))
    if people:
        lines += draws.remarks(results)
    if any(found.few_seeds for found in compared.found):
        lines.append(
            "! trained components differ between seeds, and there are too few seeds to generalise "
            "beyond them: the interval has S - 1 degrees of freedom"
        )
    left_out = [f"left out above: {options}" for options in labels.left_out]
    for line in [
        *lines, *left_out, *compared.notes, *watermarks(results), *false_successes.notes(results)
    ]:  # fmt: skip
        console.print(line, markup=False, soft_wrap=True)


def _lines(found: Comparison, short: Mapping[str, str]) -> Iterator[str]:
    correlation = "n/a" if found.correlation is None else f"{found.correlation:.2f}"
    holm = f", Holm {found.p_holm:.4f}" if found.p_holm != found.p else ""
    few = " !" if found.few_seeds else ""
    known = not math.isnan(found.low)
    interval = f"[{found.low:+.3f}, {found.high:+.3f}]" if known else "n/a"
    yield (
        f"{found.metric}: {found.axis} {short[found.first]} - {short[found.second]} = "
        f"{found.difference:+.3f}, 95 % interval {interval}{few} "
        f"({found.interval}, {many(found.cases, 'case')}), p = {found.p:.4f}{holm} ({found.test}), "
        f"correlation over cases {correlation}"
    )
    parts = [f"{found.first_mean:.3f} against {found.second_mean:.3f}"]
    if found.effect is not None:
        parts.append(f"d_z {found.effect:+.2f}")
    if found.effect_h is not None:
        parts.append(f"Cohen's h {found.effect_h:+.2f}")
    if found.error is not None:
        parts.append(f"bootstrap over cases [{found.boot_low:+.3f}, {found.boot_high:+.3f}]")
        parts.append(f"error clustered by case {found.error:.4f}")
    yield f"  {', '.join(parts)}"
    if found.counted < found.planned:
        yield f"  {found.counted:,} of {found.planned:,} planned pairs of episodes{_bounds(found)}"
    if found.variance is not None:
        shares = _shares(found)
        if shares:
            yield f"  {shares}; {advice(found.variance, shared=found.shared)}"


def _corrected(found: Corrected | None) -> str:
    if found is None:
        return "  fewer than two cases are labelled by people on both sides: not corrected"
    return (
        f"  corrected by labels of people {found.corrected:+.3f}, 95 % interval "
        f"[{found.low:+.3f}, {found.high:+.3f}] (prediction-powered, t over cases), judge alone "
        f"{found.raw:+.3f}, people alone {found.people:+.3f}, L {found.weight:.2f}; "
        f"{found.labelled:,} of {found.episodes:,} pairs of episodes are labelled"
    )


def _bounds(found: Comparison) -> str:
    if found.bounds is None:
        return ""
    holds = found.bounds.conclusion_holds
    verdict = "the conclusion is the same" if holds else "the conclusion CHANGES"
    return (
        f"; difference if the missing ones all failed {found.bounds.if_failed:+.3f}, if they all "
        f"succeeded {found.bounds.if_succeeded:+.3f}: {verdict}"
    )


def _shares(found: Comparison) -> str:
    """The shares of a pair's variance by source; empty if nothing varies."""
    variance = found.variance
    total = 0.0 if variance is None else variance.case + variance.seed + variance.rest
    if variance is None or total == 0:
        return ""
    if variance.seeds == 1:
        return "one seed: variance between cases and variance within a case cannot be separated"
    case, seed, rest = (100 * v / total for v in (variance.case, variance.seed, variance.rest))
    return (
        f"variance of a pair's difference: case {case:.0f} %, seed {seed:.0f} %, interaction "
        f"and chance {rest:.0f} %"
    )


def _tied(ties: Ties, short: Mapping[str, str]) -> str:
    tied = ", ".join(short[value] for value in ties.tied)
    return f"{ties.metric}: best is {short[ties.best]}; " + (
        f"tied with it (not significantly different after Holm): {tied}"
        if tied
        else "no other value is tied with it"
    )
