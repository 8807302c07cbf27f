"""What the kinds of figures share: rows of panels, their axes, and the legend above them."""

from __future__ import annotations

from typing import Any

from analysis.metrics.core import Metric
from sweeps.schema import FigureSpec


def panels_of(figure: Any, count: int, spec: FigureSpec, **options: Any) -> list[Any]:
    """This many panels, in rows that fit the width; the figure grows with the rows."""
    across = min(count, 2 if spec.width == "column" else 4 if count == 4 else 3)
    down = -(-count // across)
    figure.set_size_inches(figure.get_figwidth(), figure.get_figheight() * (0.5 + 0.5 * down))
    panels = list(figure.subplots(down, across, squeeze=False, **options).ravel())
    for axes in panels[count:]:
        axes.set_visible(False)
    return panels[:count]


def from_zero(panels: Any) -> None:
    """Once all is drawn: a limit ends the scaling, also of panels that share the axis."""
    for axes in panels:
        axes.set_ylim(bottom=0)


def with_direction(metric: Metric) -> str:
    """The metric's name, with the direction that is better."""
    arrows = {"higher": " ↑", "lower": " ↓"}
    return metric.name + arrows.get(metric.better or "", "")


def turn_ticks(turns: int) -> list[int]:
    """At most about ten of the turns, including the first."""
    return list(range(1, turns + 1, max(1, -(-turns // 10))))


def add_legend(figure: Any, axes: Any, title: str = "") -> None:
    """Above all panels: the title, and what its colours mean if there are several."""
    handles, labels = axes.get_legend_handles_labels()
    if len(labels) < 2:
        if title:
            figure.suptitle(title)
        return
    widest = max(map(len, labels))
    inches = figure.get_figwidth()
    columns = max(1, min(len(labels), int(inches * 18 / (widest + 7))))
    # Without the bars of an interval, which hide its marker.
    marks = [handle[0] if isinstance(handle, tuple) else handle for handle in handles]
    figure.legend(marks, labels, loc="outside upper center", ncols=columns, title=title or None)
