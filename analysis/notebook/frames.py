"""What notebooks use: the results of a sweep as pandas frames.

A frame is read when it is asked for. Its notes, a watermark among them, are in
`frame.attrs["notes"]`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.metrics.core import by_group, split_group
from analysis.results import Results, sql_name
from analysis.statistics.compare import Comparison, compare_all
from analysis.statistics.corrected import make_corrected
from analysis.statistics.prediction_powered import Corrected
from analysis.tables.false_successes import notes as false_success_notes
from analysis.tables.table import make_table
from analysis.tables.table_notes import watermarks

if TYPE_CHECKING:
    import pandas as pd

_EPISODE = ("episode_id", "case_id", "seed")
"""Columns that rows of turns, calls and judgements take from their episode, axes besides."""


class Frames:
    """The results in one sweep folder; `analysis.open` makes it."""

    def __init__(self, where: str | Path) -> None:
        self._results = Results.open(where)

    @property
    def axes(self) -> list[str]:
        """The axes of the sweep's grid, the seed left out."""
        return list(self._results.axes)

    @property
    def metrics(self) -> list[str]:
        """The metrics that the sweep file lists."""
        return list(self._results.manifest.metrics)

    def refresh(self) -> None:
        """Opens the folder again, for what was committed since."""
        self._results = Results.open(self._results.folder)

    def df(self, query: str) -> pd.DataFrame:
        """The rows of one query in DuckDB SQL over the views that `crsweep sql` has.

        Raises UsageError if it is not a SELECT, or wrong.
        """
        self._results.check_select(query)
        return self._frame(query)

    def episodes(self, where: str | None = None) -> pd.DataFrame:
        """One row per episode of the plan, in the order of cells, cases and seeds.

        `where` is a condition in SQL on its columns: `"status = 'done' and seed = 0"`.
        """
        return self._frame(
            f"SELECT * FROM {self._chosen(where)} "
            "ORDER BY cell, position, seed, seed_training, seed_order"
        )

    def turns(self, where: str | None = None) -> pd.DataFrame:
        """The turns of these episodes, with their axes, case and seed; turn 0 is the opening."""
        return self._of_episodes("turns", where, "turn")

    def calls(self, where: str | None = None) -> pd.DataFrame:
        """The model calls of these episodes, in their order. Prompts make this frame large."""
        return self._of_episodes("calls", where, "turn, started")

    def judgements(self, where: str | None = None) -> pd.DataFrame:
        """The verdicts on these episodes, by the judges of the plan and by people."""
        return self._of_episodes("judgements", where, "judge, turn, dimension, sample")

    def table(
        self,
        metrics: Sequence[str] | str | None = None,
        *,
        by: Sequence[str] | str = (),
        complete_only: bool = True,
    ) -> pd.DataFrame:
        """One row per cell and metric: mean, std, n, seeds, and the cell's coverage.

        - `mean` is the mean of the per-seed means, NaN where no episode defines the metric; `std`
          their sample standard deviation, NaN for one seed or where nothing varied.
        - `n` episodes define the metric; `counted` of the `planned` ones count.
        - `by` (openness, style) adds a column `group`, with a row for each group of users and two
          over all groups; coverage is then the group's.
        - `complete_only=False` takes cases that not every cell has finished, too.
        """
        import pandas as pd

        names = self.metrics if metrics is None else _listed(metrics)
        names = by_group(names, _listed(by)) if by else names
        table = make_table(self._results, names, complete_only=complete_only)
        rows = [
            {
                **{self._results.column(axis): label for axis, label in row.axes.items()},
                **_named(metric.name, by),
                "mean": value.mean,
                "std": value.std,
                "n": value.episodes,
                "seeds": value.seeds,
                **dict(zip(("counted", "planned"), row.coverage(metric.group), strict=True)),
            }
            for row in table.rows
            for metric, value in zip(table.metrics, row.values, strict=True)
        ]
        frame = pd.DataFrame(rows).astype({"mean": float, "std": float})
        frame.attrs["notes"] = table.notes
        return frame

    def corrected(
        self,
        metrics: Sequence[str] | str | None = None,
        *,
        by: Sequence[str] | str = (),
        complete_only: bool = True,
    ) -> pd.DataFrame:
        """One row per cell and judged metric that people have labelled, raw and corrected by them,
        as `crsweep table --corrected` prints them.

        The columns are the fields of `analysis.statistics.prediction_powered.Corrected`, NaN with
        fewer than two labelled cases. `by` (openness, style) adds a column `group`.
        """
        import pandas as pd

        names = self.metrics if metrics is None else _listed(metrics)
        names = by_group(names, _listed(by), compared=True) if by else names
        table = make_corrected(self._results, names, complete_only=complete_only)
        rows = [
            {
                **{self._results.column(axis): label for axis, label in row.axes.items()},
                **_named(row.metric, by),
                **{f.name: getattr(row.found, f.name, float("nan")) for f in fields(Corrected)},
            }
            for row in table.rows
        ]
        frame = pd.DataFrame(rows)
        frame.attrs["notes"] = table.notes
        return frame

    def compare(
        self,
        axis: str,
        metrics: Sequence[str] | str | None = None,
        *,
        baseline: str | None = None,
        by: Sequence[str] | str = (),
    ) -> pd.DataFrame:
        """One row per metric and pair of values of `axis`, as `crsweep compare` prints them.

        `metrics` is the sweep's first by default. With a `baseline`, each other value is compared
        with that one. `by` (openness, style) adds a column `group`: each comparison within each
        group of users, and over all of them. The columns are the fields of
        `analysis.statistics.compare.Comparison`, with the components of the variance and the bounds
        spread over several. `attrs["tied"]` has, by metric, the best value and those that are not
        significantly worse.
        """
        import pandas as pd

        names = self.metrics[:1] if metrics is None else _listed(metrics)
        names = by_group(names, _listed(by), compared=True) if by else names
        compared = compare_all(self._results, names, axis, baseline)
        rows = [_row(found) for found in compared.found]
        frame = pd.DataFrame([_named(row.pop("metric"), by) | row for row in rows])
        frame.attrs["notes"] = [
            *compared.notes,
            *watermarks(self._results),
            *false_success_notes(self._results),
        ]
        frame.attrs["tied"] = {ties.metric: [ties.best, *ties.tied] for ties in compared.ties}
        return frame

    def _of_episodes(self, view: str, where: str | None, order: str) -> pd.DataFrame:
        results = self._results
        columns = [*_EPISODE, *map(results.column, results.axes)]
        mine = ", ".join(f"e.{sql_name(name)}" for name in columns)
        left_out = " EXCLUDE (episode_id)" if view == "judgements" else ""
        by = ", ".join(f"t.{name}" for name in order.split(", "))
        return self._frame(
            f"SELECT {mine}, t.*{left_out} FROM {self._chosen(where)} e "
            f"JOIN {view} t USING (attempt_id) "
            f"ORDER BY e.cell, e.position, e.seed, e.seed_training, e.seed_order, {by}"
        )

    def _chosen(self, where: str | None) -> str:
        if not where:
            return "episodes"
        # As one whole condition, before it becomes a part of a larger query.
        self._results.check_select(f"SELECT 1 FROM episodes WHERE {where}")
        return f"(SELECT * FROM episodes WHERE ({where}\n))"

    def _frame(self, query: str) -> pd.DataFrame:
        frame: Any = self._results.arrow(query).to_pandas()
        frame.attrs["notes"] = watermarks(self._results)
        return frame


def _row(comparison: Comparison) -> dict[str, Any]:
    """A comparison as the columns of a frame, what it compares first."""
    values = asdict(comparison)
    variance, bounds = values.pop("variance"), values.pop("bounds")
    first = ("metric", "axis", "first", "second")
    row = {name: values.pop(name) for name in first} | values
    row |= {f"variance_{part}": getattr(variance, part, None) for part in ("case", "seed", "rest")}
    return row | (bounds or dict.fromkeys(("if_failed", "if_succeeded", "conclusion_holds")))


def _named(metric: str, by: Sequence[str] | str) -> dict[str, str]:
    """The columns that say which metric it is, with `by` apart from its group of users."""
    return (
        dict(zip(("metric", "group"), split_group(metric), strict=True))
        if by
        else {"metric": metric}
    )


def _listed(metrics: Sequence[str] | str) -> list[str]:
    return [metrics] if isinstance(metrics, str) else list(metrics)
