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

    A turn without a verdict is not above it. Undefined for dialogues without a critic.
    """
    threshold = _DEFAULT if argument is None else argument
    if re.fullmatch(r"(0(\.\d{1,6})?|1(\.0{1,6})?)", threshold, re.ASCII) is None:
        raise UsageError(
            f"metric 'conv_sr@{argument}': expected a threshold from 0 to 1, such as conv_sr@0.7"
        )
    return Metric(
        "x.num",
        "x.den",
        per_attempt=f"SELECT attempt_id, max((coalesce(critic_score, -1) > {threshold})::INT) AS "
        "num, max((critic_extra IS NOT NULL)::INT) AS den FROM turns WHERE turn > 0 "
        "GROUP BY attempt_id",
        most=1,
        undefined="dialogues without a critic",
    )
