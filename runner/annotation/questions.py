"""The judge whose questions people answer, and these questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from agents.core import plugins
from agents.core.errors import UsageError, near
from agents.core.steps import Step
from simulators.core.judge import JUDGES, Dimension, PairJudge
from sweeps.judges import PairChoice, PlannedJudge, planned_judges, with_pairs
from sweeps.origins import Origins
from sweeps.plan import Plan
from sweeps.schema import JudgeRef

_DEFAULT = "pairwise"
"""The judge of pairs whose questions are asked if neither the sweep nor the command names one."""


class LabelQuestion(NamedTuple):
    """One dimension of a judge, as people are asked about it. Answers are 0, 1, 2, ...
    on a scale."""

    name: str
    text: str
    kind: str
    low: int
    high: int


def questions_of(judge: PlannedJudge) -> list[LabelQuestion]:
    """The questions of a judge, as people are asked them.

    Dimensions of a recommendation are asked one after the other, each about its own units.
    """
    cls = plugins.load(JUDGES, judge.ref.name, "judge")
    return [_question(dimension, cls.steps) for dimension in judge.dimensions]


def _question(dimension: Dimension, steps: Sequence[Step[Any]]) -> LabelQuestion:
    low, high = int(dimension.low), int(dimension.high)
    fields = (
        field
        for step in steps
        for name, field in step.schema["properties"].items()
        if name == dimension.name or (step.name == dimension.name and name != "reason")
    )
    texts = (field["description"] for field in fields if "description" in field)
    kind = dimension.name if dimension.kind == "recommendation" else dimension.kind
    return LabelQuestion(dimension.name, next(texts, dimension.name), kind, low, high)


def find_judge(plan: Plan, pairs: str | None, name: str | None) -> PlannedJudge:
    """The judge whose questions people answer.

    `name` is its label in the sweep, or its plug-in. `pairs` is `AXIS=BASELINE,OPPONENT,...`. With
    it, this is the judge of the sweep that compares these values. A judge of pairs that the sweep
    does not have can be named by its plug-in, and compares whole dialogues; if the sweep has none
    and `name` is None, this is `pairwise`. Raises UsageError.
    """
    known = [judge for judge in plan.judges if name in (None, judge.title)]
    known = known or [judge for judge in plan.judges if name == judge.ref.name]
    outside = None if known or name is None else _judge_of_pairs(plan, name)
    if pairs is None:
        if outside is not None:
            raise UsageError(
                f"the judge {outside} compares pairs; say which: --pairs AXIS=BASELINE,OPPONENT"
            )
        if len(known) == 1:
            return known[0]
        titles = [judge.title for judge in known]
        raise UsageError(
            f"name the judge whose questions people answer: --judge {' or --judge '.join(titles)}"
            if titles
            else "the sweep has no judges; with --pairs AXIS=BASELINE,OPPONENT people compare "
            "dialogues"
        )
    choice = _choice(pairs)
    if outside is not None:
        return _of_dialogues(plan, choice, outside)
    comparing = [judge for judge in known if judge.pairs is not None]
    if name is not None and not comparing:
        raise UsageError(f"the judge {name} does not compare pairs; leave out --pairs")
    asked = _of_dialogues(plan, choice, _DEFAULT)
    return _comparing(asked, comparing) if comparing else asked


def _judge_of_pairs(plan: Plan, name: str) -> str:
    """`name`, if it is the plug-in of a judge of pairs. Raises UsageError otherwise."""
    titles = [judge.title for judge in plan.judges]
    of_pairs = [each for each in plugins.names(JUDGES) if _compares(each)]
    if "." not in name and name not in of_pairs:
        raise UsageError(
            f"the sweep has no judge {name!r}{near(name, [*titles, *of_pairs])} "
            f"(known: {', '.join(titles) or 'none'}; with --pairs also "
            f"{', '.join(each for each in of_pairs if each not in titles)})"
        )
    if not _compares(name):
        raise UsageError(f"the judge {name} does not compare pairs, and the sweep does not have it")
    return name


def _compares(name: str) -> bool:
    cls = plugins.load(JUDGES, name, "judge")
    return isinstance(cls, type) and issubclass(cls, PairJudge)


def _choice(pairs: str) -> PairChoice:
    axis, equals, values = pairs.partition("=")
    named = tuple(value.strip() for value in values.split(","))
    if not (axis and equals) or len(named) < 2 or not all(named):
        raise UsageError(
            f"--pairs {pairs}: expected AXIS=BASELINE,OPPONENT,..., such as agent=desire,intercrs"
        )
    return PairChoice("dialogue", axis.strip(), named[0], named[1:])


def _of_dialogues(plan: Plan, choice: PairChoice, name: str) -> PlannedJudge:
    """The judge of this plug-in, on whole dialogues."""
    origins = Origins({(): "--pairs"})
    given = {"axis": choice.axis, "baseline": choice.baseline, "against": list(choice.against)}
    ref = JudgeRef.model_validate({"name": name, "pairs": choice.of, **given})
    (judge,) = planned_judges([ref], origins)
    return with_pairs(judge, [cell.axes for cell in plan.cells], origins, ())


def _comparing(whole: PlannedJudge, judges: Sequence[PlannedJudge]) -> PlannedJudge:
    """The one of `judges` that compares the same values as `whole`, without its other
    opponents."""
    asked = whole.pairs
    assert asked is not None
    fitting, offers = [], []
    for judge in judges:
        pairs = judge.pairs
        assert pairs is not None
        offers.append(f"{judge.title}: {pairs.axis}={','.join((pairs.baseline, *pairs.against))}")
        same = (pairs.axis, pairs.baseline) == (asked.axis, asked.baseline)
        if same and set(asked.against) <= set(pairs.against):
            fitting.append(replace(judge, pairs=pairs._replace(against=asked.against)))
    if len(fitting) != 1:
        what = "several judges compare" if fitting else "no judge compares"
        raise UsageError(
            f"--pairs {asked.axis}={','.join((asked.baseline, *asked.against))}: {what} these "
            f"(judges: {'; '.join(offers)}); choose one by --judge"
        )
    return fitting[0]
