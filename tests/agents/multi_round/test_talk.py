"""Questions and answers in words."""

import pytest

from agents.core.errors import DataError
from agents.core.items import Catalogue, Fact, Item
from agents.multi_round.space import AttributeSpace
from agents.multi_round.talk import Reader, opening, picks, question_text
from tests.agents.multi_round.worlds import catalogue_of

TAGS = [["rock", "new wave"], ["rock", "80s"], ["jazz"], ["singer-songwriter"]]
ROCK, NEW_WAVE, EIGHTIES, JAZZ, SONGS = range(5)


@pytest.fixture
def space():
    return AttributeSpace.of(catalogue_of(TAGS))


def test_each_fact_has_a_yes_no_question_that_is_read_back(space):
    assert [fact.value for fact in space.facts] == [
        "rock", "new wave", "80s", "jazz", "singer-songwriter"
    ]  # fmt: skip
    reader = Reader.of(space)
    for place, question in enumerate(space.questions):
        assert question.facts == (place,)
        assert reader.questions[question_text(question, space)] == place
        assert reader.read("Yes.", place) == ((place,), ())
        assert reader.read("No.", place) == ((), (place,))


def test_the_opening_is_read_as_the_fact_it_names(space):
    for place, fact in enumerate(space.facts):
        assert Reader.of(space).read(opening(fact, "music artist"), None) == ((place,), ())


@pytest.mark.parametrize(
    ("text", "asked", "liked", "disliked"),
    [
        ("I love Rock and New Wave!", None, (ROCK, NEW_WAVE), ()),
        ("Something from the 80s, but not jazz", None, (EIGHTIES,), (JAZZ,)),
        ("I don't like rock. Jazz is fine.", None, (JAZZ,), (ROCK,)),
        ("Yes, that would be great", JAZZ, (JAZZ,), ()),
        ("Not really", JAZZ, (), (JAZZ,)),
        ("No, I want a singer songwriter", JAZZ, (), (JAZZ, SONGS)),
        ("No. I want a singer-songwriter.", JAZZ, (SONGS,), (JAZZ,)),
        ("Perhaps, who knows", JAZZ, (), ()),
        ("", None, (), ()),
    ],
)
def test_free_words_are_read_by_names_negations_and_yes_or_no(space, text, asked, liked, disliked):
    read = Reader.of(space).read(text, asked)
    assert (set(read.liked), set(read.disliked)) == (set(liked), set(disliked))


def test_an_enumerated_question_is_answered_by_picks():
    items = [
        Item("1", "A", {"kind": ("Food",), "category": ("Soup", "Fish & Chips"), "city": ("C1",)}),
        Item("2", "B", {"kind": ("Food", "Drinks"), "category": ("Soup", "Bars"), "city": ("C2",)}),
    ]
    facets = {
        Fact("kind", "Food"): "",
        Fact("kind", "Drinks"): "",
        Fact("category", "Soup"): "Food",
        Fact("category", "Fish & Chips"): "Food",
        Fact("category", "Bars"): "Drinks",
    }
    space = AttributeSpace.of(Catalogue(items, noun="place", facets=facets), "enumerated")
    assert [(q.facet, len(q.facts)) for q in space.questions] == [
        ("Food", 2), ("city", 2), ("Drinks", 1)
    ]  # fmt: skip
    reader = Reader.of(space)
    food, chips = space.questions[0], space.place[Fact("category", "Fish & Chips")]
    assert reader.questions[question_text(food, space)] == 0
    soup = space.place[Fact("category", "Soup")]
    assert reader.read(picks([space.facts[chips]]), 0) == ((chips,), (soup,))
    assert set(reader.read(picks([]), 0).disliked) == {soup, chips}
    assert reader.read("I cannot say", 0) == ((), ())


def test_a_catalogue_without_attributes_is_refused():
    with pytest.raises(DataError, match="has an attribute"):
        AttributeSpace.of(catalogue_of([[], []]))
