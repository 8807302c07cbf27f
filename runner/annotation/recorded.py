"""`crsweep annotate import --recorded`: the labels that came with recorded dialogues."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from agents.core.errors import UsageError, near
from analysis.results import Results
from analysis.transcripts import Transcripts
from runner.annotation.importing import Imported, LabelRow, add_labels
from simulators.core.judge import Dimension
from simulators.core.recordings import Label
from sweeps.judges import PlannedJudge
from sweeps.plan import Plan

AGGREGATE = "aggregate"
"""The annotator of labels that a data set aggregated over people."""


class SkippedLabels(NamedTuple):
    """Labels that were not imported."""

    unknown: Counter[str]
    """By dimension: labels that the judge does not score."""
    unplayed: int
    """Labels of dialogues that the folder does not have."""


def import_recorded(
    plan: Plan, title: str | None, annotator: str
) -> tuple[Imported, SkippedLabels]:
    """Adds the labels of the plan's recorded dialogues, as answers to the questions of one judge.

    The judge is `title`, or the only one that scores their dimensions. Raises UsageError.
    """
    labels = [(n, label) for n, s in enumerate(plan.sources) for label in s.domain.labels()]
    if not labels:
        raise UsageError(
            f"{plan.loaded.out}: no labels came with its dialogues; --recorded is for the domain "
            "`recordings`"
        )
    judge = _judge(plan, title, {(_kind(label), label.dimension) for _, label in labels})
    scored = {(dimension.kind, dimension.name): dimension for dimension in judge.dimensions}
    unknown = Counter(
        label.dimension for _, label in labels if (_kind(label), label.dimension) not in scored
    )
    columns = _columns(plan)
    found: list[LabelRow] = []
    unplayed = 0
    for source, label in labels:
        dimension = scored.get((_kind(label), label.dimension))
        if dimension is None:
            continue
        _check(label, dimension)
        about = columns.get((source, label.dialogue_id), [])
        unplayed += not about
        for one in about:
            where = f"{label.dialogue_id}, reply {label.turn}" if label.turn else label.dialogue_id
            filled = {**one, "turn": label.turn}
            found.append(LabelRow(filled, judge.ref.name, label.dimension, label.value, where))
    added = add_labels(plan.loaded.out, found, annotator)
    return Imported(added, len(found) - added, 0), SkippedLabels(unknown, unplayed)


def _kind(label: Label) -> str:
    return "dialogue" if label.turn is None else "turn"


def _judge(plan: Plan, title: str | None, labelled: set[tuple[str, str]]) -> PlannedJudge:
    titles = [judge.title for judge in plan.judges]
    if title is not None and title not in titles:
        raise UsageError(
            f"the sweep has no judge {title!r}{near(title, titles)} "
            f"(known: {', '.join(titles) or 'none'})"
        )
    fitting = [
        judge
        for judge in plan.judges
        if title in (None, judge.title)
        and labelled & {(dimension.kind, dimension.name) for dimension in judge.dimensions}
    ]
    if len({judge.ref.name for judge in fitting}) == 1:
        return fitting[0]
    names = ", ".join(sorted({name for _, name in labelled}))
    if not fitting:
        who = f"the judge {title} scores none" if title else "no judge of the sweep scores any"
        raise UsageError(f"{who} of the labelled dimensions: {names}")
    raise UsageError(
        f"several judges score the labelled dimensions ({names}); choose one by --judge: "
        f"{', '.join(judge.title for judge in fitting)}"
    )


def _check(label: Label, dimension: Dimension) -> None:
    if not dimension.low <= label.value <= dimension.high:
        raise UsageError(
            f"{label.dialogue_id}: {label.dimension}: found {label.value:g}, expected "
            f"{dimension.low:g} to {dimension.high:g}"
        )


def _columns(plan: Plan) -> dict[tuple[int, str], list[dict[str, str | None]]]:
    """Maps (source, dialogue id) to the columns of each attempt with the recorded text."""
    transcripts = Transcripts(Results.open(plan.loaded.out))
    found: dict[tuple[int, str], list[dict[str, str | None]]] = {}
    for head in transcripts.heads.to_pylist():
        columns = {name: head[name] for name in ("episode_id", "attempt_id", "transcript_hash")}
        columns |= {f"other_{name}": None for name in columns}
        columns |= {"prefix": None, "other_reply": None, "item": None}
        found.setdefault((plan.cells[head["cell"]].source, head["case_id"]), []).append(columns)
    return found
