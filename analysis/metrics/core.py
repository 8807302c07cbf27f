"""What a metric is, and how its name in a sweep file is read.

A metric is a ratio: over the episodes of one cell and one seed, the sum of a numerator by the sum
of a denominator. A mean over episodes has the denominator 1; a pooled share has both. Episodes
whose denominator is NULL or 0 do not define the metric, and are not counted in its n.

- `name@argument`: `sr@5` is the plug-in `sr` with the argument "5".
- Headline metrics count episodes that the agent failed, as whatever the metric makes of them, and
  leave out those that others failed. `sr_completed@5` leaves out all failed episodes.
- `sr_clean@5`: a success that the simulated user's own record casts doubt on is none. It is not
  clean if the user named the title that it must not say in an earlier turn, or if its acceptance
  disagreed with the targets. Undefined where users do not record that. `sr_clean_completed@5`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from agents.core import plugins
from agents.core.errors import UsageError

METRICS = "analysis.metrics"
_COMPLETED, _CLEAN = "_completed", "_clean"


@dataclass(frozen=True)
class Metric:
    """SQL over one row `e` of `episodes`, and what tables need to know.

    `per_attempt` is a query with the columns attempt_id, num and den (one row an attempt), for
    metrics that read turns or calls; `numerator` and `denominator` then read `x.num` and `x.den`.
    `of_success` metrics read `e.success_turn` and nothing else that was observed, so that they have
    a variant over clean successes.
    """

    numerator: str
    denominator: str = "1"
    per_attempt: str | None = None
    better: Literal["higher", "lower"] | None = "higher"
    digits: int = 3
    needs_probe: bool = False
    of_success: bool = False
    name: str = ""
    completed_only: bool = False
    clean: bool = False


def parse(text: str) -> Metric:
    """The metric that `text` names; UsageError with an example or a near match."""
    name, at, argument = text.partition("@")
    completed = name.endswith(_COMPLETED)
    name = name.removesuffix(_COMPLETED)
    clean = name.endswith(_CLEAN)
    name = name.removesuffix(_CLEAN)
    _refuse_family(name, text)
    make = plugins.load(METRICS, name, "metric")
    metric = make(argument if at else None) if callable(make) else None
    if not isinstance(metric, Metric):
        raise UsageError(f"metric {text!r}: {name!r} is not a metric")
    if clean and not metric.of_success:
        raise UsageError(
            f"metric {text!r}: only metrics of success have a variant over clean successes "
            "(sr_clean@5, at_fail_t_clean)"
        )
    changes = {"name": text, "completed_only": completed, "clean": clean}
    return Metric(**{**metric.__dict__, **changes})


def _refuse_family(name: str, text: str) -> None:
    """One name for several definitions (`dsr`) is refused, and all of them named."""
    known = plugins.names(METRICS)
    variants = [other for other in known if name and other.startswith(f"{name}_")]
    if name not in known and variants:
        raise UsageError(
            f"no metric is called {text!r}: it has several definitions, each with its own name "
            f"({', '.join(variants)})"
        )


def positive(argument: str | None, metric: str, what: str) -> int:
    """`argument` as a whole number of at least 1; UsageError with an example."""
    if argument is None or not re.fullmatch(r"[1-9][0-9]{0,5}", argument):
        found = metric if argument is None else f"{metric}@{argument}"
        raise UsageError(f"metric {found!r}: expected {what}, such as {metric}@5")
    return int(argument)


def no_argument(argument: str | None, metric: str) -> None:
    """Refuses an argument where a metric takes none."""
    if argument is not None:
        raise UsageError(f"metric '{metric}@{argument}': {metric} takes no argument")
