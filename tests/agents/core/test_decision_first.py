"""What written titles mean, in the catalogue and among items to choose from."""

from agents.core.decision_first import ground
from agents.core.items import Catalogue, Item
from tests.fakes import CATALOGUE, ITEMS


def test_titles_are_looked_for_in_the_whole_catalogue():
    named = ground(
        ["heat wave", "Alien Gardens (1986)", "No Such Film", "Heat Wave (1995)"], CATALOGUE
    )
    assert named.items == (ITEMS[1], ITEMS[3])
    assert named.ungrounded == ["No Such Film"]


def test_a_title_outside_of_what_there_was_to_choose_from_is_counted_and_not_guessed():
    named = ground(["Heat Wave (1995)", "Alien Garden (1979)"], CATALOGUE, among=ITEMS[2:])
    assert named.items == (ITEMS[2],)
    assert named.ungrounded == ["Heat Wave (1995)"]
    assert ground(["Heat Wave (1995)"], CATALOGUE, among=()).items == ()


def test_a_title_that_two_items_have_means_the_one_that_was_to_choose_from():
    double = Catalogue((Item("a", "Soap"), Item("b", "Soap"), Item("c", "Oil")), noun="product")
    assert ground(["Soap"], double).ungrounded == ["Soap"]
    assert ground(["Soap"], double, among=double.items[1:]).items == (double.items[1],)
