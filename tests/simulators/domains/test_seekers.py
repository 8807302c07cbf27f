"""The domains `inspired` and `redial` on made-up files: movies, people, seekers, what is wrong."""

import json

import pytest

from agents.core.errors import DataError
from simulators.core.seekers import Person, SeekingCase
from simulators.domains.core.seekers import dialogues_in
from simulators.domains.inspired import Inspired
from simulators.domains.redial import ReDial
from tests.simulators.domains.seekers_files import (
    write_inspired,
    write_json,
    write_lines,
    write_movies,
    write_people,
    write_redial,
)


@pytest.fixture
def inspired(tmp_path):
    write_inspired(tmp_path)
    write_movies(tmp_path)
    write_people(tmp_path)

    def made(**options):
        return Inspired(Inspired.Options(path=tmp_path, people=tmp_path, **options))

    return made


@pytest.fixture
def redial(tmp_path):
    write_redial(tmp_path)
    write_people(tmp_path)

    def made(**options):
        return ReDial(ReDial.Options(path=tmp_path, **{"people": tmp_path, **options}))

    return made


def titles(items):
    return [item.title for item in items]


def test_movies_have_the_facts_of_the_graph_and_otherwise_their_own(redial):
    river, heat, garden = redial().catalogue.items
    assert river.title == "Silent River (1971)"
    assert river.description == "A flood & its end."
    assert river.attributes == {"genre": ("drama",), "star": ("Bo Ek",)}
    assert heat.attributes == {"genre": ("action", "scary"), "star": ("Dee Roe",)}
    assert garden.title == "Alien Garden (1979)"
    assert garden.attributes == {"genre": ("Horror", "Action"), "star": ("Bo Ek",)}
    assert redial().statistics() == {
        "train dialogues": 2, "validation dialogues": 2, "test dialogues": 2, "items": 3,
        "entities": 7, "triples": 5,
    }  # fmt: skip
    said = " ".join(redial().remarks())
    assert "1 movies of id2info.json have the title of an earlier one" in said
    assert "the knowledge graph has 2 of 3 movies" in said


def test_targets_are_all_movies_of_the_wanted_genre(redial):
    case = redial().case("test", "20002")
    assert isinstance(case.hidden, SeekingCase)
    assert case.hidden.genres == ("action",)
    assert titles(case.hidden.targets) == ["Heat Wave (1995)", "Alien Garden (1979)"]
    assert case.visible.history == ()


def test_the_target_can_be_the_movie_that_was_recommended_last(redial):
    domain = redial(targets="recommended")
    assert domain.case_ids("test") == ["20001"]
    assert titles(domain.case("test", "20001").hidden.targets) == ["Silent River (1971)"]
    assert "1 of 2 dialogues of the split test are left out" in " ".join(domain.remarks())
    assert domain.fingerprint() != redial().fingerprint()


def test_a_person_is_what_both_files_say_and_slipped_lines_are_left_out(inspired):
    person = inspired().case("test", "x1").hidden.person
    assert person.demographics["age_group"] == "25 - 34"  # the last answers count
    assert person.demographics["political_view"] == "Liberal"
    assert "religion" not in person.demographics
    assert person.traits == {"extrovert": 5, "agreeable": 1, "conscientious": 3, "neurotic": 2.5,
                             "open": 4}  # fmt: skip
    assert person.values["self-direction"] == 5
    other = inspired().case("test", "x2").hidden.person
    assert (other.demographics, bool(other.traits)) == ({}, True)
    assert "1 lines of seeker_demographic.tsv" in " ".join(inspired().remarks())


def test_without_people_nothing_is_known_of_them(redial):
    case = redial(people=None).case("test", "20001")
    assert case.hidden.person == Person()


def test_seekers_of_inspired_want_their_first_genres_or_action(inspired):
    domain = inspired()
    assert domain.case_ids("test") == ["x1", "x2"]
    assert domain.case("test", "x1").hidden.genres == ("horror",)
    assert domain.case("test", "x2").hidden.genres == ("action",)
    assert domain.case_ids("validation") == ["v1"]
    assert domain.case_ids("train") == ["t1"]  # no movie here is a western
    said = " ".join(domain.remarks())
    assert "1 of 2 dialogues of the split train are left out" in said
    assert "1 of 2 dialogues of the split test have no known genre" in said
    both = inspired(genres=2)
    assert both.case_ids("test") == ["x2"]  # nothing is horror and drama at once


def test_inspired_may_have_its_movies_elsewhere_and_no_graph(inspired, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    write_movies(elsewhere, graph=False)
    domain = inspired(movies=elsewhere)
    assert domain.catalogue.items[0].attributes == {
        "genre": ("Drama",), "director": ("Ann Lee",), "star": ("Bo Ek", "Cy Poe"),
    }  # fmt: skip
    assert domain.statistics()["triples"] == 0
    assert domain.fingerprint() != inspired().fingerprint()


def test_training_dialogues_of_redial_are_not_tested_and_their_users_are_others(redial):
    domain = redial()
    assert domain.case_ids("train") == domain.case_ids("validation") == ["1", "3"]
    assert not set(domain.case_ids("train")) & set(domain.case_ids("test"))
    # The movie that the seeker disliked does not count.
    assert domain.case("train", "1").hidden.genres == ("action",)
    assert domain.case("train", "3").hidden.genres == ("action",)  # of two movies
    tested = domain.case("test", "20001").hidden.person
    for name in domain.case_ids("train"):
        person = domain.case("train", name).hidden.person
        assert person != tested
        assert person.traits


def test_training_users_of_inspired_are_known_without_a_file_of_tested_ones(inspired, monkeypatch):
    opened = []

    def watched(path, *keys):
        opened.append(path.name)
        return dialogues_in(path, *keys)

    monkeypatch.setattr("simulators.domains.inspired.dialogues_in", watched)
    domain = inspired()
    assert {domain.case("train", name).visible.case_id for name in domain.case_ids("train")}
    assert opened == ["inspired-train.txt"]


def test_there_is_nothing_to_train_a_recommender_on(redial):
    data = redial().training_data()
    assert (data.items, len(data.interactions), len(data.validation)) == (3, 0, 0)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("kg.json", {"0": [[0, 99]]}, "entity 0: found '[0, 99]', expected numbers of"),
        ("kg.json", {"0": [[0]]}, "expected [relation, entity]"),
        ("kg.json", {"0": 3}, "expected [relation, entity]"),
        ("kg.json", {"77": []}, "found the entity 77, which entity2id.json does not list"),
        ("entity2id.json", {"a": "1"}, "a: found '\"1\"', expected a number"),
        ("id2info.json", {"1": {"genre": ["x"]}}, "movie 1: found no name and no title"),
        ("id2info.json", {"1": []}, "movie 1: found '[]', expected an object"),
        ("id2info.json", [], "expected a JSON object that maps numbers to movies"),
    ],
)
def test_movies_that_are_wrong_are_named_with_file_and_place(
    redial, tmp_path, name, content, words
):
    write_json(tmp_path / name, content)
    with pytest.raises(DataError) as caught:
        redial().case_ids("test")
    assert words in caught.value.message
    assert str(tmp_path / name) in caught.value.message


@pytest.mark.parametrize(
    ("name", "rows", "words"),
    [
        ("redial-test.txt", [{"dialog_id": "9"}], "found nothing on the dialogue '9'"),
        ("redial-test.txt", [{"x": 1}], ":1: found no 'dialog_id'"),
        ("redial-test.txt", [[1]], ":1: found"),
        ("dialog_ids2user_id_and_genre_dict.jsonl",
         [{"dialog_id": "20001", "user_id": "u1", "genre_dict": "drama"}], "a list of genres"),
        ("dialog_ids2user_id_and_genre_dict.jsonl",
         [{"dialog_id": "20001", "user_id": "u1", "genre_dict": []}] * 2, "is listed twice"),
        ("valid_data.jsonl", [3], ":1: expected a JSON object"),
        ("valid_data.jsonl", [{"conversationId": "1", "movieMentions": [1]}], "movieMentions"),
    ],
)  # fmt: skip
def test_dialogues_that_are_wrong_are_named_with_file_and_line(redial, tmp_path, name, rows, words):
    if name == "redial-test.txt" and "dialog_id" in rows[0]:
        rows = [*rows, {"dialog_id": "20001"}]
    if "genres" in words:
        write_lines(tmp_path / "redial-test.txt", [{"dialog_id": "20001"}])
    write_lines(tmp_path / name, rows)
    with pytest.raises(DataError) as caught:
        redial().remarks()
    assert words in caught.value.message


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("seeker_personality.tsv", ("Open", "Opn"), ":1: found no column 'Open'"),
        ("seeker_personality.tsv", ("u3\t5", "u3\t9"), ":4: Extrovert: found '9', expected a "
         "number from 1 to 5"),
        ("seeker_personality.tsv", ("u3\t5", "u3\tNaN"), "expected a number from 1 to 5"),
        ("seeker_personality.tsv", ("u3\t5\t1\t3", "u3\t5"), ":4: found fewer columns"),
        ("seeker_demographic.tsv", ("religion", "faith"), ":1: found no column 'religion'"),
    ],
)  # fmt: skip
def test_people_that_are_wrong_are_named_with_file_and_line(redial, tmp_path, name, change, words):
    path = tmp_path / name
    path.write_text(path.read_text().replace(*change))
    with pytest.raises(DataError) as caught:
        redial().case_ids("test")
    assert words in caught.value.message


def test_a_missing_file_is_named(redial, tmp_path):
    (tmp_path / "valid_data.jsonl").unlink()
    with pytest.raises(DataError, match=r"no valid_data.jsonl is there"):
        redial().fingerprint()


def test_files_with_the_words_of_dialogues_decide_the_fingerprint(inspired, tmp_path):
    before = inspired().fingerprint()
    path = tmp_path / "inspired-test.txt"
    row = json.loads(path.read_text().splitlines()[0])
    write_lines(path, [row])
    assert inspired().fingerprint() != before
