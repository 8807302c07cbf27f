"""Whether printed numbers can be true at all: bounds that success rates put on average turns.

Let S_t be the share of episodes with success at turn <= t, of at most T turns. Counting turns by
the share that is still going on before each of them (S_0 = 0),

- `at_fail_plus_1` is the sum of 1 - S_t for t = 0 to T, since a failure counts T + 1;
- `at_fail_t` is the sum of 1 - S_t for t = 0 to T - 1, since a failure counts T;
- `at_success_only` is the sum of (S_T - S_t) / S_T for t = 0 to T - 1.

A paper prints S_t for some t only, rounded. S_t grows with t, so every other S_t lies between its
neighbours; the bounds are reached by setting all S_t low or all high. Exact arithmetic throughout.

DESIRE averages persuasiveness and convincing acceptance (both x 100) over all sessions, and counts
sessions that do not end with an acceptance as unsuccessful for both. Then neither can exceed
100 x S_T: convincing acceptance is 0 or 1 in each session, and persuasiveness if it is never above
1, which it is only where the explanation raises the intention further than the facts justify.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction
from math import ceil, floor
from typing import NamedTuple

from simulators.core.profiles import GROUPS

CONVENTIONS = ("at_fail_plus_1", "at_fail_t", "at_success_only")
SHARES_OF_SUCCESS = ("persuasiveness", "convincing_acceptance")
"""Metrics of DESIRE, x 100, to which sessions without acceptance contribute 0."""


class Interval(NamedTuple):
    """All values from `low` to `high`, both included."""

    low: Fraction
    high: Fraction

    def meets(self, other: Interval) -> bool:
        return self.low <= other.high and other.low <= self.high


def printed(text: str, cases: int | None = None) -> Interval:
    """The values that round to `text`, a decimal number such as `0.47` or `.47`.

    Both ends are included, because halves may be rounded either way. With `cases`, only multiples
    of 1/`cases`, since the number is a mean over as many 0s and 1s. Raises ValueError.
    """
    _, _, decimals = text.partition(".")
    half = Fraction(1, 2 * 10 ** len(decimals))
    low, high = Fraction(text) - half, Fraction(text) + half
    if cases is not None:
        low, high = Fraction(ceil(low * cases), cases), Fraction(floor(high * cases), cases)
    return Interval(low, high)


def average_turns(
    rates: Mapping[int, Interval], turns: int, convention: str = "at_fail_plus_1"
) -> Interval | None:
    """Bounds of the average turns; None where no distribution of success turns has such `rates`.

    `rates` maps t (1 to `turns`) to the possible values of S_t; `turns` is T. The bounds are
    exact for `at_fail_plus_1` and `at_fail_t`. For `at_success_only` they are exact where S_T
    is in `rates` and above 0. Raises ValueError for an unknown convention or a t beyond T.
    """
    if convention not in CONVENTIONS:
        raise ValueError(f"expected one of {', '.join(CONVENTIONS)}, found {convention!r}")
    if not all(1 <= t <= turns for t in rates):
        raise ValueError(f"expected turns from 1 to {turns}, found {sorted(rates)}")
    low = [_highest(rates, t) for t in range(1, turns + 1)]
    high = [_lowest(rates, t) for t in range(1, turns + 1)]
    if any(a > b for a, b in zip(low, high, strict=True)):
        return None
    if convention == "at_fail_plus_1":
        return Interval(turns + 1 - _sum(high), turns + 1 - _sum(low))
    if convention == "at_fail_t":
        return Interval(turns - _sum(high[:-1]), turns - _sum(low[:-1]))
    if high[-1] == 0:
        return None  # nobody succeeds: there is nothing to average
    # For a given S_T the share S_t / S_T is largest at the lowest S_T, where S_t <= S_T binds.
    slowest = turns - _sum(low[:-1]) / high[-1]
    if low[-1] == 0:
        return Interval(Fraction(1), slowest)
    return Interval(turns - _sum(min(s, low[-1]) for s in high[:-1]) / low[-1], slowest)


def impossible(numbers: Mapping[str, str], turns: int) -> str | None:
    """Why the numbers of one row cannot all be true; None if no contradiction is found.

    `numbers` maps metrics (`sr@t`, the conventions above) to printed values; `turns` is T.
    """
    success = {m: numbers[m] for m in _success_rates(numbers)}
    rates = {int(metric.removeprefix("sr@")): printed(text) for metric, text in success.items()}
    words = ", ".join(f"{metric} {text}" for metric, text in success.items())
    for metric in (m for m in numbers if m in CONVENTIONS):
        bounds = average_turns(rates, turns, metric)
        if bounds is None:
            return f"{words}: a share of successes cannot fall with t"
        if not bounds.meets(printed(numbers[metric])):
            return (
                f"{metric} {numbers[metric]} with {words}: in {turns} turns it is "
                f"{float(bounds.low):.3f} to {float(bounds.high):.3f}"
            )
    return None


def impossible_shares(numbers: Mapping[str, str]) -> str | None:
    """Why numbers of `SHARES_OF_SUCCESS` cannot be averages over all sessions; None if they can.

    `numbers` maps metrics to what is printed. The bound is the success rate at the highest t.
    """
    success = {int(m.removeprefix("sr@")): m for m in _success_rates(numbers)}
    if not success:
        return None
    name = success[max(success)]
    most = 100 * printed(numbers[name]).high
    above = [m for m in SHARES_OF_SUCCESS if m in numbers and printed(numbers[m]).low > most]
    if not above:
        return None
    words = ", ".join(f"{metric} {numbers[metric]}" for metric in above)
    return (
        f"{words} with {name} {numbers[name]}: if sessions without acceptance count 0 and none "
        f"more than 1, at most {float(most):.2f}"
    )


def impossible_ranks(numbers: Mapping[str, str]) -> str | None:
    """Why a printed `ndcg@k` contradicts `recall@k`; None if it does not.

    With one relevant item, a hit counts 1 in recall, and at most 1 in NDCG.
    """
    for metric, text in numbers.items():
        name, _, depth = metric.partition("@")
        hits = numbers.get(f"recall@{depth}")
        if name == "ndcg" and hits is not None and printed(text).low > printed(hits).high:
            words = f"{metric} {text} with recall@{depth} {hits}"
            return f"{words}: with one relevant item it is no more"
    return None


def impossible_means(numbers: Mapping[str, str]) -> str | None:
    """Why a printed `[overall_macro]` cannot be the mean of the printed groups; None if it can.

    `numbers` maps metrics to printed values, for all groups of `simulators.core.profiles`.
    """
    for metric, text in numbers.items():
        plain, _, group = metric.partition("[")
        if group != "overall_macro]":
            continue
        own = [f"{plain}[{g}]" for groups in GROUPS.values() for g in groups]
        if not all(name in numbers for name in own):
            continue
        values = [printed(numbers[name]) for name in own]
        low = _sum(value.low for value in values) / len(values)
        high = _sum(value.high for value in values) / len(values)
        if not Interval(low, high).meets(printed(text)):
            return (
                f"{metric} {text}: the mean of the printed groups is {float(low):.4f} to "
                f"{float(high):.4f}"
            )
    return None


def _success_rates(numbers: Mapping[str, str]) -> list[str]:
    """The metrics `sr@t` of all users; those of groups have another name."""
    return [metric for metric in numbers if metric.startswith("sr@") and "[" not in metric]


def _sum(rates: Iterable[Fraction]) -> Fraction:
    return sum(rates, Fraction())


def _highest(rates: Mapping[int, Interval], turn: int) -> Fraction:
    """The least that S_turn can be: no less than any S_t before it."""
    return max([Fraction(0), *(rate.low for t, rate in rates.items() if t <= turn)])


def _lowest(rates: Mapping[int, Interval], turn: int) -> Fraction:
    """The most that S_turn can be: no more than any S_t after it."""
    return min([Fraction(1), *(rate.high for t, rate in rates.items() if t >= turn)])
