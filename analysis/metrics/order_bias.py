"""How often a judge of pairs changes its verdict with the order of the two sides."""

from __future__ import annotations

from analysis.metrics.core import JudgeWanted, Metric, with_label
from analysis.sql.verdicts import sides, sql_string

__all__ = ["order_bias"]


def order_bias(argument: str | None) -> Metric:
    """`order_bias@DIMENSION`: the share of a cell's pairs in which the two orders disagree.

    Such pairs count as ties in `win_rate`.
    """
    dimension, label = with_label(argument, "order_bias", "overall")
    return Metric(
        "x.num",
        "x.den",
        per_attempt="SELECT attempt_id, count(*) FILTER (WHERE order_bias) AS num, "
        f"count(*) AS den FROM ({sides()}) WHERE dimension = {sql_string(dimension)} GROUP BY ALL",
        better="lower",
        judge=JudgeWanted(None, label, dimension),
    )
