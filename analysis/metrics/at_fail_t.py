"""Average turns: a failure counts T turns (RSO, UNICORN, the LatentCRS code)."""

from __future__ import annotations

from analysis.metrics.core import SAME_LIMIT, Metric, no_argument

__all__ = ["at_fail_t"]


def at_fail_t(argument: str | None) -> Metric:
    """`at_fail_t`: a success counts its turn, a failure counts T; T is the limit of turns."""
    no_argument(argument, "at_fail_t")
    return Metric(
        "coalesce(e.success_turn, e.max_turns)",
        SAME_LIMIT,
        better="lower",
        digits=2,
        of_success=True,
    )
