"""Win rate of a judge of pairs (DESIRE, Table 5; CSI, Figure 4)."""

from __future__ import annotations

from analysis.metrics.core import JudgeWanted, Metric, with_label
from analysis.sql.verdicts import sides, sql_string

__all__ = ["win_rate"]


def win_rate(argument: str | None) -> Metric:
    """`win_rate@DIMENSION`: the share of a cell's pairs that it wins, against whatever opponents.

    Both orders are asked; a verdict that depends on the order is a tie (`order_bias`). Undefined
    for dialogues in no pair, and where an order has no valid verdict.
    """
    dimension, label = with_label(argument, "win_rate", "overall")
    return Metric(
        "x.num",
        "x.den",
        per_attempt="SELECT attempt_id, count(*) FILTER (WHERE result = 1) AS num, "
        f"count(*) AS den FROM ({sides()}) WHERE dimension = {sql_string(dimension)} GROUP BY ALL",
        judge=JudgeWanted(None, label, dimension),
        is_share=True,
    )
