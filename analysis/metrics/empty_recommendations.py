"""Empty recommendations: the agent recommends, and nothing that it named can be shown."""

from __future__ import annotations

from analysis.metrics.core import Metric, no_argument

__all__ = ["empty_recommendations"]


def empty_recommendations(argument: str | None) -> Metric:
    """Share of recommending turns that show no item; undefined without such turns.

    Why a turn is empty is in its record: `turns.extra`, `empty_reason`.
    """
    no_argument(argument, "empty_recommendations")
    return Metric(
        "x.num",
        "x.den",
        per_attempt="SELECT attempt_id, count(*) FILTER (WHERE len(shown) = 0) AS num, "
        "count(*) AS den FROM turns WHERE action = 'recommend' GROUP BY attempt_id",
        better="lower",
    )
