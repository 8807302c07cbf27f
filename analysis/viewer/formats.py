"""Formats numbers and times for the viewer's templates."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from analysis.tables.sheets import UNDEFINED, clock


def whole(value: float | None) -> str:
    """`1234.5` as `1,234`."""
    return UNDEFINED if value is None or not math.isfinite(value) else f"{value:,.0f}"


def decimals(value: float | None, digits: int = 2) -> str:
    return UNDEFINED if value is None or not math.isfinite(value) else f"{value:,.{digits}f}"


def percent(value: float | None) -> str:
    return UNDEFINED if value is None or not math.isfinite(value) else f"{100 * value:.1f} %"


def seconds(value: float | None) -> str:
    """`75` as `1 m 15 s`; below ten seconds one decimal."""
    if value is None or not math.isfinite(value):
        return UNDEFINED
    if value < 10:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} m"
    return f"{minutes} m {rest:02} s" if minutes else f"{rest} s"


def spaced(word: str | None) -> str:
    """`max_turns` as `max turns`."""
    return UNDEFINED if word is None else word.replace("_", " ")


FILTERS: Mapping[str, Callable[..., Any]] = {
    "whole": whole,
    "decimals": decimals,
    "percent": percent,
    "seconds": seconds,
    "clock": clock,
    "spaced": spaced,
    "zip": zip,
}
