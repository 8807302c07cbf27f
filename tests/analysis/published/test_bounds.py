"""Bounds of average turns, against every distribution of success turns that there is."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis import published
from analysis.published.bounds import (
    CONVENTIONS,
    Interval,
    average_turns,
    impossible,
    impossible_means,
    impossible_shares,
    printed,
)

Counts = tuple[int, ...]  # episodes by success turn 1 to T, the failures last


def rate(counts: Counts, turn: int) -> Fraction:
    return Fraction(sum(counts[:turn]), sum(counts))


def average(counts: Counts, convention: str) -> Fraction | None:
    """Straight from the definition: the mean of a turn an episode."""
    *successes, failures = counts
    turns = len(successes)
    total = sum(turn * count for turn, count in enumerate(successes, 1))
    if convention == "at_success_only":
        return Fraction(total, sum(successes)) if any(successes) else None
    at_failure = turns + 1 if convention == "at_fail_plus_1" else turns
    return Fraction(total + at_failure * failures, sum(counts))


def distributions(cases: int, turns: int) -> Iterator[Counts]:
    """Every way in which `cases` episodes can end."""
    for bars in itertools.combinations(range(cases + turns), turns):
        ends = [-1, *bars, cases + turns]
        yield tuple(b - a - 1 for a, b in itertools.pairwise(ends))


def rounded(value: Fraction, digits: int, rounding: str) -> str:
    exact = Decimal(value.numerator) / Decimal(value.denominator)
    return str(exact.quantize(Decimal(1).scaleb(-digits), rounding=rounding))


counts_of_five_turns = st.lists(st.integers(0, 300), min_size=6, max_size=6).filter(any).map(tuple)


@given(
    counts_of_five_turns,
    st.sampled_from(CONVENTIONS),
    st.sampled_from([ROUND_HALF_UP, ROUND_HALF_EVEN]),
    st.sets(st.integers(1, 5)),
)
def test_what_really_happened_is_never_called_impossible(counts, convention, rounding, at):
    mean = average(counts, convention)
    if mean is None:
        return
    rates = {t: printed(rounded(rate(counts, t), 2, rounding)) for t in at}
    bounds = average_turns(rates, 5, convention)
    assert bounds is not None
    assert bounds.low <= mean <= bounds.high
    numbers = {f"sr@{t}": rounded(rate(counts, t), 2, rounding) for t in at}
    assert impossible({**numbers, convention: rounded(mean, 2, rounding)}, 5) is None


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("texts", [("0.2", "0.5"), ("0.3", "0.3"), ("0.1", "0.9"), ("0.8", "1.0")])
def test_the_bounds_are_those_of_all_distributions(convention, texts):
    # A half of the last digit is a multiple of 1/20, so 20 episodes reach every bound.
    rates = {2: printed(texts[0]), 4: printed(texts[1])}
    found = [
        mean
        for counts in distributions(20, 4)
        if all(r.low <= rate(counts, t) <= r.high for t, r in rates.items())
        and (mean := average(counts, convention)) is not None
    ]
    assert average_turns(rates, 4, convention) == Interval(min(found), max(found))


def test_without_any_rate_everything_from_the_first_turn_on_is_possible():
    assert average_turns({}, 5) == Interval(Fraction(1), Fraction(6))
    assert average_turns({}, 5, "at_fail_t") == Interval(Fraction(1), Fraction(5))
    assert average_turns({}, 5, "at_success_only") == Interval(Fraction(1), Fraction(5))


def test_shares_that_fall_have_no_distribution():
    falling = {1: printed("0.50"), 3: printed("0.48")}
    assert average_turns(falling, 5) is None
    assert "cannot fall" in (impossible({"sr@1": "0.5", "sr@3": "0.3", "at_fail_t": "3"}, 5) or "")
    assert average_turns({1: printed("0.50"), 3: printed("0.49")}, 5) is not None  # by rounding


def test_without_a_success_there_is_no_turn_to_average():
    none = Interval(Fraction(0), Fraction(0))
    assert average_turns({5: none}, 5, "at_success_only") is None
    assert average_turns({5: none}, 5) == Interval(Fraction(6), Fraction(6))


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="at_fail_plus_1"):
        average_turns({}, 5, "at")
    with pytest.raises(ValueError, match="from 1 to 5"):
        average_turns({6: printed("0.5")}, 5)
    with pytest.raises(ValueError):
        printed("n/a")


@given(st.integers(1, 20_000), st.data())
def test_a_known_number_of_cases_only_narrows(cases, data):
    hits = data.draw(st.integers(0, cases))
    text = rounded(Fraction(hits, cases), 2, ROUND_HALF_UP)
    narrow, wide = printed(text, cases), printed(text)
    assert wide.low <= narrow.low <= Fraction(hits, cases) <= narrow.high <= wide.high


def rows(name: str) -> dict[tuple[str, str], dict[str, str]]:
    table = published.read(name)
    return {
        (r.dataset, r.row): {m: number.text for m, number in r.numbers.items()} for r in table.rows
    }


def test_all_rows_of_table_2_can_be_and_most_only_if_a_failure_counts_a_turn_more():
    fits = dict.fromkeys(CONVENTIONS, 0)
    for numbers in rows("af_irs/table2").values():
        turns = numbers.pop("at_fail_plus_1")
        for convention in CONVENTIONS:
            fits[convention] += impossible({**numbers, convention: turns}, 5) is None
    assert fits == {"at_fail_plus_1": 24, "at_fail_t": 5, "at_success_only": 0}


def test_one_row_of_table_3_cannot_be():
    found = {place: impossible(numbers, 5) for place, numbers in rows("af_irs/table3").items()}
    assert {place for place, reason in found.items() if reason} == {
        ("Amazon-Beauty", "w/o Action-First")
    }
    assert found["Amazon-Beauty", "w/o Action-First"] == (
        "at_fail_plus_1 4.40 with sr@1 0.17, sr@3 0.46, sr@5 0.47: in 5 turns it is 3.945 to 4.295"
    )


def test_another_row_of_table_3_touches_its_bound_and_cannot_be_if_all_users_were_tested():
    numbers = rows("af_irs/table3")["Amazon-Beauty", "w/o LLM-refine"]
    rates = {t: numbers[f"sr@{t}"] for t in (1, 3, 5)}
    free = average_turns({t: printed(text) for t, text in rates.items()}, 5)
    assert free is not None
    assert free.high == printed(numbers["at_fail_plus_1"]).low == Fraction("5.015")
    users = 15_576
    tested = average_turns({t: printed(text, users) for t, text in rates.items()}, 5)
    assert tested is not None
    assert not tested.meets(printed(numbers["at_fail_plus_1"], users))


LASTFM_LLM = {
    "InterCRS",
    "ChatCRS",
    "MACRS",
    "DESIRE (LLaMA-7B)",
    "DESIRE (GPT-3.5-Turbo)",
    "DESIRE (GPT-4-Turbo)",
}
ABLATIONS = {
    "w/o desire reasoning",
    "w/o exploration action",
    "w/o persuasive strategy",
    "DESIRE",
}


@pytest.mark.parametrize(
    ("name", "above"),
    [
        ("desire/table3", {("LastFM", row) for row in LASTFM_LLM}),
        (
            "desire/table4",
            {("LastFM", row) for row in ABLATIONS} | {("Yelp", "w/o desire reasoning")},
        ),
    ],
)
def test_which_rows_of_desire_exceed_what_their_success_rate_allows(name, above):
    found = {place for place, numbers in rows(name).items() if impossible_shares(numbers)}
    assert found == above
    assert not any(impossible(numbers, 15) for numbers in rows(name).values())


def test_both_numbers_of_a_row_of_desire_exceed_its_success_rate():
    assert impossible_shares(rows("desire/table3")["LastFM", "InterCRS"]) == (
        "persuasiveness 68.51, convincing_acceptance 56.25 with sr@15 0.431: if sessions without "
        "acceptance count 0 and none more than 1, at most 43.15"
    )
    assert impossible_shares(rows("desire/table4")["Yelp", "w/o desire reasoning"]) == (
        "persuasiveness 76.55 with sr@15 0.712: if sessions without acceptance count 0 and none "
        "more than 1, at most 71.25"
    )


@pytest.mark.parametrize(
    ("numbers", "possible"),
    [
        ({"sr@15": "0.5", "persuasiveness": "55.0"}, True),  # .55 rounds to 0.5 or 0.6
        ({"sr@15": "0.50", "persuasiveness": "50.6"}, False),
        ({"sr@15": "0.50", "persuasiveness": "51"}, True),  # 50.5 rounds to 51
        ({"sr@5": "0.20", "sr@15": "0.50", "convincing_acceptance": "45.0"}, True),
        ({"sr@15": "0.20", "convincing_acceptance": "45.0"}, False),
        ({"persuasiveness": "99"}, True),
        ({"sr@15": "0.20"}, True),
    ],
)
def test_the_bound_counts_rounding_and_takes_the_last_success_rate(numbers, possible):
    assert (impossible_shares(numbers) is None) == possible


def test_a_printed_overall_that_is_no_mean_of_the_printed_groups_is_found():
    """One row of CSI's Table 3: .501 is printed, the mean of its groups is .475."""
    table = published.read("csi/table3")
    found = {}
    for row in table.rows:
        reason = impossible_means({name: number.text for name, number in row.numbers.items()})
        if reason is not None:
            found[row.dataset, row.row] = reason
    assert list(found) == [("Electronics", "CSI w/o Profile")]
    assert found["Electronics", "CSI w/o Profile"].startswith(
        "sr@10[overall_macro] 0.501: the mean"
    )
    assert impossible_means({"swr[overall_macro]": "0.5", "swr[Active]": "0.1"}) is None
