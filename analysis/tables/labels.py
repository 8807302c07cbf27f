"""The shortest labels that are still distinct: `af_irs(action_first=false)`, the rest said once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from analysis.tables.table import Table

_OPTION = re.compile(r"[A-Za-z_][\w.]*=")
_OPENING, _CLOSING = "([{", ")]}"


class ShortLabels(NamedTuple):
    """Short labels, and what they leave out."""

    short: Mapping[str, str]
    """By label; different ones stay different."""
    left_out: Sequence[str]
    """`af_irs, macrec (candidates=50)`: the options that all labels of these names share."""


def short_labels(labels: Iterable[str]) -> ShortLabels:
    """Leaves out of `name(option=value, ...)` what all labels of that name have in common, also
    within an option that is a mapping in all of them."""
    read = {label: _parts(label) for label in dict.fromkeys(labels)}
    shared: dict[str, list[str]] = {}
    for name, options in read.values():
        known = shared.get(name)
        shared[name] = options if known is None else [o for o in known if o in options]
    within = {name: _within([own for of, own in read.values() if of == name]) for name in shared}
    short = {}
    for label, (name, options) in read.items():
        cut = within[name].short
        own = [cut.get(option, option) for option in options if option not in shared[name]]
        short[label] = f"{name}({', '.join(own)})" if own else name
    names: dict[str, list[str]] = {}
    for name in shared:
        options = [*shared[name], *within[name].left_out]
        if options:
            names.setdefault(", ".join(options), []).append(name)
    return ShortLabels(short, [f"{', '.join(of)} ({options})" for options, of in names.items()])


def _within(labels: Sequence[Sequence[str]]) -> ShortLabels:
    """Options such as `planner=(stage=rl, lr=1)` without what all labels have within them."""
    short: dict[str, str] = {}
    left_out = []
    for key in (option.partition("=")[0] for option in labels[0]):
        start = f"{key}=("
        found = [next((o for o in own if o.startswith(start)), "") for own in labels]
        inner = {option: _parts(option.removeprefix(f"{key}="))[1] for option in found}
        common = [part for part in inner[found[0]] if all(part in of for of in inner.values())]
        cut = {
            option: f"{start}{', '.join(part for part in parts if part not in common)})"
            for option, parts in inner.items()
        }
        if common and 1 < len(cut) == len({*cut.values()} - {f"{start})"}):
            short |= cut
            left_out.append(f"{start}{', '.join(common)})")
    return ShortLabels(short, left_out)


def with_short_labels(table: Table) -> Table:
    """The same table, and a note of what its labels leave out."""
    found = {axis: short_labels(row.axes[axis] for row in table.rows) for axis in table.axes}
    rows = [
        replace(row, axes={axis: found[axis].short[label] for axis, label in row.axes.items()})
        for row in table.rows
    ]
    left_out = [f"{axis} {'; '.join(b.left_out)}" for axis, b in found.items() if b.left_out]
    notes = [f"left out above: {'; '.join(left_out)}"] if left_out else []
    return replace(table, rows=rows, notes=[*notes, *table.notes])


def _parts(label: str) -> tuple[str, list[str]]:
    """Name and options; the whole label as a name where it is not written like that."""
    name, opened, rest = label.partition("(")
    if not opened or not label.endswith(")"):
        return label, []
    options, depth = [""], 0
    for character in rest[:-1]:
        depth += (character in _OPENING) - (character in _CLOSING)
        if depth < 0:
            return label, []
        if character == "," and depth == 0:
            options.append("")
        else:
            options[-1] += character
    options = [option.strip() for option in options]
    if depth or len(set(options)) < len(options) or not all(map(_OPTION.match, options)):
        return label, []
    return name, options
