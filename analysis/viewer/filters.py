"""Converts the query of a URL into filters, order and position of a page of episodes, and back.

Text from a URL reaches DuckDB only as a bound parameter, never as SQL; the free condition (`where`)
is SQL and runs in a separate process (`analysis.viewer.conditions`). Column names in SQL are ours.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlencode

from agents.core.errors import UsageError, near

PAGE = 50
"""Episodes per page."""
LONGEST = 4000
"""Maximum length of a free condition, in characters."""

OUTCOMES = {
    "success": "done AND success",
    "no success": "done AND NOT success",
    "failed": "NOT done",
}
SORTS = {
    "case": ("place", False),
    "newest first": ("ended", True),
    "most tokens": ("tokens", True),
    "longest": ("seconds", True),
    "most turns": ("turns", True),
}
"""Label -> column and whether the order is descending; `place` breaks ties."""
_RANGES = ("tokens", "seconds", "turns")
_EQUAL = {"stop": "stop_reason", "error": "error_class", "blame": "blame"}
_OTHER = (
    "snapshot cell outcome stop error blame case group seed judge judge_min judge_max where sort "
    "after before row page attempt"
)
_KNOWN = [*_OTHER.split(), *(f"{name}_{end}" for name in _RANGES for end in ("min", "max"))]

_IN_GROUP = (
    "(cell, place // 2147483648) IN (SELECT (p.cell, g.position) FROM place_groups g "
    'JOIN plan_cells p USING (source_id) WHERE g."group" = ?)'
)


class Filters:
    """The query of a URL, checked. Raises UsageError for an invalid value."""

    def __init__(self, query: Iterable[tuple[str, str]], axes: Sequence[str]) -> None:
        """`axes` are named by their position (`axis0`): their names may be anything."""
        self.axis_keys = [f"axis{number}" for number in range(len(axes))]
        self.given: dict[str, str] = {}
        for key, value in query:
            if key not in _KNOWN and key not in self.axis_keys:
                raise UsageError(f"there is no filter {key[:40]!r}{near(key, _KNOWN)}")
            if value.strip():
                self.given[key] = value.strip()
        self.snapshot = self._whole("snapshot")
        self.where = self.given.get("where", "")
        if len(self.where) > LONGEST:
            raise UsageError(f"where: expected at most {LONGEST:,} characters")
        self.sort = self._one_of("sort", SORTS, "case")
        self._one_of("outcome", OUTCOMES, "")
        self.bounds = {
            key: number
            for name in (*_RANGES, "judge")
            for key in (f"{name}_min", f"{name}_max")
            if (number := self._number(key)) is not None
        }

    def link(self, path: str, **changes: str | int | None) -> str:
        """`path` with these filters; a change that is None leaves one out."""
        chosen = {**self.given, **{k: v if v is None else str(v) for k, v in changes.items()}}
        query = urlencode({key: value for key, value in chosen.items() if value is not None})
        return f"{path}?{query}" if query else path

    @property
    def chosen(self) -> dict[str, str]:
        """The filters that narrow the list."""
        other = ("snapshot", "sort", "after", "before", "row", "page", "attempt")
        return {key: value for key, value in self.given.items() if key not in other}

    def conditions(
        self, cells: Sequence[int] | None, seeds: Sequence[int] | None, cases: Sequence[int] | None
    ) -> tuple[list[str], list[Any]]:
        """SQL on `listed`, and its parameters. `cells`, repetitions (`seeds`) and positions of
        cases are what the plan says that the filters on them mean; None: all."""
        texts: list[str] = []
        values: list[Any] = []
        for text, numbers in (
            ("cell", cells),
            ("place % 2147483648", seeds),
            ("place // 2147483648", cases),
        ):
            if numbers is not None:
                texts.append(f"{text} IN (SELECT unnest(?::BIGINT[]))")
                values.append(list(numbers))
        if "outcome" in self.given:
            texts.append(OUTCOMES[self.given["outcome"]])
        for key, column in _EQUAL.items():
            if key in self.given:
                texts.append(f"{column} = ?")
                values.append(self.given[key])
        if "group" in self.given:
            texts.append(_IN_GROUP)
            values.append(self.given["group"])
        for name in _RANGES:
            for end, compare in (("min", ">="), ("max", "<=")):
                if f"{name}_{end}" in self.bounds:
                    texts.append(f"{name} {compare} ?")
                    values.append(self.bounds[f"{name}_{end}"])
        return texts, values

    def cells(self, axes: Sequence[str], by_cell: Sequence[Mapping[str, str]]) -> list[int] | None:
        """The cells that match the filters on cell and axes; None: all."""
        wanted = {
            axis: self.given[key]
            for key, axis in zip(self.axis_keys, axes, strict=True)
            if key in self.given
        }
        number = self._whole("cell")
        if number is None and not wanted:
            return None
        return [
            index
            for index, labels in enumerate(by_cell)
            if number in (None, index)
            and all(labels.get(axis) == label for axis, label in wanted.items())
        ]

    def seed(self) -> int | None:
        return self._whole("seed")

    def row(self) -> int | None:
        """The row that a page starts with, from 1."""
        return self._whole("row")

    def _one_of(self, key: str, known: Iterable[str], default: str) -> str:
        value = self.given.get(key, default)
        if value != default and value not in known:
            raise UsageError(f"{key}: expected one of {', '.join(known)}, found {value[:40]!r}")
        return value

    def _whole(self, key: str) -> int | None:
        number = self._number(key)
        if number is None:
            return None
        if number != int(number) or abs(number) > 2**62:
            raise UsageError(f"{key}: expected a whole number, found {self.given[key][:40]!r}")
        return int(self.given[key]) if self.given[key].lstrip("-").isdecimal() else int(number)

    def _number(self, key: str) -> float | None:
        if key not in self.given:
            return None
        try:
            number = float(self.given[key].replace(",", ""))
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise UsageError(f"{key}: expected a number, found {self.given[key][:40]!r}")
        return number


class Mark(NamedTuple):
    """A row's position in an order: a page starts after it, or ends before it."""

    value: float
    place: int

    def __str__(self) -> str:
        return f"{self.value!r}~{self.place}"

    @classmethod
    def read(cls, text: str) -> Mark:
        """UsageError if it is none."""
        value, _, place = text.partition("~")
        try:
            return cls(float(value), int(place))
        except ValueError:
            raise UsageError(f"expected a place in the list, found {text[:40]!r}") from None
