"""Formats numbers and times for the viewer's templates."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

NONE = "–"


def whole(value: float | None) -> str:
    """`1234.5` as `1,234`."""
    return NONE if value is None or not math.isfinite(value) else f"{value:,.0f}"


def figure(value: float | None, digits: int = 2) -> str:
    return NONE if value is None or not math.isfinite(value) else f"{value:,.{digits}f}"


def percent(value: float | None) -> str:
    return NONE if value is None or not math.isfinite(value) else f"{100 * value:.1f} %"


def seconds(value: float | None) -> str:
    """`75` as `1 m 15 s`; below ten seconds one decimal."""
    if value is None or not math.isfinite(value):
        return NONE
    if value < 10:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} m"
    return f"{minutes} m {rest:02} s" if minutes else f"{rest} s"


def clock(value: float) -> str:
    """Seconds since the epoch as UTC."""
    try:
        return f"{datetime.fromtimestamp(value, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (ValueError, OverflowError, OSError):
        return NONE


def spaced(word: str | None) -> str:
    """`max_turns` as `max turns`."""
    return NONE if word is None else word.replace("_", " ")


FILTERS: Mapping[str, Callable[..., Any]] = {
    "whole": whole,
    "figure": figure,
    "percent": percent,
    "seconds": seconds,
    "clock": clock,
    "spaced": spaced,
    "zip": zip,
}
