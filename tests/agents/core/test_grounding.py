from hypothesis import given
from hypothesis import strategies as st

from agents.core.grounding import TitleIndex
from tests.fakes import CATALOGUE, ITEMS


def ground(title):
    found = CATALOGUE.titles.ground(title)
    return found and (ITEMS[found.place].id, found.score)


def test_exact_titles_ground_whatever_their_case_accents_and_punctuation():
    assert ground("Silent River, The (1971)") == ("1", 100)
    assert ground("the silent river (1971)") == ("1", 100)
    assert ground("  AMELIE'S  CAFE (2001) ") == ("5", 100)


def test_a_title_without_its_year_grounds_when_only_one_item_has_it():
    assert ground("Silent River, The") == ("1", 100)
    twins = TitleIndex(["Home (1990)", "Home (2009)"])
    assert twins.ground("Home") is None
    assert twins.ground("Home (2009)") == (1, 100)


def test_a_small_mistake_grounds_with_its_score():
    found = ground("Silemt River, The (1971)")
    assert found is not None
    assert found[0] == "1"
    assert 90 <= found[1] < 100


def test_other_digits_are_another_title():
    assert ground("Silent River, The (1972)") is None


def test_a_tie_between_two_titles_is_not_guessed():
    index = TitleIndex(["Winter Light Nights aa", "Winter Light Nights bb"])
    assert index.ground("Winter Light Nights ab") is None


def test_titles_of_nothing_in_the_catalogue_stay_ungrounded():
    assert ground("A Film That Nobody Made") is None
    assert ground("") is None
    assert ground("()!?") is None


def test_identical_titles_ground_to_none_of_them():
    assert TitleIndex(["Twin", "Twin"]).ground("Twin") is None


@given(st.text(max_size=40))
def test_no_words_break_it_and_noise_in_case_and_punctuation_changes_nothing(words):
    found = CATALOGUE.titles.ground(words)
    assert found is None or 90 <= found.score <= 100
    noisy = CATALOGUE.titles.ground(f"  {words.upper()}!  ") if words.isascii() else found
    assert noisy == found
