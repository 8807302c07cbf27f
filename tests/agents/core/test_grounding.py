"""Which item a written title means: by its own title, by another name, nearly, or none."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agents.core.grounding import TitleIndex
from agents.core.titles import names_of, parse_title
from tests.agents.core.titles import FILMS, GAMES
from tests.fakes import CATALOGUE, ITEMS

INDEX = TitleIndex(FILMS)
GAME_INDEX = TitleIndex(GAMES)


def ground(title):
    found = CATALOGUE.titles.ground(title)
    return found and (ITEMS[found.place].id, found.score)


def meant(title, index=INDEX, titles=FILMS):
    """The title that is meant, and how it was found."""
    found = index.ground(title)
    return found and (titles[found.place], found.how)


def test_exact_titles_ground_whatever_their_case_accents_and_punctuation():
    assert ground("Silent River, The (1971)") == ("1", 100)
    assert ground("the silent river (1971)") == ("1", 100)
    assert ground("  AMELIE'S  CAFE (2001) ") == ("5", 100)
    assert ground("Amelies Cafe, 2001") == ("5", 100)


def test_a_title_without_its_year_grounds_when_only_one_item_has_it():
    assert ground("Silent River, The") == ("1", 100)
    twins = TitleIndex(["Home (1990)", "Home (2009)"])
    assert twins.ground("Home") is None
    assert twins.ground("Home (2009)") == (1, 100, "title")
    assert twins.ground("Home (1991)") is None


def test_a_small_mistake_grounds_with_its_score():
    found = CATALOGUE.titles.ground("Silemt River, The (1971)")
    assert found is not None
    assert (found.place, found.how) == (0, "similar")
    assert 90 <= found.score < 100


def test_other_digits_are_another_title():
    assert ground("Silent River, The (1972)") is None


def test_a_tie_between_two_titles_is_not_guessed():
    index = TitleIndex(["Winter Light Nights aa", "Winter Light Nights bb"])
    assert index.ground("Winter Light Nights ab") is None


def test_titles_of_nothing_in_the_catalogue_stay_ungrounded():
    assert ground("A Film Never Made") is None
    assert ground("") is None
    assert ground("()!?") is None


def test_identical_titles_ground_to_none_of_them():
    assert TitleIndex(["Twin", "Twin"]).ground("Twin") is None


@pytest.mark.parametrize("titles", [FILMS, GAMES], ids=["films", "games"])
def test_every_title_means_itself(titles):
    index = TitleIndex(titles)
    assert len(set(titles)) == len(titles) >= 60
    assert [index.ground(title) for title in titles] == [
        (n, 100, "title") for n in range(len(titles))
    ]


@pytest.mark.parametrize(
    ("written", "title", "how"),
    [
        # The article moved, dropped, added; in other languages.
        ("The Matrix (1999)", "Matrix, The (1999)", "title"),
        ("Matrix (1999)", "Matrix, The (1999)", "article"),
        ("Matrix", "Matrix, The (1999)", "article"),
        # As lists and sentences write titles.
        ("Heat (1995).", "Heat (1995)", "title"),
        ("**Heat (1995)**,", "Heat (1995)", "title"),
        ("1. Heat (1995)", "Heat (1995)", "title"),
        ("10) The Matrix (1999)", "Matrix, The (1999)", "title"),
        ("8 1/2 (1963)", "8 1/2 (1963)", "title"),
        ("A Close Shave", "Close Shave, A (1995)", "no_year"),
        ("The Fargo (1996)", "Fargo (1996)", "article"),
        ("La Strada (1954)", "Strada, La (1954)", "title"),
        ("Strada", "Strada, La (1954)", "article"),
        ("Amelie (2001)", "Amélie (2001)", "title"),
        # Second names.
        ("Seven (1995)", "Seven (Se7en) (1995)", "second_name"),
        ("Se7en (1995)", "Seven (Se7en) (1995)", "second_name"),
        ("Seven", "Seven (Se7en) (1995)", "second_name"),
        ("SE7EN", "Seven (Se7en) (1995)", "second_name"),
        ("Se7en (Seven) (1995)", "Seven (Se7en) (1995)", "second_name"),
        ("Shanghai Triad (1995)", FILMS[5], "second_name"),
        ("Yao a yao yao dao waipo qiao", FILMS[5], "second_name"),
        ("The City of Lost Children (1995)", FILMS[6], "second_name"),
        ("La Cité des enfants perdus", FILMS[6], "second_name"),
        ("Cité des enfants perdus, La (1995)", FILMS[6], "second_name"),
        ("City of Lost Children (La cite des enfants perdus) (1995)", FILMS[6], "article"),
        ("L'Oeil de Vichy", "Eye of Vichy, The (Oeil de Vichy, L') (1993)", "second_name"),
        ("Léon: The Professional (1994)", FILMS[8], "second_name"),
        ("Leon (1994)", FILMS[8], "subtitle_left_out"),
        ("The Hairy Bird", "Strike! (a.k.a. All I Wanna Do, The Hairy Bird) (1998)", "second_name"),
        ("Fargo (Coen) (1996)", "Fargo (1996)", "second_name"),
        # Colons: what follows one, what precedes one.
        ("The Empire Strikes Back (1980)", FILMS[11], "after_colon"),
        ("The Empire Strikes Back", FILMS[11], "after_colon"),
        ("Star Wars Episode V", FILMS[11], "subtitle_left_out"),
        ("Star Wars: Episode 5 - The Empire Strikes Back", FILMS[11], "spelling"),
        ("Star Wars: The Empire Strikes Back (1980)", FILMS[11], "subtitle_left_out"),
        ("Star Wars (1977)", FILMS[10], "subtitle_left_out"),
        ("Dr. Strangelove (1963)", FILMS[13], "subtitle_left_out"),
        ("Dr Strangelove", FILMS[13], "subtitle_left_out"),
        ("The Lost World (1997)", "Lost World: Jurassic Park, The (1997)", "subtitle_left_out"),
        ("A Space Odyssey", "2001: A Space Odyssey (1968)", "after_colon"),
        ("Birdman (2014)", FILMS[20], "second_name"),
        # Spelling: "&", numbers, spaces, initials, years without brackets.
        ("Dumb and Dumber", "Dumb & Dumber (1994)", "no_year"),
        ("Toy Story II (1999)", "Toy Story 2 (1999)", "spelling"),
        ("The Godfather Part 2", "Godfather: Part II, The (1974)", "spelling"),
        ("The Godfather, Part Two (1974)", "Godfather: Part II, The (1974)", "spelling"),
        ("Spiderman (2002)", "Spider-Man (2002)", "spelling"),
        ("ET the Extraterrestrial", "E.T. the Extra-Terrestrial (1982)", "spelling"),
        ("L.A. Confidential", "L.A. Confidential (1997)", "no_year"),
        ("LA Confidential 1997", "L.A. Confidential (1997)", "title"),
        ("Schindlers List", "Schindler's List (1993)", "no_year"),
        ("Alien3 (1992)", "Alien³ (1992)", "title"),
        ("Alien 3", "Alien³ (1992)", "spelling"),
        # Sequels, remakes and namesakes.
        ("The Godfather", "Godfather, The (1972)", "no_year"),
        ("Alien", "Alien (1979)", "no_year"),
        ("Aliens", "Aliens (1986)", "no_year"),
        ("Batman (1989)", "Batman (1989)", "title"),
        ("Toy Story", "Toy Story (1995)", "no_year"),
        ("Jurassic Park", "Jurassic Park (1993)", "no_year"),
        ("Mission", "Mission, The (1986)", "article"),
    ],
)  # fmt: skip
def test_a_title_is_known_by_its_other_names(written, title, how):
    assert meant(written) == (title, how)


@pytest.mark.parametrize(
    "written",
    [
        "Seven (1994)",  # another year
        "1. Heat (1986)",
        "24: Heat (1995)",
        "Seven (1979)",
        "The Godfather (1974)",  # a mistake about the first part
        "Godfather (1990)",
        "Godfather Part III",
        "Godfather (Part III)",
        "Star Wars",  # could be any
        "Star Wars (1999)",
        "Three Colors",
        "Three Colors (1994)",  # two are of that year
        "Episode V",
        "Batman (1990)",
        "Batman (Mask of Zorro)",
        "Alien (Requiem)",
        "Alien (1986)",
        "Aliens (1979)",
        "Aliens 2",
        "Toy Story 3",
        "Toy Story (1999)",
        "Jurassic Park (1997)",
        "The Movie",
        "Home",  # remakes
        "Heart (1995)",  # one letter more than Heat
        "Heath (1995)",
        "The Hungover Games (2014)",
        "Postman",  # Il Postino's, and the other film's without its article
        "2001",
        "Demo",
        "V",
    ],
)
def test_what_is_ambiguous_or_another_film_is_not_guessed(written):
    assert meant(written) is None


@pytest.mark.parametrize(
    ("written", "title"),
    [
        ("12 Monkeys (1995)", "Twelve Monkeys (1995)"),
        ("12 Monkeys", "Twelve Monkeys (1995)"),
        ("Ocean's 11 (2001)", "Ocean's Eleven (2001)"),
        ("Ocean's 12 (2001)", None),
        ("Doctor Strangelove (1963)", "Dr. Strangelove (1963)"),
        ("Dr. Zhivago (1965)", "Doctor Zhivago (1965)"),
        ("The Doctor (1991)", "Doctor, The (1991)"),
        ("The Dr. (1991)", None),
    ],
)
def test_numbers_and_forms_of_address_are_the_same_in_words_and_short(written, title):
    titles = ("Twelve Monkeys (1995)", "Ocean's Eleven (2001)", "Dr. Strangelove (1963)")
    titles += ("Doctor Zhivago (1965)", "Doctor, The (1991)")
    found = TitleIndex(titles).ground(written)
    assert (None if found is None else titles[found.place]) == title


@pytest.mark.parametrize(
    ("written", "title"),
    [
        ("Dark Souls II", "DARK SOULS™ II"),
        ("dark souls 3", "DARK SOULS™ III"),
        ("Skyrim", None),  # one word, no year to make sure
        ("The Elder Scrolls V Skyrim", "The Elder Scrolls V: Skyrim"),
        ("The Witcher 3", "The Witcher® 3: Wild Hunt"),
        ("Witcher III: Wild Hunt", "The Witcher® 3: Wild Hunt"),
        ("Half Life 2", "Half-Life 2"),
        ("Half-Life 3", None),
        ("Episode One", None),
        ("Portal", "Portal"),
        ("Portal 3", None),
        ("Portals", None),
        ("Dark Souls IV", None),
        ("DARK SOULS", "DARK SOULS™: Prepare To Die Edition"),
        ("Modern Warfare 2", "Call of Duty®: Modern Warfare® 2"),
        ("Call of Duty 3", None),
        ("Civilization VI", None),
        ("Sid Meiers Civilization 6", "Sid Meier’s Civilization® VI"),
        ("Red Alert 3", "Command & Conquer: Red Alert 3"),
        ("Command and Conquer: Red Alert 3", "Command & Conquer: Red Alert 3"),
        ("Rise of the Tomb Raiders", None),
        ("Tomb Raider 3", None),
        ("Titan Quest", "Titan Quest (Demo)"),
        ("Demo", None),
        ("Thief 3", None),
        ("X-COM UFO Defence", "X-COM: UFO Defense"),
    ],
)
def test_games_have_no_years_and_sequels_stay_apart(written, title):
    found = meant(written, GAME_INDEX, GAMES)
    assert (found and found[0]) == title


def test_a_sequel_is_not_taken_for_its_missing_neighbour():
    for missing, present in [
        ("Dark Souls III", "Dark Souls II"),
        ("Rocky V (1990)", "Rocky IV (1985)"),
        ("Portal", "Portals"),
        ("Final Fantasy XIII", "Final Fantasy XII"),
        ("Leprechaun Three", "Leprechaun Two"),
        ("The Godfather (1972)", "Godfather: Part II, The (1974)"),
        ("The Godfather", "Godfather: Part II, The (1974)"),
        ("Rocky (Part II)", "Rocky (1976)"),
    ]:
        assert TitleIndex([present]).ground(missing) is None


def test_among_choices_ambiguity_is_that_of_the_catalogue_and_the_rest_is_not_guessed():
    first, second = FILMS.index("Home (1990)"), FILMS.index("Home (2009)")
    assert INDEX.ground("Home (1990)", {second}) is None
    assert INDEX.ground("Home", {first}) == (first, 100, "no_year")  # the only one to choose
    empire = FILMS.index(FILMS[11])
    assert INDEX.ground("The Empire Strikes Back", {empire}) == (empire, 100, "after_colon")
    assert INDEX.ground("The Empire Strikes Back", {first}) is None
    assert INDEX.ground("Star Wars", {empire}) is None
    assert INDEX.ground("The Empire Stikes Back (1980)", {first}) is None
    alien = FILMS.index("Alien (1979)")
    assert INDEX.ground("Aliens (1986)", {alien}) is None


def misgrounded(titles):
    """Names that mean another title, although they are not just that title."""
    index = TitleIndex(titles)
    found = []
    for place, title in enumerate(titles):
        year = parse_title(title).year
        for name in names_of(title):
            written = [] if name.needs_year else [name.text]
            written += [f"{name.text} ({year})"] if year else []
            for text in written:
                other = index.ground(text)
                if other is None or other.place == place:
                    continue
                if parse_title(titles[other.place]).folded != name.text:
                    found.append((text, titles[other.place]))
    return found


@pytest.mark.parametrize("titles", [FILMS, GAMES], ids=["films", "games"])
def test_no_name_means_another_title(titles):
    assert misgrounded(titles) == []


WORDS = st.sampled_from(
    ["Red", "Alien", "The Heat", "A Star", "War", "Se7en", "Two", "II", "V", "Part"]
)
NAMES = st.lists(WORDS, min_size=1, max_size=3).map(" ".join)
MOVED = st.sampled_from(["", "", ", The", ", La", ", A"])
PARTED = st.builds(
    lambda a, between, b: a + between + b if between else a,
    NAMES,
    st.sampled_from(["", "", ": ", " - ", " or: ", ": Part "]),
    NAMES,
)
TITLES = st.builds(
    lambda stem, moved, bracket, year: stem + moved + bracket + year,
    PARTED,
    MOVED,
    st.one_of(
        st.just(""),
        st.builds("{} ({}{})".format, st.just(""), NAMES, MOVED),
        st.builds(" (a.k.a. {}, {})".format, NAMES, NAMES),
    ),
    st.sampled_from(["", " (1979)", " (1986)"]),
)


@given(st.lists(TITLES, min_size=1, max_size=12, unique_by=parse_title))
@example(["Red", "Red (Red) (1979)", "Red: Red (1979)"])
def test_in_any_catalogue_titles_mean_themselves_and_no_name_means_another(titles):
    index = TitleIndex(titles)
    own = [(parse_title(title).folded, parse_title(title).year) for title in titles]
    for place, title in enumerate(titles):
        found = index.ground(title)
        if own.count(own[place]) == 1:
            assert found == (place, 100, "title")
        else:  # apart in punctuation only
            assert found is None or found.place == place
    assert misgrounded(titles) == []


@given(st.text(max_size=40))
def test_no_words_break_it_and_noise_in_case_and_punctuation_changes_nothing(words):
    found = CATALOGUE.titles.ground(words)
    assert found is None or 90 <= found.score <= 100
    plain = words.isascii() and not set("()[]'`,:.-") & set(words)
    noisy = CATALOGUE.titles.ground(f"  {words.upper()}!  ") if plain else found
    assert noisy == found


@given(st.lists(st.text(alphabet="aB1 ()[],:.-'&IVor", max_size=30), max_size=6))
def test_no_titles_break_it(titles):
    index = TitleIndex(titles)
    for place, title in enumerate(titles):
        found = index.ground(title, {place})
        assert found is None or found.place == place
        names_of(title)
