"""Average turns: over successes alone (the CSI code, LatentCRS section 5.4)."""

from __future__ import annotations

from analysis.metrics.core import SAME_LIMIT, Metric, no_argument

__all__ = ["at_success_only"]


def at_success_only(argument: str | None) -> Metric:
    """`at_success_only`: a success counts its turn, failures are left out."""
    no_argument(argument, "at_success_only")
    return Metric(
        "coalesce(e.success_turn, 0)",
        f"CASE WHEN e.success_turn IS NOT NULL THEN {SAME_LIMIT} ELSE 0 END",
        better="lower",
        digits=2,
        of_success=True,
        undefined="dialogues without success",
    )
