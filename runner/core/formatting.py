"""How numbers and durations are written for people."""

from __future__ import annotations


def slot_word(cpu: bool) -> str:
    """The word for what engines are placed on."""
    return "CPU slot" if cpu else "GPU"


def short_count(count: int) -> str:
    """`4924990` as `4.9M`."""
    for size, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= size:
            return f"{count / size:.1f}{unit}"
    return str(count)


def duration(seconds: float) -> str:
    """`75` as `1m 15s`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    return f"{whole // 3600}h {whole % 3600 // 60:02d}m"
