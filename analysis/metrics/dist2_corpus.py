"""Distinct-2 of all messages together: distinct bigrams divided by all bigrams (Li et al. 2016)."""

from __future__ import annotations

from analysis import sql
from analysis.metrics.core import Metric, no_argument

__all__ = ["dist2_corpus"]


def dist2_corpus(argument: str | None) -> Metric:
    """`dist2_corpus`: over all messages of a cell and seed. It falls as the corpus grows, so
    compare only cells with equally many messages.

    Each bigram counts for the first dialogue that has it, by case. So the figure is exact over all
    dialogues of a cell; over a part of them it is slightly low. Words as in `dist2_mean_response`.
    """
    no_argument(argument, "dist2_corpus")
    return Metric(
        "x.num",
        "x.den",
        per_attempt="SELECT attempt_id, count(*) FILTER (WHERE first) AS num, count(*) AS den "
        "FROM (SELECT b.attempt_id, row_number() OVER (PARTITION BY e.cell, e.seed, "
        "e.seed_training, e.seed_order, b.bigram ORDER BY e.case_id, b.turn) = 1 AS first "
        f"FROM ({sql.read('bigrams')}) b JOIN episodes e USING (attempt_id)) GROUP BY attempt_id",
        digits=4,
        undefined="dialogues without a message of two words",
    )
