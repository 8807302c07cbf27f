"""What a metric is, and how its name in a sweep file is read.

A metric is a ratio: over the episodes of one cell and one seed, the sum of a numerator by the sum
of a denominator. A mean over episodes has the denominator 1; a pooled share has both. Episodes
whose denominator is NULL or 0 do not define the metric, and are not counted in its n.

- `name@argument`: `sr@5` is the plug-in `sr` with the argument "5".
- Headline metrics count episodes that the agent failed, as whatever the metric makes of them, and
  leave out those that others failed. `sr_completed@5` leaves out all failed episodes.
- A metric on verdicts reads those of one judge, named by its plug-in. Where a sweep has several
  judges of that plug-in, the label comes last: `relevance@strict`, `ca_over_all@4:strict`.
- `sr@5[Active]`: of the users drawn for a group alone (CSI, Table 3). `[overall_macro]` is the
  unweighted mean over all groups that users were drawn for, undefined if one group is;
  `[overall_pooled]` sums over all of them, so that a user drawn for two groups counts twice.
- `sr_clean@5`: a success that the simulated user's own record casts doubt on is none. It is not
  clean if the user named the title that it must not say in an earlier turn, or if its acceptance
  disagreed with the targets. Undefined where users do not record that. `sr_clean_completed@5`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from agents.core import plugins
from agents.core.errors import UsageError, near
from analysis.sql.verdicts import convincing, of_judge, turn_scores
from simulators.core.profiles import GROUPS

METRICS = "analysis.metrics"
_COMPLETED, _CLEAN = "_completed", "_clean"
MACRO, POOLED = "overall_macro", "overall_pooled"
OVERALL = (MACRO, POOLED)
SAME_LIMIT = "CASE WHEN e.max_turns = e.most_turns THEN 1 END"
"""SQL, the denominator of average turns: those under different limits cannot be compared."""


class JudgeWanted(NamedTuple):
    """The judge whose verdicts a metric reads."""

    plugin: str | None
    """None: any judge of pairs."""
    label: str | None = None
    """Which of these judges; None if there is only one."""
    dimension: str | None = None
    """A dimension that the judge must have, if the metric's name contains one."""


class KnownJudge(NamedTuple):
    """A judge of a sweep."""

    title: str
    plugin: str
    dimensions: tuple[str, ...]
    of_pairs: bool = False


@dataclass(frozen=True)
class Metric:
    """SQL over one row `e` of `episodes`, and what tables need to know.

    `per_attempt` is a query with the columns attempt_id, num and den (one row an attempt), for
    metrics that read turns or calls; `numerator` and `denominator` then read `x.num` and `x.den`.
    `of_success` metrics read `e.success_turn` and nothing else that was observed, so that they have
    a variant over clean successes. Metrics on verdicts have `{judge}` in `per_attempt`, where
    `judged_by` puts the label of the judge.
    """

    numerator: str
    denominator: str = "1"
    per_attempt: str | None = None
    better: Literal["higher", "lower"] | None = "higher"
    digits: int = 3
    needs_probe: bool = False
    depth: int = 0
    """How many items of a ranking it reads. A sweep stores rankings as deep as its deepest
    metric, and the rank of the target exactly."""
    of_success: bool = False
    most: float | None = None
    """For a rate: the value of an episode with a success (1, or 100 for per cent);
    others count 0."""
    is_share: bool = False
    """Whether it is between 0 and 1, without being a rate of episodes."""
    judge: JudgeWanted | None = None
    against: int | None = None
    """The position in the plan of the cell that it compares with."""
    undefined: str = ""
    """The episodes for which it is undefined, in words."""
    name: str = ""
    completed_only: bool = False
    clean: bool = False
    group: str = ""
    """The group of users it covers, or one of `OVERALL`; empty for all users."""

    @property
    def highest(self) -> float | None:
        """What no mean of it can exceed, where that is known; none is then below 0."""
        return 1.0 if self.is_share else self.most


def parse_metric(text: str) -> Metric:
    """The metric that `text` names. Raises UsageError with an example or a near match."""
    plain, group = split_group(text)
    name, at, argument = plain.partition("@")
    completed = name.endswith(_COMPLETED)
    name = name.removesuffix(_COMPLETED)
    clean = name.endswith(_CLEAN)
    name = name.removesuffix(_CLEAN)
    _refuse_unknown(name, text)
    make = plugins.load(METRICS, name, "metric")
    metric = make(argument if at else None) if callable(make) else None
    if not isinstance(metric, Metric):
        raise UsageError(f"metric {text!r}: {name!r} is not a metric")
    if clean and not metric.of_success:
        raise UsageError(
            f"metric {text!r}: only metrics of success have a variant over clean successes "
            "(sr_clean@5, at_fail_t_clean)"
        )
    return replace(metric, name=text, completed_only=completed, clean=clean, group=group)


def part_of_dialogue(parts: int) -> str:
    """SQL: in which of `parts` equal parts of its dialogue, from 1, a turn is, by its middle.

    Of a row `t` of `turns` with its episode `e`. Turn i of n is in part k of m if
    (k - 1)/m <= (i - 1/2)/n < k/m, so that of two turns the first is in the first third and the
    second in the last.
    """
    return f"(2 * t.turn - 1) * {parts} // (2 * e.turns) + 1"


def groups_by(kinds: Iterable[str]) -> list[str]:
    """The groups of users by `kinds` (openness, style). Raises UsageError for an unknown kind."""
    groups: list[str] = []
    for kind in dict.fromkeys(kinds):
        if kind not in GROUPS:
            raise UsageError(
                f"found no groups by {kind!r}{near(kind, GROUPS)} (known: {', '.join(GROUPS)})"
            )
        groups += GROUPS[kind]
    return groups


def by_group(metrics: Iterable[str], kinds: Iterable[str], *, compared: bool = False) -> list[str]:
    """Each of `metrics` for each group by `kinds`, and over all groups.

    Without `overall_macro` where they are `compared`: a mean of groups is not one over cases.
    UsageError for an unknown kind, and for a metric that names a group already.
    """
    groups = [*groups_by(kinds), *((POOLED,) if compared else OVERALL)]
    found = []
    for metric in metrics:
        if split_group(metric)[1]:
            raise UsageError(f"metric {metric!r} names a group already; leave --by out")
        found += [f"{metric}[{group}]" for group in groups]
    return found


def split_group(text: str) -> tuple[str, str]:
    """The metric without its group, and the group; UsageError for an unknown group."""
    plain, opened, rest = text.partition("[")
    if not opened:
        return text, ""
    known = [*(group for groups in GROUPS.values() for group in groups), *OVERALL]
    group = rest.removesuffix("]")
    if not rest.endswith("]") or group not in known:
        raise UsageError(
            f"metric {text!r}: found the group {group!r}{near(group, known)}; expected one of "
            f"{', '.join(known)} in brackets"
        )
    return plain, group


def of_sweep(metric: Metric, judges: Iterable[KnownJudge], cells: int) -> Metric:
    """`judged_by`, for a sweep with so many cells. Raises UsageError also if `metric` compares with
    a cell that there is not."""
    if metric.against is not None and metric.against >= cells:
        raise UsageError(
            f"metric {metric.name!r}: there is no cell {metric.against}; the sweep has {cells:,}, "
            "counted from 0"
        )
    return judged_by(metric, judges)


def judged_by(metric: Metric, judges: Iterable[KnownJudge]) -> Metric:
    """`metric`, reading the verdicts of the judge it needs, one of `judges`.

    Other metrics are returned unchanged. Raises UsageError if there is no such judge, if there are
    several and none is named, and if the judge lacks the dimension.
    """
    wanted = metric.judge
    if wanted is None:
        return metric
    if wanted.plugin is None:
        able = [judge for judge in judges if judge.of_pairs]
        # Of several, the one that is asked about the dimension.
        able = [judge for judge in able if wanted.dimension in judge.dimensions] or able
    else:
        able = [judge for judge in judges if judge.plugin == wanted.plugin]
    titles = [judge.title for judge in able]
    if wanted.label is not None:
        able = [judge for judge in able if judge.title == wanted.label]
    if not able:
        which = "a judge of pairs" if wanted.plugin is None else f"the judge {wanted.plugin!r}"
        if wanted.label is not None and titles:
            which += f" with the label {wanted.label!r}{near(wanted.label, titles)}"
        raise UsageError(
            f"metric {metric.name!r} reads the verdicts of {which}, which is not in `judges:`"
        )
    if len(able) > 1:
        example = f"{metric.name}{':' if '@' in metric.name else '@'}{titles[0]}"
        of_what = "compare pairs"
        if wanted.plugin is not None:
            of_what = f"are of the plug-in {wanted.plugin!r}"
        raise UsageError(
            f"metric {metric.name!r}: several judges {of_what} ({', '.join(titles)}); name one of "
            f"them: {example}"
        )
    (judge,) = able
    if wanted.dimension is not None and wanted.dimension not in judge.dimensions:
        raise UsageError(
            f"metric {metric.name!r}: the judge {judge.title!r} has no dimension "
            f"{wanted.dimension!r}{near(wanted.dimension, judge.dimensions)} "
            f"(dimensions: {', '.join(judge.dimensions)})"
        )
    assert metric.per_attempt is not None
    return replace(
        metric,
        per_attempt=of_judge(metric.per_attempt, judge.title),
        judge=wanted._replace(plugin=judge.plugin, label=judge.title),
    )


def _refuse_unknown(name: str, text: str) -> None:
    """UsageError for a name that no metric has.

    One that has several definitions (`dsr`) is refused with all of theirs.
    """
    known = plugins.names(METRICS)
    if name in known or "." in name:
        return
    variants = [other for other in known if name and other.startswith(f"{name}_")]
    if variants:
        raise UsageError(
            f"no metric is called {text!r}: it has several definitions, each with its own name "
            f"({', '.join(variants)})"
        )
    raise UsageError(
        f"no metric is called {name!r}{near(name, known)} (docs/results.md, Metrics, explains all "
        f"{len(known)} of them, such as sr@5, at_fail_plus_1, recall@10 and tokens)"
    )


def turn_mean(plugin: str, dimensions: Iterable[str], label: str | None) -> Metric:
    """The mean over the turns of a dialogue, then over dialogues, of a judge's `dimensions`."""
    return Metric(
        "x.score",
        "CASE WHEN x.score IS NOT NULL THEN 1 END",
        per_attempt=turn_scores(dimensions),
        digits=2,
        judge=JudgeWanted(plugin, label),
    )


def convincing_acceptance(metric: str, argument: str | None, over: str, undefined: str) -> Metric:
    """Convincing acceptance, x 100, over the dialogues of which the SQL `over` holds.

    Undefined for agents that speak in fixed sentences: the papers have none for them.
    """
    threshold, label = with_label(argument, metric, "4")
    tau = float(threshold) if re.fullmatch(r"\d(\.\d{1,4})?", threshold, re.ASCII) else 0.0
    if not 1 <= tau <= 5:
        raise UsageError(
            f"metric '{metric}@{argument}': found a threshold of {threshold!r}, expected a score "
            f"from 1 to 5, such as {metric}@4 or {metric}@3.5"
        )
    # Means of means of whole numbers may miss the threshold by a rounding error.
    convinced = f"x.right_item AND x.credibility >= {tau - 1e-9!r}"
    return Metric(
        f"CASE WHEN {convinced} THEN 100 ELSE 0 END",
        f"CASE WHEN {over} AND NOT x.fixed_sentences "
        "AND (NOT x.right_item OR x.credibility IS NOT NULL) THEN 1 END",
        per_attempt=convincing(),
        digits=2,
        most=100,
        judge=JudgeWanted("credibility", label),
        undefined=undefined,
    )


def positive(argument: str | None, metric: str, what: str) -> int:
    """`argument` as a whole number of at least 1; UsageError with an example."""
    if argument is None or not re.fullmatch(r"[1-9][0-9]{0,5}", argument):
        found = metric if argument is None else f"{metric}@{argument}"
        raise UsageError(f"metric {found!r}: expected {what}, such as {metric}@5")
    return int(argument)


def label_only(argument: str | None, metric: str) -> str | None:
    """The label of a judge, for metrics that take no other argument; UsageError if it is empty."""
    if argument == "":
        raise UsageError(f"metric '{metric}@': expected the label of a judge after the @, or no @")
    return argument


def with_label(argument: str | None, metric: str, example: str) -> tuple[str, str | None]:
    """`argument` as a value and the label of a judge, after a colon; UsageError with an example."""
    value, colon, label = (argument or "").partition(":")
    if not value or (colon and not label):
        found = metric if argument is None else f"{metric}@{argument}"
        raise UsageError(
            f"metric {found!r}: expected, for example, {metric}@{example}, or "
            f"{metric}@{example}:LABEL for one of several judges"
        )
    return value, label or None


def no_argument(argument: str | None, metric: str) -> None:
    """Refuses an argument where a metric takes none."""
    if argument is not None:
        raise UsageError(f"metric '{metric}@{argument}': {metric} takes no argument")
