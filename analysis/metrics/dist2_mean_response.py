"""Distinct-2 of each message: its distinct bigrams divided by all its bigrams (RSO)."""

from __future__ import annotations

from analysis import sql
from analysis.metrics.core import Metric, no_argument

__all__ = ["dist2_mean_response"]


def dist2_mean_response(argument: str | None) -> Metric:
    """`dist2_mean_response`: the mean over all messages of the recommender, pooled over dialogues.

    RSO's 0.998 over a whole corpus is out of reach, so its Dist-2 can only be this one. Words are
    runs of letters and digits in lower case; every other sign is a word. Messages of one word have
    no pair and are left out.
    """
    no_argument(argument, "dist2_mean_response")
    return Metric(
        "x.num",
        "x.den",
        per_attempt="SELECT attempt_id, sum(own) AS num, count(*) AS den FROM (SELECT attempt_id, "
        f"turn, count(DISTINCT bigram) / count(*) AS own FROM ({sql.read('bigrams')}) "
        "GROUP BY attempt_id, turn) GROUP BY attempt_id",
        digits=4,
        undefined="dialogues without a message of two words",
    )
