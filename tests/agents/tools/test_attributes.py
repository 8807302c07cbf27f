"""Search by attribute values: all of them, the least important dropped first."""

import numpy as np
import pytest

from agents.core.items import Catalogue, Item
from agents.tools.attributes import AttributeSearch


def artist(number, *tags):
    return Item(str(number), f"Artist {number}", {"tag": tags})


CATALOGUE = Catalogue(
    [
        artist(0, "rock"),
        artist(1, "rock", "indie"),
        artist(2, "rock", "indie", "hip-hop"),
        artist(3, "jazz"),
        artist(4),
    ],
    noun="artist",
)
EVERYTHING = np.ones(5, bool)
ORDER = np.array([0, 1, 2, 3, 4], np.float32)  # the last is the best


def found(*values, allowed=EVERYTHING, most=10):
    return AttributeSearch.of(CATALOGUE).search(values, allowed, ORDER, most)


def ids(result):
    return [item.id for item in result.items]


@pytest.mark.parametrize(
    ("values", "expected", "used", "dropped"),
    [
        (["rock"], ["2", "1", "0"], ("rock",), ()),
        (["rock", "indie"], ["2", "1"], ("rock", "indie"), ()),
        (["indie", "jazz"], ["2", "1"], ("indie",), ("jazz",)),
        (["jazz", "indie"], ["3"], ("jazz",), ("indie",)),
        (["jazz", "indie", "rock"], ["3"], ("jazz",), ("indie", "rock")),
        ([], [], (), ()),
    ],
)
def test_items_have_all_values_and_the_least_important_are_dropped_first(
    values, expected, used, dropped
):
    result = found(*values)
    assert (ids(result), result.values, result.dropped) == (expected, used, dropped)
    assert result.total == len(expected)


def test_a_list_is_cut_and_never_padded():
    assert (ids(found("rock", most=2)), found("rock", most=2).total) == (["2", "1"], 3)


def test_what_may_not_be_recommended_is_not_found():
    allowed = np.array([True, True, False, False, True])
    assert ids(found("hip hop", allowed=allowed)) == []
    assert found("hip hop", allowed=allowed).dropped == ("hip hop",)
    assert ids(found("rock", "hip hop", allowed=allowed)) == ["1", "0"]


def test_values_are_matched_like_titles_and_counted_where_they_mean_nothing():
    result = found("Hip Hop", "HIP-HOP", "{{ x }}", "'; DROP TABLE items", "x" * 1000)
    assert (ids(result), result.values) == (["2"], ("hip hop",))
    assert result.unknown == ("{{ x }}", "'; DROP TABLE items", "x" * 1000)


def test_values_that_texts_name_word_for_word_are_in_order_and_each_once():
    search = AttributeSearch.of(CATALOGUE)
    assert search.named_in(["Some hip hop, or rockabilly.", "No: Indie, and hip-hop!"]) == (
        "hip hop",
        "indie",
    )


def test_the_vocabulary_has_the_most_frequent_values_of_each_attribute():
    [column] = AttributeSearch.of(CATALOGUE).vocabulary
    assert (column.name, column.values) == ("tag", ("rock", "indie", "hip-hop", "jazz"))


def test_the_search_of_a_catalogue_is_made_once():
    assert AttributeSearch.of(CATALOGUE) is AttributeSearch.of(CATALOGUE)
