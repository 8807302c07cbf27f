"""What is varied one axis at a time."""

from __future__ import annotations

import pytest

from agents.core.errors import UsageError
from analysis.figures.data import variations
from analysis.results import Results
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
