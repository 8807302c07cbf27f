"""Queries for the viewer's pages, on the index and the stored rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from analysis.tables.labels import short_labels
from analysis.viewer.conditions import matching
from analysis.viewer.filters import PAGE, SORTS, Filters, Mark
from analysis.viewer.index import Index, Snapshot

_VISIBLE = "since <= ? AND ? < until"


class CellLabels:
    """The shortest names of cells that are still distinct, and the axes in which cells differ."""

    def __init__(self, index: Index) -> None:
        cells = index.manifest.cells
        self.by_cell: list[Mapping[str, str]] = [cell.axes for cell in cells]
        self.varying = [
            axis for axis in index.axes if len({labels.get(axis) for labels in self.by_cell}) > 1
        ]
        self.values = {
            axis: sorted({labels[axis] for labels in self.by_cell if axis in labels})
            for axis in self.varying
        }
        short = {axis: short_labels(values).short for axis, values in self.values.items()}
        self.cells = [
            " · ".join(short[axis][labels[axis]] for axis in self.varying if axis in labels)
            or "all"
            for labels in self.by_cell
        ]


class ListPage(NamedTuple):
    """Some rows of a list, and their position in it."""

    rows: Sequence[Mapping[str, Any]]
    total: int
    first: int
    """The number of the first row, from 1."""
    before: Mark | None
    """None if there are no earlier rows."""
    after: Mark | None


class Listing:
    """The episodes that match some filters, in order, in one snapshot."""

    def __init__(
        self,
        index: Index,
        filters: Filters,
        labels: CellLabels,
        cancelled: Callable[[], bool],
        *,
        seconds: float,
        plain: bool = False,
    ) -> None:
        """`plain` leaves out conditions that take long: on judgements, and free ones.

        UsageError for a free condition that is wrong, slow, or `cancelled`.
        """
        self._index = index
        self._seconds = seconds
        self.snapshot = filters.snapshot or index.newest.number
        self._column, self._descends = SORTS[filters.sort]
        texts, values = filters.conditions(
            filters.cells(labels.varying, labels.by_cell),
            self._seeds(filters),
            self._cases(filters),
        )
        texts, values = [_VISIBLE, *texts], [self.snapshot, self.snapshot, *values]
        for key in (_judged(filters), ("where", filters.where) if filters.where else None):
            if key is not None and not plain:
                table = self._set(key, cancelled)
                texts.append(f"hash(attempt_id) IN (SELECT attempt FROM {table})")
        self._where, self._values = " AND ".join(texts), values

    def count(self) -> int:
        return self._number("true", [])

    def newer(self) -> int:
        """How many more rows the newest snapshot has."""
        newest = self._index.newest.number
        (row,) = self._index.rows(
            f"SELECT count(*) AS n FROM listed WHERE {self._where} AND since > ?",
            [newest, newest, *self._values[2:], self.snapshot],
        )
        return row["n"]

    def page(
        self,
        *,
        after: Mark | None = None,
        before: Mark | None = None,
        row: int | None = None,
        last: bool = False,
        size: int = PAGE,
    ) -> ListPage:
        """The page after or before a mark, from a row on, or at the end; by default the first."""
        total = self.count()
        backwards = last or before is not None
        text, values = "true", []
        if after is not None:
            text, values = self._beyond(after, forwards=True)
        elif before is not None:
            text, values = self._beyond(before, forwards=False)
        offset = max(0, min(row - 1, total - 1)) if row is not None else 0
        down = self._descends != backwards
        order = f"{self._column} {'DESC' if down else 'ASC'}"
        # In the order of places alone, or with places that ascend where values are equal.
        ties = "" if self._column == "place" else f", place {'DESC' if backwards else 'ASC'}"
        size = min(size, total - offset) if row is not None else size
        rows = self._index.rows(
            f"SELECT *, place % 2147483648 AS repetition, place // 2147483648 AS position "
            f"FROM listed WHERE {self._where} AND {text} ORDER BY {order}{ties} "
            f"LIMIT {max(size, 0)} OFFSET {offset}",
            [*self._values, *values],
        )
        rows = rows[::-1] if backwards else rows
        if not rows:
            return ListPage([], total, 0, None, None)
        self._name(rows)
        start, end = self.mark(rows[0]), self.mark(rows[-1])
        ahead = self._number(*self._beyond(start, forwards=False))
        more = total - ahead - len(rows)
        return ListPage(rows, total, ahead + 1, start if ahead else None, end if more > 0 else None)

    def around(self, row: Mapping[str, Any]) -> tuple[str | None, str | None]:
        """Ids of the attempts before and after a row of `listed` in this list."""
        mark = self.mark(row)
        found = []
        for forwards in (False, True):
            page = self.page(
                **{"after" if forwards else "before": mark},  # type: ignore[arg-type]
                size=1,
            )
            found.append(page.rows[0]["attempt_id"] if page.rows else None)
        return found[0], found[1]

    def mark(self, row: Mapping[str, Any]) -> Mark:
        return Mark(float(row[self._column]) if self._column != "place" else 0.0, row["place"])

    def _beyond(self, mark: Mark, *, forwards: bool) -> tuple[str, list[Any]]:
        """SQL for the rows after (`forwards`) or before a mark."""
        later = ">" if forwards else "<"
        if self._column == "place":
            return f"place {later} ?", [mark.place]
        past = later if not self._descends else {"<": ">", ">": "<"}[later]
        return (
            f"({self._column} {past} ? OR ({self._column} = ? AND place {later} ?))",
            [mark.value, mark.value, mark.place],
        )

    def _number(self, text: str, values: list[Any]) -> int:
        (row,) = self._index.rows(
            f"SELECT count(*) AS n FROM listed WHERE {self._where} AND {text}",
            [*self._values, *values],
        )
        return row["n"]

    def _name(self, rows: Sequence[dict[str, Any]]) -> None:
        name_rows(self._index, rows)

    def _seeds(self, filters: Filters) -> list[int] | None:
        seed = filters.seed()
        if seed is None:
            return None
        text = "SELECT repetition FROM plan_repetitions WHERE seed = ?"
        return [row["repetition"] for row in self._index.rows(text, [seed])]

    def _cases(self, filters: Filters) -> list[int] | None:
        if "case" not in filters.given:
            return None
        text = "SELECT DISTINCT position FROM places WHERE case_id = ?"
        return [row["position"] for row in self._index.rows(text, [filters.given["case"]])]

    def _set(self, key: tuple[Any, ...], cancelled: Callable[[], bool]) -> str:
        """The table of the attempts that a condition chose for this snapshot.

        It is kept, so that all pages of one list agree; a list that was left for long is chosen
        again, from what is there then.
        """
        key = (self.snapshot, *key)
        found = self._index.chosen(key)
        if found is not None:
            return found
        if key[1] == "where":
            attempts = matching(
                str(self._index.folder.absolute()), key[2],
                seconds=self._seconds, cancelled=cancelled,
            )  # fmt: skip
        else:
            _, _, judge, dimension, low, high = key
            with self._index.cursor() as db:
                attempts = db.execute(
                    "SELECT hash(attempt_id) AS attempt FROM judgements WHERE judge = ? AND "
                    "dimension = ? AND status = 'valid' AND annotator IS NULL GROUP BY attempt_id "
                    "HAVING avg(value) BETWEEN ? AND ?",
                    [judge, dimension, low, high],
                ).fetchnumpy()["attempt"]
        return self._index.choose(key, np.asarray(attempts))


def _judged(filters: Filters) -> tuple[Any, ...] | None:
    if "judge" not in filters.given:
        return None
    judge, _, dimension = filters.given["judge"].rpartition(" / ")
    low = filters.bounds.get("judge_min", -1e308)
    return "judge", judge, dimension, low, filters.bounds.get("judge_max", 1e308)


def name_rows(index: Index, rows: Sequence[dict[str, Any]]) -> None:
    """Adds `case_id`, `seed`, `seed_training` and `seed_order` to rows of `listed`."""
    cells = index.manifest.cells
    repetitions = {
        row["repetition"]: row
        for row in index.rows(
            "SELECT * FROM plan_repetitions WHERE repetition IN (SELECT unnest(?::BIGINT[]))",
            [[row["place"] % 2**31 for row in rows]],
        )
    }
    cases = {
        (row["source_id"], row["position"]): row["case_id"]
        for row in index.rows(
            "SELECT * FROM places WHERE position IN (SELECT unnest(?::BIGINT[]))",
            [[row["place"] // 2**31 for row in rows]],
        )
    }
    for row in rows:
        seeds = repetitions[row["place"] % 2**31]
        row["case_id"] = cases[cells[row["cell"]].source_id, row["place"] // 2**31]
        row |= {name: seeds[name] for name in ("seed", "seed_training", "seed_order")}


def cells_of(index: Index, snapshot: Snapshot) -> list[dict[str, Any]]:
    """Progress and averages of each cell of the plan."""
    rows = index.rows(
        f"SELECT cell, count(*) FILTER (done) AS done, count(*) FILTER (NOT done) AS failed, "
        "avg(success::INT) FILTER (done OR blame = 'agent') AS success, "
        "avg(turns) FILTER (done) AS turns, avg(tokens) AS tokens, avg(seconds) AS seconds "
        f"FROM listed WHERE {_VISIBLE} GROUP BY cell",
        [snapshot.number] * 2,
    )
    by_cell = {row["cell"]: row for row in rows}
    empty = {"done": 0, "failed": 0, **dict.fromkeys(("success", "turns", "tokens", "seconds"))}
    return [
        {**empty, **by_cell.get(number, {}), "cell": number, "planned": index.planned[cell.cell_id]}
        for number, cell in enumerate(index.manifest.cells)
    ]


def endings_of(index: Index, snapshot: Snapshot) -> list[dict[str, Any]]:
    """How often dialogues ended for each reason, the most frequent first."""
    return index.rows(
        f"SELECT stop_reason, count(*) AS n FROM listed WHERE {_VISIBLE} AND done "
        "GROUP BY ALL ORDER BY n DESC, stop_reason",
        [snapshot.number] * 2,
    )


def failures_of(index: Index, snapshot: Snapshot) -> list[dict[str, Any]]:
    """Failed episodes by class and blame, the most frequent first."""
    return index.rows(
        "SELECT blame, error_class, count(*) AS n, min(attempt_id) AS example "
        f"FROM listed WHERE {_VISIBLE} AND NOT done GROUP BY ALL ORDER BY n DESC, error_class",
        [snapshot.number] * 2,
    )


def verdict_means(index: Index) -> list[dict[str, Any]]:
    """Judges and dimensions, with the mean of valid verdicts and how many there are."""
    return index.rows(
        "SELECT judge, dimension, avg(value) FILTER (status = 'valid') AS mean, "
        "count(*) FILTER (status = 'valid') AS valid, count(*) AS n FROM judgements "
        "WHERE annotator IS NULL AND dimension IS NOT NULL GROUP BY ALL ORDER BY ALL"
    )


def choices_of(index: Index) -> dict[str, list[str]]:
    """The values that filters offer."""
    found = {
        column: [
            row[column]
            for row in index.rows(
                f"SELECT DISTINCT {column} FROM listed WHERE {column} IS NOT NULL ORDER BY 1"
            )
        ]
        for column in ("stop_reason", "error_class", "blame")
    }
    found["group"] = [
        row["group"] for row in index.rows('SELECT DISTINCT "group" FROM place_groups ORDER BY 1')
    ]
    found["judge"] = [
        f"{row['judge']} / {row['dimension']}"
        for row in index.rows(
            "SELECT DISTINCT judge, dimension FROM judgements WHERE dimension IS NOT NULL "
            "AND annotator IS NULL ORDER BY ALL"
        )
    ]
    return found
