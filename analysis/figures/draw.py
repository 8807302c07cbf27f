"""Draws each kind of figure from the numbers of `analysis.figures.data`."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agents.core.errors import UsageError
from analysis.figures.data import (
    CellGroup,
    Point,
    by_turn,
    curves,
    frontier,
    group_named,
    groups_of,
    longest,
    metric_points,
    shares,
    variations,
)
from analysis.figures.panels import (
    add_legend,
    from_zero,
    panels_of,
    turn_ticks,
    with_direction,
)
from analysis.figures.style import COLOURS, HATCHES, LINES, MARKERS, paper_style
from analysis.metrics.core import POOLED, Metric, groups_by, parse_metric
from analysis.results import Results
from analysis.tables.table import metrics_of
from sweeps.schema import FigureSpec

FORMATS = (".pdf", ".svg", ".png")
_PANELS = 6
_CURVES = 12
"""Panels of curves: a fine-tuned and then reinforced policy measures nine series."""
_LABEL = 45  # characters of the label of a group
_IN_A_ROW = {"column": 3, "page": 5}
"""Panels of bars, which are narrow, in one row."""


class Drawing:
    """A finished figure."""

    def __init__(self, figure: Any, note: str, width: str) -> None:
        self.figure = figure
        self.note = note
        self._width = width

    def save(self, path: Path) -> None:
        """Writes a file in the format of its suffix. Raises UsageError for an unknown one."""
        if path.suffix.lower() not in FORMATS:
            raise UsageError(f"{path}: expected a name that ends with {', '.join(FORMATS)}")
        if not path.parent.is_dir():
            raise UsageError(f"cannot write {path}: the folder {path.parent} does not exist")
        self._save(path, path.suffix.lower())

    def svg(self) -> str:
        """The figure as the text of an SVG file."""
        out = io.StringIO()
        self._save(out, ".svg")
        return out.getvalue()

    def _save(self, where: Any, suffix: str) -> None:
        # Equal results give equal files.
        dates: dict[str, dict[str, Any]] = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}}
        with paper_style(self._width):
            self.figure.savefig(where, format=suffix[1:], metadata=dates.get(suffix))


def draw(results: Results, spec: FigureSpec) -> Drawing:
    """Draws the figure that `spec` describes.

    Raises UsageError if there is nothing to draw, for unknown axes and metrics, for too many
    groups, and without the extra `plots`.
    """
    with paper_style(spec.width) as make:
        figure = make(layout="constrained")
        figure.get_layout_engine().set(w_pad=0.03, h_pad=0.03, wspace=0.04, hspace=0.06)
        # Cells that are varied one axis at a time, and training runs, are not groups of cells.
        alone = spec.kind in ("sensitivity", "curves")
        groups = [] if alone else _with_room(groups_of(results, spec.axis))
        if not groups and not alone:
            raise UsageError(f"{results.folder} has no cells; there is nothing to draw")
        _KINDS[spec.kind](figure, results, spec, groups)
        note = _watermark(results)
        if note:
            figure.supxlabel(note, fontsize=5, color="#B00000", x=0.99, ha="right")
        # Fixes the layout, which each saved file would otherwise shift a little.
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        return Drawing(figure, note, spec.width)


def _turns(figure: Any, results: Results, spec: FigureSpec, groups: Sequence[CellGroup]) -> None:
    name = spec.metrics[0].partition("@")[0] if spec.metrics else "sr"
    turns = longest(results)
    users = _users(spec)
    drawn = [by_turn(results, name, groups, turns, each) for each in users]
    _need(point for rows in drawn for row in rows for point in row)
    at = np.arange(1, turns + 1)
    panels = panels_of(figure, len(users), spec, sharey=True)
    for axes, each, rows in zip(panels, users, drawn, strict=True):
        for n, (group, row) in enumerate(zip(groups, rows, strict=True)):
            low, mean, high = (np.array([getattr(p, part) for p in row]) for part in _PARTS)
            axes.fill_between(at, low, high, color=COLOURS[n], alpha=0.15, linewidth=0)
            axes.plot(
                at, mean, color=COLOURS[n], marker=MARKERS[n], linestyle=LINES[n],
                label=group.label,
            )  # fmt: skip
        axes.set(title=each, xlabel="turn t", ylabel=f"{name}@t", xticks=turn_ticks(turns))
    from_zero(panels)
    add_legend(figure, panels[0])


def _tradeoff(figure: Any, results: Results, spec: FigureSpec, groups: Sequence[CellGroup]) -> None:
    _scatter(figure, results, spec.metrics or ["at_fail_plus_1", f"sr@{longest(results)}"], groups)


def _cost(figure: Any, results: Results, spec: FigureSpec, groups: Sequence[CellGroup]) -> None:
    names = spec.metrics or ["tokens", f"sr@{longest(results)}"]
    axes, found = _scatter(figure, results, names, groups)
    costs, gains = ([p.mean for p in column] for column in found)
    best = frontier(costs, gains)
    axes.plot(
        [costs[n] for n in best], [gains[n] for n in best],
        color="#444444", linewidth=1.0, linestyle="--", zorder=3, drawstyle="steps-post",
    )  # fmt: skip
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")


def _scatter(
    figure: Any, results: Results, names: Sequence[str], groups: Sequence[CellGroup]
) -> tuple[Any, list[list[Point]]]:
    if len(names) != 2:
        raise UsageError(f"this figure has two metrics, x and y; found {', '.join(names)}")
    across, up = metrics_of(results, names)
    found = [metric_points(results, metric, groups) for metric in (across, up)]
    for metric, column in zip((across, up), found, strict=True):
        _need(column, metric)
    axes = figure.subplots()
    for n, (group, x, y) in enumerate(zip(groups, *found, strict=True)):
        axes.errorbar(
            x.mean, y.mean, xerr=_reach([x]), yerr=_reach([y]), color=COLOURS[n],
            marker=MARKERS[n], linestyle="none", elinewidth=0.7, capsize=1.5, capthick=0.7,
            label=group.label,
        )  # fmt: skip
    axes.set(xlabel=with_direction(across), ylabel=with_direction(up))
    add_legend(figure, axes)
    return axes, found


def _bars(figure: Any, results: Results, spec: FigureSpec, groups: Sequence[CellGroup]) -> None:
    names = spec.metrics or results.manifest.metrics
    if spec.by:
        names = [f"{name}[{each}]" for name in names for each in _users(spec)]
    metrics = metrics_of(results, names)
    base, drawn = None, list(enumerate(groups))
    if spec.baseline is not None:
        base = group_named(groups, spec.baseline)
        drawn = [(n, group) for n, group in drawn if group is not base]
    shown = [group for _, group in drawn]
    found = [metric_points(results, metric, shown, base) for metric in metrics]
    _need(point for column in found for point in column)
    users = _users(spec)
    of_one = bool(spec.by) and len(names) == len(users)
    # Metrics of different scales have axes of their own.
    if spec.by or len(metrics) > _IN_A_ROW[spec.width]:
        panels = panels_of(figure, len(metrics), spec, sharey=of_one)
    else:
        panels = figure.subplots(1, len(metrics), squeeze=False)[0]
    titles, label = [with_direction(metric) for metric in metrics], ""
    # A metric's name with a group is too long for a narrow panel.
    if of_one:
        titles, label = users, titles[0].replace(f"[{users[0]}]", "")
    elif spec.by:
        titles = [title.replace("[", "\n[") for title in titles]
    for axes, title, column in zip(panels, titles, found, strict=True):
        for (n, group), point in zip(drawn, column, strict=True):
            axes.bar(
                n, point.mean, 0.8, color=COLOURS[n], alpha=0.85, hatch=HATCHES[n],
                edgecolor="white", linewidth=0, label=group.label,
            )  # fmt: skip
            axes.errorbar(
                n, point.mean, yerr=_reach([point]), color="black", elinewidth=0.8, capsize=2,
                capthick=0.8,
            )  # fmt: skip
        axes.set(title=title, xticks=[])
        axes.grid(False, axis="x")
    if base is None:
        from_zero(panels)
    else:
        for axes in panels:
            axes.axhline(0, color="black", linewidth=0.8)
        difference = f"difference to {base.label}"
        label = f"{label}: {difference}" if label else difference
    if of_one:
        add_legend(figure, panels[0], label)
    else:
        panels[0].set_ylabel(label)
        add_legend(figure, panels[0])


def _shares(figure: Any, results: Results, spec: FigureSpec, groups: Sequence[CellGroup]) -> None:
    users = [*groups_by(spec.by), ""]
    shown = [(group, each) for each in users for group in groups]
    if len(shown) > _PANELS:
        raise UsageError(
            f"{len(shown)} panels are too many (at most {_PANELS}); group the cells by one axis: "
            f"--axis AXIS (axes: {', '.join(results.axes)})"
        )
    names = _turn_names(spec)
    found = shares(results, spec.of, groups, users, spec.parts, names)
    last = max(turn for each in found for turn in each.turns)
    panels = panels_of(figure, len(shown), spec, sharey=True)
    for axes, (group, whose), each in zip(panels, shown, found, strict=True):
        bottom = np.zeros(len(each.turns))
        for n, (value, part) in enumerate(each.shares.items()):
            n %= len(COLOURS)
            axes.bar(
                each.turns, part, 0.85, bottom=bottom, color=COLOURS[n], alpha=0.85,
                hatch=HATCHES[n], edgecolor="white", linewidth=0, label=value,
            )  # fmt: skip
            bottom += part
        title = [group.label] if len(groups) > 1 or not spec.by else []
        axes.set_title(", ".join(title + ([whose or "all users"] if spec.by else [])))
        labels = [f"{t}\n{n:,}" for t, n in zip(each.turns, each.counts, strict=True)]
        kept = turn_ticks(len(labels))
        axes.set_xticks([each.turns[k - 1] for k in kept], [labels[k - 1] for k in kept])
        axes.grid(False)
        axes.set(xlim=(0.4, last + 0.6), ylim=(0, 1))
    across = panels[0].get_gridspec().ncols
    what = "strategies" if spec.of == "strategy" else "actions"
    label = "share of turns" if names else f"share of {what}"
    if len(panels) > across:  # a label for each row would run into the next one
        figure.supylabel(label, fontsize=panels[0].yaxis.label.get_size())
    else:
        panels[0].set_ylabel(label)
    for axes in panels[-across:]:
        axes.set_xlabel(
            "part of the dialogue\nturns" if spec.parts else "turn\ndialogues that reached it"
        )
    # A panel without turns has no bars to explain.
    add_legend(figure, next(axes for axes, each in zip(panels, found, strict=True) if each.turns))


def _turn_names(spec: FigureSpec) -> list[str]:
    """The actions and strategies to tell apart: NAME of each metric `turn_share@NAME`."""
    for metric in spec.metrics:
        kind, _, name = metric.partition("@")
        if kind != "turn_share" or not name or set(name) & set(":["):
            raise UsageError(
                f"shares: found the metric {metric!r}; expected the share of an action or a "
                "strategy, such as turn_share@persuade"
            )
        parse_metric(metric)
    if spec.metrics and spec.of == "strategy":
        raise UsageError("shares: give metrics or `of: strategy`, not both")
    return [metric.partition("@")[2] for metric in dict.fromkeys(spec.metrics)]


def _seeds(figure: Any, results: Results, spec: FigureSpec, groups: Sequence[CellGroup]) -> None:
    metrics = metrics_of(results, spec.metrics[:1] or results.manifest.metrics[:1])
    column = metric_points(results, metrics[0], groups)
    _need(column, metrics[0])
    axes = figure.subplots()
    figure.set_size_inches(figure.get_figwidth(), 0.7 + 0.22 * len(groups))
    for n, point in enumerate(column):
        spread = np.linspace(-0.12, 0.12, len(point.seeds)) if len(point.seeds) > 1 else [0.0]
        axes.errorbar(
            point.mean, n, xerr=_reach([point]), color=COLOURS[n], marker="|", markersize=9,
            elinewidth=1.0, capsize=2, capthick=1.0,
        )  # fmt: skip
        if point.seeds:
            axes.plot(
                point.seeds, n + np.array(spread), "o", color=COLOURS[n], markersize=2.5,
                markerfacecolor="white", markeredgewidth=0.8,
            )  # fmt: skip
    axes.set(xlabel=with_direction(metrics[0]))
    axes.set_yticks(range(len(groups)), [group.label for group in groups])
    axes.invert_yaxis()
    axes.margins(y=0.15)


def _sensitivity(
    figure: Any, results: Results, spec: FigureSpec, groups: Sequence[CellGroup]
) -> None:
    metric = metrics_of(results, spec.metrics[:1] or results.manifest.metrics[:1])[0]
    found = variations(results, spec.axis)
    if len(found) > _PANELS:
        raise UsageError(f"{len(found)} axes are too many (at most {_PANELS}); choose one: --axis")
    drawn = []
    for v in found:
        pairs = zip(v.labels, v.cells, strict=True)
        each = [CellGroup(label, [cell]) for label, cell in pairs]
        drawn.append(metric_points(results, metric, each))
    _need((point for column in drawn for point in column), metric)
    rows = [len(v.cells) for v in found]
    # A row for each value, so that no label meets another one.
    figure.set_size_inches(figure.get_figwidth(), 0.45 + 0.3 * len(found) + 0.17 * sum(rows))
    panels = figure.subplots(len(found), 1, squeeze=False, sharex=True, height_ratios=rows)[:, 0]
    for axes, v, column in zip(panels, found, drawn, strict=True):
        axes.axvline(column[v.base].mean, color="#999999", linewidth=0.8, linestyle="--", zorder=1)
        for n, point in enumerate(column):
            axes.errorbar(
                point.mean, n, xerr=_reach([point]), color=COLOURS[0], marker="o", capsize=2,
                capthick=0.8, elinewidth=0.8, linestyle="none",
                markerfacecolor=COLOURS[0] if n == v.base else "white",
            )  # fmt: skip
        room = 24 if spec.width == "column" else _LABEL
        labels = _with_room([CellGroup(label, []) for label in v.labels], room)
        axes.set_yticks(range(len(labels)), [group.label for group in labels])
        axes.set_ylim(len(labels) - 0.5, -0.5)
        axes.set_title(v.axis, loc="left")
        axes.grid(False, axis="y")
    panels[-1].set_xlabel(with_direction(metric))


def _curves(figure: Any, results: Results, spec: FigureSpec, _: Sequence[CellGroup]) -> None:
    found = curves(results, spec.metrics, spec.axis)
    if len(found) > _CURVES:
        raise UsageError(
            f"{len(found)} panels are too many (at most {_CURVES}); choose some: --metric NAME "
            f"({', '.join(found)})"
        )
    labels = list(dict.fromkeys(each.label for column in found.values() for each in column))
    if len(labels) > len(COLOURS):
        raise UsageError(
            f"{len(labels)} training runs are too many for one figure (at most {len(COLOURS)}); "
            f"group them by an axis: --axis AXIS (axes: {', '.join(results.axes)})"
        )
    names = {
        label: group.label
        for label, group in zip(labels, _with_room([CellGroup(x, []) for x in labels]), strict=True)
    }
    panels = panels_of(figure, len(found), spec)
    for axes, (series, column) in zip(panels, found.items(), strict=True):
        for each in column:
            n = labels.index(each.label)
            several = len(each.lines) > 1
            for steps, values in each.lines if several else ():
                axes.plot(steps, values, color=COLOURS[n], alpha=0.35, linewidth=0.5)
            steps, values = each.mean
            axes.plot(
                steps, values, color=COLOURS[n], linestyle=LINES[n], label=names[each.label],
                marker=MARKERS[n] if len(steps) < 2 else None,
            )  # fmt: skip
        axes.set(title=series, xlabel="step")
        axes.xaxis.get_major_locator().set_params(integer=True)
    handles = {
        label: handle
        for axes in panels
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    if len(handles) > 1:
        figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=1)


def _users(spec: FigureSpec) -> list[str]:
    """The groups of users that have panels of their own, and all of them pooled; one empty name
    without groups."""
    return [*groups_by(spec.by), POOLED] if spec.by else [""]


_KINDS: dict[str, Callable[[Any, Results, FigureSpec, Sequence[CellGroup]], Any]] = {
    "turns": _turns,
    "tradeoff": _tradeoff,
    "bars": _bars,
    "shares": _shares,
    "cost": _cost,
    "seeds": _seeds,
    "sensitivity": _sensitivity,
    "curves": _curves,
}
_PARTS = ("low", "mean", "high")


def _reach(column: Sequence[Point]) -> np.ndarray:
    """How far the intervals extend below and above the means, of shape (2, points)."""
    return np.array(
        [
            [max(0.0, np.nan_to_num(p.mean - p.low)) for p in column],
            [max(0.0, np.nan_to_num(p.high - p.mean)) for p in column],
        ]
    )


def _with_room(groups: Sequence[CellGroup], room: int = _LABEL) -> list[CellGroup]:
    """The groups, with labels shortened to leave room for the figure.

    Shortened labels keep both ends, because the options that differ may come last.
    """
    begin, end = room * 2 // 5, room * 3 // 5 - 1
    short = [
        group.label if len(group.label) <= room else f"{group.label[:begin]}…{group.label[-end:]}"
        for group in groups
    ]
    return [
        group._replace(label=label if short.count(label) == 1 else f"{label} ({n})")
        for n, (group, label) in enumerate(zip(groups, short, strict=True), start=1)
    ]


def _need(found: Any, metric: Metric | None = None) -> None:
    """UsageError where no point has a value."""
    if all(np.isnan(point.mean) for point in found):
        what = "the metrics" if metric is None else metric.name
        raise UsageError(
            f"no case that all cells and seeds have finished defines {what}; there is nothing to "
            "draw"
        )


def _watermark(results: Results) -> str:
    names = results.manifest.watermark
    return (
        f"WATERMARK: made with the {' and '.join(names)} backend, not a language model"
        if names
        else ""
    )
