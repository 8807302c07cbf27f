"""Success rate: the share of episodes with success at turn <= t (AF-IRS, section 5.1.4)."""

from __future__ import annotations

from analysis.metrics.core import Metric, positive

__all__ = ["sr"]


def sr(argument: str | None) -> Metric:
    """`sr@t`. What counts as success is the sweep's success rule, stored with every episode.

    Undefined for dialogues whose limit is below t while that of others of the sweep is higher.
    """
    turn = positive(argument, "sr", "the turn t")
    return Metric(
        f"CASE WHEN e.success_turn <= {turn} THEN 1 ELSE 0 END",
        f"CASE WHEN e.max_turns >= least({turn}, e.most_turns) THEN 1 END",
        most=1,
        of_success=True,
    )
