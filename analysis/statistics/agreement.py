"""How far judges and people agree, and people with each other.

- A unit is the subject of labels: a turn, an item at a turn, a dialogue, or a pair. Units with one
  label say nothing about agreement and are left out.
- The majority is the label given by more than half of a unit's annotators. A unit without one
  (three annotators, one vote each) is `split`.
- Labels of pairs (win, tie, loss) and decisions are categories; others are ordered, on the judge's
  scale.
- Decisions are compared with that of the simulated user, in three dimensions (CSI, appendix D): the
  three labels; whether an item was accepted (`sr`); whether one above the budget was (`swr`).
"""

from __future__ import annotations

import csv
import io
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

import numpy as np

from agents.core.errors import UsageError, near
from analysis import sql
from analysis.results import Results
from analysis.sql.verdicts import judged_labels, of_judge
from analysis.statistics.draws import in_question_order
from analysis.tables.sheets import UNDEFINED, Sheet, SheetCell
from analysis.tables.table_notes import watermarks
from sweeps.judgements import DECISION, DECISION_VALUES, DECISIONS

MAJORITY = "majority"
JUDGE: Final = "judge"
SIMULATOR: Final = "simulator"
"""The simulated user, whose decisions are compared with those of people (CSI, Figure 6)."""

UnitKey = tuple[Any, ...]
Coefficient = float | Literal["undefined"] | None
"""None where a figure does not apply."""


class Labels(NamedTuple):
    """What raters said of the units of one dimension."""

    kind: Literal["pair", "scale", "decision"]
    by_rater: Mapping[str, Mapping[UnitKey, float]]


@dataclass(frozen=True)
class AgreementRow:
    """Two raters in one dimension, or all annotators.

    `judge` is the title of a judge, or, for people, the name of the judge whose questions they
    answered.
    """

    judge: str
    dimension: str
    first: str
    second: str
    units: int
    """Labelled by both; of all annotators, by at least two of them."""
    equal: Coefficient
    """Share of equal labels; of all annotators, of their pairs of labels."""
    kappa: Coefficient
    alpha: Coefficient
    spearman: Coefficient
    split: int | None = None
    """Units without a majority, which are not among `units`."""


@dataclass(frozen=True)
class AgreementTable:
    rows: list[AgreementRow]
    notes: list[str]


def make_agreement(results: Results, title: str | None = None) -> AgreementTable:
    """Rows for each judge and dimension that people labelled too, then rows among people.

    With `title`, only for that judge, which the sweep may also lack, if people have answered its
    questions. Raises UsageError if there is no such judge, or if there are no labels by people.
    """
    judges = results.manifest.judges
    titles = [judge.title for judge in judges]
    people = _people(results)
    known = list(dict.fromkeys([*titles, *people]))
    if title == DECISIONS and title not in known:
        raise UsageError(
            f"{results.folder} has no decisions of people; collect some with `crsweep annotate "
            "export --decisions`"
        )
    if title is not None and title not in known:
        raise UsageError(
            f"the sweep has no judge {title!r}{near(title, known)} "
            f"(known: {', '.join(known) or 'none'})"
        )
    if not people:
        raise UsageError(
            f"{results.folder} has no labels by people; collect some with `crsweep annotate`"
        )
    rows: list[AgreementRow] = []
    decided = people.pop(DECISIONS, {}).get(DECISION)
    chosen = [judge for judge in judges if title in (None, judge.title) and judge.name in people]
    for judge in chosen:
        said = _judged(results, judge.title)
        for dimension, labels in people[judge.name].items():
            rows += _with_judge(judge.title, dimension, said.get(dimension, {}), labels)
    answered = {judge.name for judge in chosen}
    if title is not None and title not in titles:
        answered.add(title)
    for name, dimensions in people.items():
        if title is None or name in answered:
            for dimension, labels in dimensions.items():
                rows += _among_people(name, dimension, labels)
    if title is not None and not answered:
        raise UsageError(f"there are no labels by people of what the judge {title!r} judges")
    if decided is not None and title in (None, DECISIONS):
        rows += _decisions(results, decided.by_rater)
    if not rows:
        raise UsageError(
            f"{results.folder}: there is nothing to compare: one person has labelled what no judge "
            "of the sweep judges; import the labels of another person"
        )
    return AgreementTable(rows, [*_NOTES, *watermarks(results)])


_NOTES = (
    "n: units that both have labelled. equal: share of equal labels. kappa: Cohen's. alpha: "
    "Krippendorff's, ordinal for scales and nominal otherwise",
    "undefined: a rater, or for alpha all of them, gives one label only",
    "majority: the label of more than half of a unit's annotators; units without one are split",
)


def agreement(first: Sequence[float], second: Sequence[float], kind: str) -> dict[str, Coefficient]:
    """`equal`, `kappa`, `alpha` and `spearman` of two raters with a label each for every unit.

    Kappa and Spearman's rank correlation are undefined if one of them gives only one label.
    """
    from scipy.stats import spearmanr

    a, b = np.asarray(first, float), np.asarray(second, float)
    found: dict[str, Coefficient] = dict.fromkeys(("equal", "kappa", "alpha"), "undefined")
    found["spearman"] = "undefined" if kind == "scale" else None
    if not len(a):
        return found
    observed = float((a == b).mean())
    found |= {"equal": observed, "alpha": alpha(np.stack([a, b]), kind)}
    labels = np.union1d(a, b)
    if len(np.unique(a)) > 1 and len(np.unique(b)) > 1:
        expected = sum(float((a == label).mean() * (b == label).mean()) for label in labels)
        found["kappa"] = (observed - expected) / (1 - expected)
        if kind == "scale":
            found["spearman"] = float(spearmanr(a, b)[0])  # type: ignore[arg-type]
    return found


def alpha(ratings: np.ndarray, kind: str) -> Coefficient:
    """Krippendorff's alpha of raters x units; NaN where a rater has no label."""
    import krippendorff

    paired = ratings[:, (~np.isnan(ratings)).sum(axis=0) > 1]
    if len(np.unique(paired[~np.isnan(paired)])) < 2:
        return "undefined"
    level = "ordinal" if kind == "scale" else "nominal"
    return float(krippendorff.alpha(reliability_data=paired, level_of_measurement=level))


def majority(votes: Iterable[float]) -> float | None:
    """The label of more than half of `votes`, None if there is none."""
    count = Counter(votes)
    label, most = count.most_common(1)[0]
    return label if 2 * most > count.total() else None


def majorities(by_rater: Mapping[str, Mapping[UnitKey, float]]) -> dict[UnitKey, float | None]:
    """The majority of each unit that several have labelled; None where they are split."""
    votes: dict[UnitKey, list[float]] = {}
    for labels in by_rater.values():
        for unit, value in labels.items():
            votes.setdefault(unit, []).append(value)
    return {unit: majority(given) for unit, given in votes.items() if len(given) > 1}


def _people(results: Results) -> dict[str, dict[str, Labels]]:
    """Name of a judge -> dimension, in the order of its questions -> what people said."""
    found: dict[str, dict[str, Labels]] = {}
    for *unit, dimension, judge, annotator, value in results.query(sql.read("labels")).fetchall():
        kind = DECISION if judge == DECISIONS else "pair" if unit[1] is not None else "scale"
        labels = found.setdefault(judge, {}).setdefault(dimension, Labels(kind, {}))
        labels.by_rater.setdefault(annotator, {})[tuple(unit)] = value  # type: ignore[index]
    return {
        name: {dimension: said[dimension] for dimension in in_question_order(results, name, said)}
        for name, said in found.items()
    }


def _judged(results: Results, title: str) -> dict[str, dict[UnitKey, float]]:
    """Dimension -> unit -> the judge's label, of dialogues that people labelled."""
    rows = results.query(
        f"SELECT * FROM ({of_judge(judged_labels(), title)}) SEMI JOIN "
        "(SELECT attempt_id FROM judgements WHERE annotator IS NOT NULL) USING (attempt_id)"
    ).fetchall()
    found: dict[str, dict[UnitKey, float]] = {}
    for *unit, dimension, value in rows:
        found.setdefault(dimension, {})[tuple(unit)] = value
    return found


def _decisions(
    results: Results, by_rater: Mapping[str, Mapping[UnitKey, float]]
) -> list[AgreementRow]:
    """The simulated user and people, then people, in each of the dimensions of decisions."""
    rows = results.query(
        f"SELECT attempt_id, turn, over_budget FROM ({sql.read('acceptances')}) "
        "SEMI JOIN judgements USING (attempt_id) WHERE over_budget IS NOT NULL"
    ).fetchall()
    simulated = {
        (attempt, None, None, turn, None, None): float(DECISION_VALUES[_accepted(over)])
        for attempt, turn, over in rows
    }
    said = {
        dimension: (
            {unit: as_label(value) for unit, value in simulated.items()},
            Labels(
                DECISION,
                {
                    rater: {unit: as_label(value) for unit, value in given.items()}
                    for rater, given in by_rater.items()
                },
            ),
        )
        for dimension, as_label in _DECIDED.items()
    }
    found: list[AgreementRow] = []
    for dimension, (simulator, labels) in said.items():
        found += _with_judge(DECISIONS, dimension, simulator, labels, SIMULATOR)
    for dimension, (_, labels) in said.items():
        found += _among_people(DECISIONS, dimension, labels)
    return found


def _accepted(over_budget: bool) -> str:
    return "accept persuasion" if over_budget else "accept recommendation"


_DECIDED: Mapping[str, Callable[[float], float]] = {
    DECISION: float,
    "sr": lambda value: float(value != DECISION_VALUES["reject"]),
    "swr": lambda value: float(value == DECISION_VALUES["accept persuasion"]),
}
"""The label in each dimension, from that of `decision`."""


def _with_judge(
    title: str,
    dimension: str,
    judge: Mapping[UnitKey, float],
    labels: Labels,
    rater: str = JUDGE,
) -> Iterator[AgreementRow]:
    for annotator, given in labels.by_rater.items():
        yield _row(title, dimension, (rater, annotator), judge, given, labels.kind)
    if len(labels.by_rater) > 1:
        votes = {u: v for u, v in majorities(labels.by_rater).items() if u in judge}
        agreed = {unit: value for unit, value in votes.items() if value is not None}
        split = len(votes) - len(agreed)
        yield _row(title, dimension, (rater, MAJORITY), judge, agreed, labels.kind, split)


def _among_people(name: str, dimension: str, labels: Labels) -> Iterator[AgreementRow]:
    by_rater = labels.by_rater
    if len(by_rater) < 2:
        return
    for pair in itertools.combinations(by_rater, 2):
        first, second = (by_rater[annotator] for annotator in pair)
        yield _row(name, dimension, pair, first, second, labels.kind)
    if len(by_rater) > 2:
        yield _all_annotators(name, dimension, labels)


def _row(
    judge: str,
    dimension: str,
    raters: tuple[str, str],
    first: Mapping[UnitKey, float],
    second: Mapping[UnitKey, float],
    kind: str,
    split: int | None = None,
) -> AgreementRow:
    units = [unit for unit in first if unit in second]
    figures = agreement([first[u] for u in units], [second[u] for u in units], kind)
    return AgreementRow(judge, dimension, *raters, units=len(units), **figures, split=split)


def _all_annotators(name: str, dimension: str, labels: Labels) -> AgreementRow:
    by_rater = labels.by_rater
    voted = majorities(by_rater)
    ratings = np.array([[given.get(unit, np.nan) for unit in voted] for given in by_rater.values()])
    pairs = [
        (a[unit], b[unit])
        for a, b in itertools.combinations(by_rater.values(), 2)
        for unit in a
        if unit in b
    ]
    return AgreementRow(
        name,
        dimension,
        "people",
        f"all {len(by_rater)}",
        units=len(voted),
        equal=sum(a == b for a, b in pairs) / len(pairs) if pairs else "undefined",
        kappa=None,
        alpha=alpha(ratings, labels.kind) if pairs else "undefined",
        spearman=None,
        split=sum(value is None for value in voted.values()),
    )


def sheet(table: AgreementTable) -> Sheet:
    """The table as it is printed."""
    rows = [
        [
            *(SheetCell(text) for text in (row.judge, row.dimension, row.first, row.second)),
            SheetCell(f"{row.units:,}"),
            *(SheetCell(_shown(f)) for f in (row.equal, row.kappa, row.alpha, row.spearman)),
            SheetCell(UNDEFINED if row.split is None else f"{row.split:,}"),
        ]
        for row in table.rows
    ]
    return Sheet(_LABELS, ["n", "equal", "kappa", "alpha", "Spearman", "split"], rows, table.notes)


def as_csv(table: AgreementTable) -> str:
    """Full precision; empty where a figure does not apply."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*_LABELS, "n", "equal", "kappa", "alpha", "spearman", "split"])
    for row in table.rows:
        cells: list[Any] = [row.judge, row.dimension, row.first, row.second, row.units]
        cells += [row.equal, row.kappa, row.alpha, row.spearman, row.split]
        writer.writerow(["" if cell is None else cell for cell in cells])
    return out.getvalue()


_LABELS = ["judge", "dimension", "between", "and"]


def _shown(figure: Coefficient) -> str:
    if figure is None:
        return UNDEFINED
    return figure if isinstance(figure, str) else f"{figure:.3f}"
