"""Title leaks: which words say a title that must stay unsaid, and how that is seen."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.core.items import Catalogue, Item
from simulators.core.leaks import Secret

TITLES = (
    "Seven (Se7en) (1995)",
    "Fargo (1996)",
    "Amélie (2001)",
    "Schindler's List (1993)",
    "Silent River, The (1971)",
    "Matrix, The (1999)",
    "Heat Wave (1995)",
    "Heat (1995)",
    "Big (1988)",
    "Speed (1994)",
    "Amélie's Café (2001)",
    "City of Lost Children, The (Cité des enfants perdus, La) (1995)",
    "Star Wars: Episode V - The Empire Strikes Back (1980)",
    "Star Wars: Episode VI - Return of the Jedi (1983)",
    "Dr. Strangelove or: How I Learned to Stop Worrying and Love the Bomb (1963)",
    "Toy Story (1995)",
    "Toy Story 2 (1999)",
    "Godfather, The (1972)",
    "Godfather: Part II, The (1974)",
    "RoboCop (1987)",
    "Home (1990)",
    "Home (2009)",
    "E.T. the Extra-Terrestrial (1982)",
    "In & Out (1997)",
    "Spider-Man (2002)",
    "It (1990)",
    "X-Men (2000)",
    "V for Vendetta (2005)",
    "King and I, The (1956)",
    "Malcolm X (1992)",
    "Léon (1994)",
    "Three Kings (1999)",
    "Batman (1989)",
    "By the Sea (2015)",
)
CATALOGUE = Catalogue([Item(title, title) for title in TITLES], noun="movie")


def seen(words: str, title: str) -> str | None:
    leak = Secret.of(CATALOGUE[title], CATALOGUE).leak(words)
    return None if leak is None else leak.seen


@pytest.mark.parametrize(
    ("words", "title", "how"),
    [
        ("I just want to watch Seven, the one called Se7en", TITLES[0], "capital"),
        ("the one that is spelled se7en", TITLES[0], "form"),
        ("I have seven friends", TITLES[0], None),
        ("seven (1995)", TITLES[0], "year"),
        ("Fargo (1996) is the one", "Fargo (1996)", "year"),
        ("fargo, from 1996", "Fargo (1996)", "year"),
        ("Fargo is the one.", "Fargo (1996)", "called"),
        ("the movie called fargo", "Fargo (1996)", "called"),
        ("Yes, I mean 'fargo'.", "Fargo (1996)", "quoted"),
        ("Yes, I mean **fargo**.", "Fargo (1996)", "quoted"),
        ("fargo!", "Fargo (1996)", "alone"),
        ("Something like Amelie", "Amélie (2001)", "form"),
        ("AMELIE PLEASE", "Amélie (2001)", "form"),
        ("schindlers list", "Schindler's List (1993)", "words"),
        ("It is Schindler\u2019s List", "Schindler's List (1993)", "words"),
        ("It is Silent River, I think", "Silent River, The (1971)", "words"),
        ("It is The Silent River, I think", "Silent River, The (1971)", "words"),
        ("It was the Matrix, I think", "Matrix, The (1999)", "capital"),
        ("a matrix of colours", "Matrix, The (1999)", None),
        ("a heat wave in the city", "Heat Wave (1995)", "words"),
        ("the heat of a summer", "Heat (1995)", None),
        ("It should have a Heat Wave in it", "Heat (1995)", None),
        ("I want something big", "Big (1988)", None),
        ("I want to see Big again", "Big (1988)", "capital"),
        ("Big films are fine", "Big (1988)", None),
        ("I like it. Big films are fine", "Big (1988)", None),
        ("I WANT SOMETHING BIG", "Big (1988)", None),
        ("I loved Speed Racer", "Speed (1994)", None),
        ("Is Speed good?", "Speed (1994)", "capital"),
        ("The title is speed", "Speed (1994)", "called"),
        ("- Speed and action\n- Big explosions", "Big (1988)", None),
        ("amelies cafe, please", "Amélie's Café (2001)", "words"),
        ("Amelie's Cafe, please", "Amélie's Café (2001)", "words"),
        ("la cite des enfants perdus", TITLES[11], "words"),
        ("City of Lost Children", TITLES[11], "words"),
        ("The Empire Strikes Back!", TITLES[12], "words"),
        ("I like Star Wars", TITLES[12], None),
        ("Star Wars (1980)", TITLES[12], "year"),
        ("dr strangelove", TITLES[14], "words"),
        ("I want doctor strangelove", TITLES[14], "words"),
        ("I liked Toy Story 2", "Toy Story (1995)", None),
        ("I liked toy story two", "Toy Story (1995)", None),
        ("I liked Toy Story 2", "Toy Story 2 (1999)", "words"),
        ("Toy Story, 2 times", "Toy Story (1995)", "words"),
        ("I liked the Godfather Part II", "Godfather, The (1972)", None),
        ("I liked the Godfather: Part II", "Godfather: Part II, The (1974)", "words"),
        ("I liked the Godfather", "Godfather: Part II, The (1974)", None),
        ("a robocop", "RoboCop (1987)", "form"),
        ("the movie Home", "Home (1990)", "called"),
        ("ET the extraterrestrial", TITLES[22], "words"),
        ("he goes in and out", "In & Out (1997)", None),
        ('It is "In and Out"', "In & Out (1997)", "quoted"),
        ("spiderman", "Spider-Man (2002)", "words"),
        ("It is a good one. It has a clown.", "It (1990)", None),
        ("I want to watch It tonight", "It (1990)", "capital"),
        ("I want to see The Matrix tonight", "Matrix, The (1999)", "capital"),
        ("The Matrix is fine", "Matrix, The (1999)", "capital"),
        ("Fine. The Godfather, please", "Godfather, The (1972)", "capital"),
        ("I want 'The Matrix'", "Matrix, The (1999)", "quoted"),
        ("i want 'the matrix'", "Matrix, The (1999)", "quoted"),
        ("I'd play Enter The Matrix", "Matrix, The (1999)", None),
        ("I want The Matrix Reloaded", "Matrix, The (1999)", None),
        ("I want 'The Matrix Reloaded'", "Matrix, The (1999)", None),
        ("the film matrix", "Matrix, The (1999)", "called"),
        ("how about the movie seven?", TITLES[0], "called"),
        ("I want a movie. Big ones are fine", "Big (1988)", None),
        ("I want a movie with big ideas", "Big (1988)", None),
        ("I want to see X-Men", "X-Men (2000)", "words"),
        ("X-Men, please", "X-Men (2000)", "words"),
        ("I want the xmen", "X-Men (2000)", "words"),
        ("I want V for Vendetta", "V for Vendetta (2005)", "words"),
        ("V for Vendetta", "V for Vendetta (2005)", "words"),
        ("I love The King and I a lot", "King and I, The (1956)", "words"),
        ("It is the King and I", "King and I, The (1956)", "words"),
        ("I love Malcolm X a lot", "Malcolm X (1992)", "words"),
        ("I want fargo please", "Fargo (1996)", "rare"),
        ("I'd love to watch fargo", "Fargo (1996)", "rare"),
        ("I WANT FARGO PLEASE", "Fargo (1996)", "rare"),
        ("Fargo would be fine", "Fargo (1996)", "rare"),
        ("I liked Batman Returns", "Batman (1989)", None),
        ("I liked batman", "Batman (1989)", "rare"),
        ("Something like Le\u0301on", "Léon (1994)", "form"),
        ("Something like Ame\u0301lie", "Amélie (2001)", "form"),
        ("Something like ame\u0301lie, far\u00adgo", "Fargo (1996)", "rare"),
        ("a robo cop", "RoboCop (1987)", "form"),
        ("a robo-cop", "RoboCop (1987)", "form"),
        ("#ThreeKings", "Three Kings (1999)", "words"),
        ("3 Kings", "Three Kings (1999)", "words"),
        ("I want By the Sea", "By the Sea (2015)", "capital"),
        ("I want a house by the sea", "By the Sea (2015)", None),
    ],
)
def test_a_leak_is_a_name_of_the_title_said_as_a_name(words, title, how):
    assert seen(words, title) == how


def test_a_leak_says_which_name_was_said_and_in_which_words():
    leak = Secret.of(CATALOGUE[TITLES[0]], CATALOGUE).leak("the one called SE7EN, please")
    assert leak is not None
    assert leak.extra() == {
        "leak_words": "SE7EN",
        "leak_kind": "second_name",
        "leak_seen": "form",
    }


@pytest.mark.parametrize(
    ("title", "words"),
    [("Dr. T", "Doctor T it is"), ("2 Days", "two days"), ("7 Up", "I want Seven Up!")],
)
def test_names_of_numbers_and_abbreviations_alone_are_found_in_every_spelling(title, words):
    alone = Catalogue([Item(title, title)], noun="movie")
    assert Secret.of(alone[title], alone).leak(words) is not None


def test_a_decomposed_title_is_the_same_title():
    title = "Ame\u0301lie (2001)"
    catalogue = Catalogue([Item(title, title)], noun="movie")
    leak = Secret.of(catalogue[title], catalogue).leak("I want amelie")
    assert leak is not None
    assert leak.seen == "form"


@given(st.text(max_size=60), st.sampled_from(TITLES), st.text(max_size=20))
def test_a_title_of_several_words_is_found_whatever_is_around_it(before, title, after):
    found = seen(f"{before} {title.upper()} {after}", title)
    assert found is not None


@given(st.text(alphabet="aB1'\"& .!()\u02bc½-", max_size=40))
def test_no_words_break_it(words):
    for title in TITLES:
        assert seen(words, title) in (None, "alone", "quoted")
