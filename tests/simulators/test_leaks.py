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
        ("I liked Toy Story 2", "Toy Story (1995)", None),
        ("I liked toy story two", "Toy Story (1995)", None),
        ("I liked Toy Story 2", "Toy Story 2 (1999)", "words"),
        ("Toy Story, 2 times", "Toy Story (1995)", "words"),
        ("I liked the Godfather Part II", "Godfather, The (1972)", None),
        ("I liked the Godfather: Part II", "Godfather: Part II, The (1974)", "words"),
        ("I liked the Godfather", "Godfather: Part II, The (1974)", None),
        ("a robocop", "RoboCop (1987)", "form"),
        ("the movie Home", "Home (1990)", "capital"),
        ("ET the extraterrestrial", TITLES[22], "words"),
        ("he goes in and out", "In & Out (1997)", None),
        ('It is "In and Out"', "In & Out (1997)", "quoted"),
        ("spiderman", "Spider-Man (2002)", "words"),
        ("It is a good one. It has a clown.", "It (1990)", None),
        ("I want to watch It tonight", "It (1990)", "capital"),
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


@given(st.text(max_size=60), st.sampled_from(TITLES), st.text(max_size=20))
def test_a_title_of_several_words_is_found_whatever_stands_around_it(before, title, after):
    found = seen(f"{before} {title.upper()} {after}", title)
    assert found is not None


@given(st.text(alphabet="aB1'\"& .!()\u02bc½-", max_size=40))
def test_no_words_break_it(words):
    for title in TITLES:
        assert seen(words, title) in (None, "alone", "quoted")
