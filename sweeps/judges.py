"""The judges of a plan, their identities, and the dialogues that they compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from agents.core import plugins
from agents.core.errors import near
from simulators.core.judge import JUDGES, Dimension, PairJudge
from sweeps import identity
from sweeps.origins import Origins
from sweeps.schema import JudgeRef
from sweeps.speakers import speaker

RECIPE = 2
"""Version of the ids of judgements, part of each. It is raised when old ids no longer mean the
same.

2: the reply form that every prompt contains is worded differently.
"""


@dataclass(frozen=True)
class PlannedJudge:
    """A judge of a plan. `identity` is the plug-in's: name, version, options, prompts."""

    title: str
    ref: JudgeRef
    identity: Mapping[str, Any]
    roles: tuple[str, ...]
    """Its roles."""
    dimensions: tuple[Dimension, ...]
    pairs: PairChoice | None
    """The dialogues it compares; None for a judge of single dialogues."""
    digest: str = ""
    """Hex BLAKE2b-128 of the judge with its models; empty until these are known."""

    @property
    def role(self) -> str:
        return f"judge.{self.title}"

    def with_models(self, models: Mapping[str, Any]) -> PlannedJudge:
        """The judge with its digest, given `models` (role -> declared model)."""
        spoken = [models[role] for role in self.roles]
        found = {"recipe": RECIPE, "judge": self.identity, "models": spoken}
        return replace(self, digest=identity.digest(found))


class PairChoice(NamedTuple):
    """Pairs of cells that differ in one axis only: `baseline` with each of `against`."""

    of: str
    """`response` or `dialogue`."""
    axis: str
    baseline: str
    against: tuple[str, ...]


def planned_judges(refs: Sequence[JudgeRef], origins: Origins) -> list[PlannedJudge]:
    """Checks the judges of a sweep file. Raises UsageError."""
    found: list[PlannedJudge] = []
    for index, ref in enumerate(refs):
        at = ("judges", index)
        cls, what = speaker(ref, JUDGES, "judge", origins, at)
        if any(ref.title == other.title for other in found):
            raise origins.refuse(
                at, f"{ref.title!r} is listed twice; give one of them another `label`"
            )
        options = plugins.build_options(cls.Options, ref.options)
        role = f"judge.{ref.title}"
        pairs = None
        if issubclass(cls, PairJudge):
            pairs = PairChoice(options.pairs, options.axis, options.baseline, options.against)
        found.append(
            PlannedJudge(
                ref.title,
                ref,
                what,
                tuple(role + own.removeprefix("judge") for own in cls.roles),
                cls.dimensions(options),
                pairs,
            )
        )
    return found


def with_pairs(
    judge: PlannedJudge, cells: Sequence[Mapping[str, str]], origins: Origins, at: Sequence[Any]
) -> PlannedJudge:
    """The judge with the compared values as named by the cells (axis -> label).

    A value may be a label without its options (`react` for `react(max_thoughts=2)`). Raises
    UsageError if there are no such cells.
    """
    choice = judge.pairs
    if choice is None:
        return judge
    axes = list(dict.fromkeys(axis for cell in cells for axis in cell))
    if choice.axis not in axes:
        raise origins.refuse(
            (*at, "axis"),
            f"the grid has no axis {choice.axis!r}{near(choice.axis, axes)} "
            f"(its axes: {', '.join(axes) or 'none'})",
        )
    labels = list(dict.fromkeys(cell[choice.axis] for cell in cells))

    def label(value: str, option: str) -> str:
        found = [one for one in labels if one == value]
        found = found or [one for one in labels if one.partition("(")[0] == value]
        if len(found) != 1:
            what = "has no value" if not found else "has several values called"
            raise origins.refuse(
                (*at, option),
                f"{choice.axis} {what} {value!r}{'' if found else near(value, labels)} "
                f"(its values: {', '.join(labels)})",
            )
        return found[0]

    baseline = label(choice.baseline, "baseline")
    against = tuple(label(value, "against") for value in choice.against)
    if baseline in against:
        raise origins.refuse(
            (*at, "against"), f"expected opponents only, found {baseline!r}, which is the baseline"
        )
    return replace(judge, pairs=choice._replace(baseline=baseline, against=against))


def opponents(choice: PairChoice, cells: Sequence[Mapping[str, str]]) -> dict[int, list[int]]:
    """The position of each baseline cell -> the positions of its opponents."""
    rest = [
        tuple(sorted((axis, label) for axis, label in cell.items() if axis != choice.axis))
        for cell in cells
    ]
    at = {(cell[choice.axis], rest[index]): index for index, cell in enumerate(cells)}
    return {
        index: [at[other, rest[index]] for other in choice.against if (other, rest[index]) in at]
        for index, cell in enumerate(cells)
        if cell[choice.axis] == choice.baseline
    }
