"""Hierarchical discounted cumulative gain of turns and places (UNICORN, section 5.1.5)."""

from __future__ import annotations

from analysis.metrics.core import Metric, positive

__all__ = ["hdcg"]


def hdcg(argument: str | None) -> Metric:
    """`hdcg@T`: a success in turn t <= T with the target at place k of the items shown counts
    1/log2(t+2) + (1/log2(t+1) - 1/log2(t+2)) / log2(k+1), a failure 0.

    K of hDCG@(T, K) is how many items are shown. A success without a target among the items shown
    counts 0.
    """
    turn = positive(argument, "hdcg", "the turn T")
    at, after = "1 / log2(t.turn + 1)", "1 / log2(t.turn + 2)"
    gain = f"{after} + ({at} - {after}) / log2(best_place(t.shown, e.targets) + 1)"
    won = f"t.turn = e.success_turn AND t.turn <= {turn}"
    return Metric(
        "x.num",
        "x.den",
        per_attempt="SELECT attempt_id, coalesce(max(gain), 0) AS num, 1 AS den FROM ("
        f"SELECT e.attempt_id, CASE WHEN {won} THEN {gain} END AS gain "
        "FROM episodes e LEFT JOIN turns t USING (attempt_id)) GROUP BY attempt_id",
        most=1,
    )
