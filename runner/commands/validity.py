"""`crsweep validity`: how far the simulated users of a sweep can be trusted."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from analysis.metrics.core import by_group
from analysis.results import Results
from analysis.statistics import validity
from analysis.statistics.validity import Behaviour
from analysis.tables import sheets
from simulators.core.profiles import GROUPS

PEOPLE = "people"


def show_validity(
    folder: str,
    *,
    axes: Sequence[str],
    metric: str | None,
    rank: str,
    people: str | None,
    format: str,
    console: Console,
) -> None:
    """Prints what users did, words by turn, the components of variance, and how agents are ranked.

    There is a row for each value of `axes`, by default those that define the user; `axes` may also
    name kinds of groups (openness, style). `people` is the folder of recorded dialogues of people,
    shown in a separate row; agents are ranked along the axis `rank`. Raises UsageError.
    """
    results = Results.open(folder)
    validity.check_has_dialogues(results)
    kinds = [name for name in axes if name in GROUPS and name not in results.axes]
    chosen = [name for name in axes if name not in kinds]
    by = validity.groups(results, chosen or validity.user_axes(results))
    found = validity.behaviour_by(results, by, kinds) if kinds else validity.behaviour(results, by)
    recorded = None
    if people is not None:
        recorded = Results.open(people)
        validity.check_has_dialogues(recorded)
        found += validity.behaviour(recorded, {PEOPLE: range(len(recorded.manifest.cells))})
    name = metric or results.manifest.metrics[0]
    names = by_group([name], kinds, compared=True) if kinds else [name]
    notes = [line for each in names for line in _variance(results, each)]
    for each in names if recorded is None else [name]:  # people are in no groups
        notes += _ranks(results, recorded, each, rank)
    notes = list(dict.fromkeys(notes))
    _print(found, [*notes, *validity.notes(results)], format, console)


def _print(found: Sequence[Behaviour], notes: Sequence[str], format: str, console: Console) -> None:
    drawn = [validity.behaviour_sheet(found, notes)]
    words = validity.words_sheet(found)
    if words.value_heads:  # an anonymous copy has no messages
        drawn.append(words)
    if format == "text":
        for sheet in drawn[:-1]:  # the notes are about both tables
            sheets.print_text(sheet._replace(notes=[]), console)
        sheets.print_text(drawn[-1]._replace(notes=notes), console)
    elif format == "csv":
        for sheet in drawn:
            print(sheets.as_csv(sheet), end="")
    else:
        writer = {
            "markdown": sheets.markdown, "latex": sheets.latex, "html": sheets.html_table,
        }[format]  # fmt: skip
        print(*map(writer, drawn), sep="\n\n")


def _variance(results: Results, name: str) -> list[str]:
    if not validity.user_axes(results):
        return [
            "all cells have the same simulated user, so its share of the outcome is unknown; vary "
            "`simulator` or `roles.user` in the grid"
        ]
    found = validity.variance_sources(results, name)
    if found is None:
        return [
            "variance by user and agent: unknown; needs at least two users and two agents in all "
            "combinations"
        ]
    if found.spread < 0.0005:  # too small to be printed
        return [f"variance of {name} between cells: none beyond chance"]
    return [
        f"variance of {name} between cells (standard deviation {found.spread:.3f}): "
        f"user {100 * found.user:.0f} %, agent {100 * found.agent:.0f} %, "
        f"interaction {100 * found.interplay:.0f} %"
    ]


def _ranks(results: Results, recorded: Results | None, name: str, axis: str) -> list[str]:
    """Lines on how similarly the users, and people, rank the values of `axis`."""
    if axis not in results.axes:
        return [f"agents are not ranked: the grid has no axis {axis!r} (--rank AXIS)"]
    by = validity.groups(results, validity.user_axes(results))
    means = {label: validity.agent_means(results, name, axis, cells) for label, cells in by.items()}
    if recorded is not None:
        where = axis if _several(recorded, axis) else "domain"
        if _several(recorded, where):
            cells = range(len(recorded.manifest.cells))
            theirs = validity.agent_means(recorded, name, where, cells)
            means[PEOPLE] = validity.named_by_file(theirs)
        else:
            means[PEOPLE] = {}
    if len(means) < 2:
        return [
            f"there is one simulated user, so no second ranking of {axis} to compare with; vary "
            "`simulator` or `roles.user` in the grid, or name dialogues of people (--people DIR)"
        ]
    lines = []
    for ranking in validity.rankings(means):
        rho = (
            f"unknown (needs 3 that differ under both, found {ranking.agents})"
            if ranking.rho is None
            else f"{ranking.rho:+.2f} over {ranking.agents}"
        )
        lines.append(
            f"rank correlation of {axis} by {name}, {ranking.first} and {ranking.second}: {rho}"
        )
    return lines


def _several(results: Results, axis: str) -> bool:
    return len({cell.axes.get(axis) for cell in results.manifest.cells} - {None}) > 1
