"""Conversation success rate: the critic is satisfied at some turn (RSO, section IV-C)."""

from __future__ import annotations

import re

from agents.core.errors import UsageError
from analysis.metrics.core import Metric

__all__ = ["conv_sr"]

_DEFAULT = "0.7"


def conv_sr(argument: str | None) -> Metric:
    """`conv_sr`: share of dialogues with a turn whose `critic_score` is above 0.7, the threshold of
    RSO's released code; `conv_sr@0.8`: above another.

    A turn without a verdict is not above it, and a dialogue that the agent failed before the critic
    spoke counts 0. Undefined for dialogues without a critic.
    """
    threshold = _DEFAULT if argument is None else argument
    if re.fullmatch(r"(0(\.\d{1,6})?|1(\.0{1,6})?)", threshold, re.ASCII) is None:
        raise UsageError(
            f"metric 'conv_sr@{argument}': expected a threshold from 0 to 1, such as conv_sr@0.7"
        )
    return Metric(
        "x.num",
        "x.den",
        per_attempt="SELECT e.attempt_id, coalesce(t.above, 0) AS num, CASE WHEN t.watched "
        "OR e.status = 'failed' AND (e.success_rule = 'critic_above' "
        "OR bool_or(t.watched) OVER (PARTITION BY e.cell)) THEN 1 END AS den FROM episodes e "
        f"LEFT JOIN (SELECT attempt_id, max((coalesce(critic_score, -1) > {threshold})::INT) AS "
        "above, bool_or(critic_extra IS NOT NULL) AS watched FROM turns WHERE turn > 0 "
        "GROUP BY attempt_id) t USING (attempt_id)",
        most=1,
        undefined="dialogues without a critic",
    )
