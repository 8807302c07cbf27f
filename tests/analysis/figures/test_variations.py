"""What is varied one axis at a time."""

from __future__ import annotations

import itertools

import pytest

from agents.core.errors import UsageError
from analysis.figures.data import variations
from analysis.figures.draw import draw
from analysis.results import Results
from sweeps.schema import FigureSpec
from tests.analysis.builder import Built, Cell


def test_one_axis_at_a_time_is_varied_from_the_cell_with_most_neighbours(tmp_path):
    def cell(**axes: str) -> Cell:
        return Cell(str(axes), axes)

    cells = [
        cell(k="1", lr="9", agent="a"),  # differs in two
        cell(k="5", lr="3", agent="a"),
        cell(k="1", lr="3", agent="a"),
        cell(k="2", lr="3", agent="a"),
        cell(k="1", lr="4", agent="a"),
        cell(k="1", lr="3", agent="b"),
    ]
    results = Results.open(Built(cells).write(tmp_path))
    found = {v.axis: v for v in variations(results, None)}
    assert (found["k"].labels, found["k"].cells, found["k"].base) == (["5", "1", "2"], [1, 2, 3], 1)
    assert found["lr"].cells == [0, 2, 4]
    assert found["agent"].cells == [2, 5]
    assert [v.axis for v in variations(results, "lr")] == ["lr"]
    with pytest.raises(UsageError, match="no axis 'x'"):
        variations(results, "x")


def test_other_cases_are_no_variation(tmp_path):
    cells = [Cell("1", {"agent": "a"}, "one"), Cell("2", {"agent": "a"}, "two")]
    with pytest.raises(UsageError, match="nothing to vary"):
        variations(Results.open(Built(cells).write(tmp_path)), None)


@pytest.mark.parametrize("width", ["column", "page"])
def test_no_label_of_a_sensitivity_meets_another(tmp_path, width):
    values = {
        "agent.candidates": ["10", "20", "50", "100", "200"],
        "simulator.decides": ["0.1", "y" * 60],
    }
    first = {axis: chosen[0] for axis, chosen in values.items()}
    built = Built(
        [Cell("0", first)]
        + [Cell(v, {**first, axis: v}) for axis, chosen in values.items() for v in chosen[1:]],
        seeds=[0],
    )
    for n, cell in enumerate(built.cells):
        for case_id in built.case_ids:
            built.episode(cell, case_id, 0, success_turn=1 if int(case_id[1]) < n else None)
    results = Results.open(built.write(tmp_path))
    figure = draw(results, FigureSpec(kind="sensitivity", width=width)).figure
    texts = [*figure.texts]
    for axes in figure.axes:
        texts += [axes.title, axes._left_title, *axes.get_yticklabels()]
    boxes = [text.get_window_extent() for text in texts if text.get_text()]
    assert len(boxes) == 5 + 2 + 2
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    assert all(figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 for box in boxes)
