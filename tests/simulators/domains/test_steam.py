"""Steam: the published layout, what is an interaction, the split, and what bad lines say."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.core import plugins
from agents.core.errors import DataError
from simulators.domains.core.fields import python_literal
from simulators.domains.core.files import LONGEST_LINE
from simulators.domains.steam import Steam
from tests.fixtures_reviews import (
    DAY,
    START,
    Row,
    game,
    literal_line,
    rows,
    steam_review,
    write_gz,
    write_steam,
)

REVIEWS, GAMES = "steam_reviews.json.gz", "steam_games.json.gz"
GOOD = literal_line(steam_review(Row("a", "7000", 1)))


def domain(path, **options) -> Steam:
    return Steam(plugins.build_options(Steam.Options, {"path": path, **options}))


def history(user: str, *items: str, day: int = 0) -> list[Row]:
    return [Row(user, item, day + place) for place, item in enumerate(items)]


def small(tmp_path, reviews, games=None, **options) -> Steam:
    return domain(write_steam(tmp_path, reviews, games), **{"k_core": 0, **options})


def ids(items) -> list[str]:
    return [item.id for item in items]


def message(tmp_path, **options) -> str:
    with pytest.raises(DataError) as caught:
        domain(tmp_path, **options).case_ids("test")
    return caught.value.message


def with_lines(tmp_path, *lines: str, name: str = REVIEWS):
    """A sound folder whose file `name` has `lines` after its own."""
    path = write_steam(tmp_path) / name
    sound = gzip.decompress(path.read_bytes()).decode().splitlines()
    write_gz(path, [*sound, *lines])
    return len(sound)


def test_the_plugin_lookup_finds_the_domain():
    assert plugins.load("simulators.domains", "steam", "domain") is Steam


def test_every_review_is_an_interaction_and_the_k_core_holds(tmp_path):
    made = domain(write_steam(tmp_path))
    assert made.statistics() == {"users": 30, "items": 40, "interactions": 840}
    assert made.remarks() == []
    few = domain(tmp_path, k_core=18).statistics()
    assert 0 < few["interactions"] < 840


def test_there_is_no_rating_to_filter_by(tmp_path):
    with pytest.raises(ValueError, match="min_rating"):
        domain(tmp_path, min_rating=3)


def test_a_game_carries_what_its_line_says(tmp_path):
    made = small(tmp_path, history("a", "1", "2", "3"))
    one = made.catalogue["1"]
    assert (one.title, one.price, one.description) == ("Paper Comet 1", 4.99, "")
    assert one.attributes == {
        "genre": ("Action", "Design & Illustration"),
        "tag": ("Strategy", "Action", "Indie"),
        "feature": ("Single-player",),
        "developer": ("Kotoshiro",),
        "publisher": ("Pub 1",),
        "decade": ("2010s",),
        "year": ("2018",),
    }
    assert made.catalogue.noun == "game"


def test_what_a_game_does_not_say_is_left_out(tmp_path):
    bare = {"id": "1", "app_name": "Bare", "release_date": "Soon..", "price": "Free To Play"}
    made = small(tmp_path, history("a", "1", "2", "3"), [bare, game("2"), game("3")])
    one = made.catalogue["1"]
    assert (one.title, one.attributes, one.price) == ("Bare", {}, None)


def test_the_last_review_is_the_test_target_and_the_one_before_of_validation(tmp_path):
    made = small(tmp_path, list(reversed(history("a", "4", "2", "5", "1"))))
    test, validation = made.case("test", "ua"), made.case("validation", "ua")
    assert ids(test.hidden.targets) == ["1"]
    assert ids(test.visible.history) == ["4", "2", "5"]
    assert ids(validation.hidden.targets) == ["5"]


def test_reviews_of_one_day_stay_in_the_order_of_the_lines(tmp_path):
    made = small(tmp_path, [Row("a", item, 3) for item in ("5", "3", "6", "1")])
    assert ids(made.case("test", "ua").visible.history) == ["5", "3", "6"]
    assert made.interactions().times.tolist() == [START + 3 * DAY] * 2


def test_no_held_out_pair_is_among_the_interactions(tmp_path):
    made = domain(write_steam(tmp_path))
    events = made.interactions()
    pairs = {(events.user_ids[u], int(i)) for u, i in zip(events.users, events.items, strict=True)}
    assert len(pairs) == 840 - 2 * 30
    for case_id in made.case_ids("test"):
        (target,) = made.case("test", case_id).hidden.targets
        assert (case_id, made.catalogue.position[target.id]) not in pairs
    assert (np.diff(events.users) >= 0).all()


def test_a_second_review_of_a_game_does_not_count(tmp_path):
    made = small(tmp_path, history("a", "1", "2", "3", "1"))
    assert ids(made.case("test", "ua").hidden.targets) == ["3"]


def test_games_of_one_title_are_one_item(tmp_path):
    games = [game("1"), game("2"), game("3"), game("9", title="Paper Comet 1")]
    made = small(tmp_path, history("a", "9", "1", "2", "3"), games)
    assert ids(made.catalogue.items) == ["9", "2", "3"]
    assert made.statistics()["interactions"] == 3


def test_a_review_of_a_game_without_a_title_is_left_out_and_counted(tmp_path):
    games = [game("1"), game("2"), game("3"), game("4", title="", app_name="")]
    made = small(tmp_path, history("a", "4", "5", "1", "2", "3"), games)
    assert ids(made.catalogue.items) == ["1", "2", "3"]
    assert made.remarks() == [
        "2 reviews of 2 products that steam_games.json.gz does not list with a title are left out"
    ]


def test_a_game_listed_twice_is_a_bad_line_and_the_first_counts(tmp_path):
    games = [game("1"), game("2"), game("3"), game("1", title="Other")]
    made = small(tmp_path, history("a", "1", "2", "3"), games, max_bad_lines=0.5)
    assert made.catalogue["1"].title == "Paper Comet 1"
    [remark] = made.remarks()
    assert remark.startswith("1 of 4 lines of steam_games.json.gz are malformed and left out")


BAD_LINES = {
    "empty": "",
    "JSON": '{"username": "a", "product_id": "1", "date": "2017-12-17", "early_access": false}',
    "no dict": "['a']",
    "cut": GOOD[:-9],
    "a call": "__import__('os').system('true')",
    "no user": GOOD.replace("username", "user"),
    "an empty user": GOOD.replace("u'a'", "u' '"),
    "half a surrogate pair": GOOD.replace("u'a'", r"u'a\ud83d'"),
    "a number for a product": GOOD.replace("u'7000'", "7000"),
    "no date": GOOD.replace("u'2017-07-15'", "None"),
    "a week": GOOD.replace("2017-07-15", "2017-W50-7"),
    "a day that is none": GOOD.replace("2017-07-15", "2017-02-30"),
    "nested": "[" * 5_000,
    "signs": "-" * 100_000 + "1",
    "a null byte": GOOD.replace("early", "ear\0ly"),
}


@pytest.mark.parametrize("line", BAD_LINES.values(), ids=BAD_LINES)
def test_a_bad_line_is_left_out_and_reported(tmp_path, line):
    sound = with_lines(tmp_path, line)
    made = domain(tmp_path)
    assert made.statistics()["interactions"] == 840
    [remark] = made.remarks()
    assert remark.startswith(
        f"1 of {sound + 1} lines of {REVIEWS} are malformed and left out, the first in line "
        f"{sound + 1}: found "
    )
    assert remark.endswith("expected a Python dict with username, product_id and date (YYYY-MM-DD)")
    assert len(remark) < 300


def test_bytes_that_are_no_utf8_are_a_bad_line(tmp_path):
    with_lines(tmp_path)
    path = tmp_path / REVIEWS
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()) + b"{'username': '\xff'}\n"))
    assert len(domain(tmp_path).remarks()) == 1


def test_a_line_without_end_is_passed_over(tmp_path):
    long = "{'username': '" + "a" * (3 * LONGEST_LINE) + "'}"
    sound = with_lines(tmp_path, long, GOOD)
    made = domain(tmp_path)
    [remark] = made.remarks()
    assert f"line {sound + 1}: found a line of more than 1,048,576 bytes" in remark
    assert remark.startswith(f"1 of {sound + 2} lines")


def test_too_many_bad_lines_are_refused(tmp_path):
    sound = with_lines(tmp_path, *["nonsense"] * 9)
    text = message(tmp_path)
    assert text.startswith(f"{tmp_path / REVIEWS}:{sound + 1}: found 'nonsense', expected a Python")
    assert f"9 of {sound + 9} lines are malformed, more than max_bad_lines 0.01 allows" in text
    assert domain(tmp_path, max_bad_lines=0.1).statistics()["users"] == 30


@pytest.mark.parametrize("name", [REVIEWS, GAMES])
def test_a_file_that_breaks_off_is_named(tmp_path, name):
    path = write_steam(tmp_path) / name
    path.write_bytes(path.read_bytes()[:-200])
    text = message(tmp_path)
    assert text.startswith(f"{path}:")
    assert text.endswith("the file is truncated in this line; download it again")


def test_a_file_that_is_no_gzip_or_damaged_is_named(tmp_path):
    path = write_steam(tmp_path) / REVIEWS
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    assert "the file cannot be read from here on" in message(tmp_path)
    path.write_text(GOOD)
    assert message(tmp_path).startswith(f"{path}:1: the file cannot be read from here on")
    write_gz(path, [])
    assert message(tmp_path) == f"{path}: the file is empty; download it again"


def test_a_missing_folder_or_file_is_named(tmp_path):
    assert "there is no such folder" in message(tmp_path / "missing")
    write_steam(tmp_path)
    (tmp_path / GAMES).rename(tmp_path / "steam_games.json")
    assert message(tmp_path) == (
        f"{tmp_path}: no steam_games.json.gz is there; did you mean 'steam_games.json'?"
    )


def test_a_pointer_file_is_not_taken_for_data(tmp_path):
    (write_steam(tmp_path) / GAMES).write_text("version https://git-lfs.github.com/spec/v1\n")
    assert "only a pointer to a file" in message(tmp_path)
    with pytest.raises(DataError, match="only a pointer"):
        domain(tmp_path).fingerprint()


def test_a_filter_that_leaves_nothing_says_so(tmp_path):
    write_steam(tmp_path)
    assert "no interaction of 840 is left after k_core 100; lower it" in message(
        tmp_path, k_core=100
    )
    write_steam(tmp_path, rows(), [game("1")])
    assert "no interaction of 840 is left" in message(tmp_path)


def test_the_fingerprint_follows_options_and_files_but_not_the_path(tmp_path):
    here = domain(write_steam(tmp_path / "a")).fingerprint()
    assert domain(write_steam(tmp_path / "b"), max_bad_lines=0.5).fingerprint() == here
    assert domain(tmp_path / "a", k_core=5).fingerprint() != here
    write_steam(tmp_path / "b", rows(seed=1))
    assert domain(tmp_path / "b").fingerprint() != here


@given(st.text(max_size=60))
def test_no_text_breaks_the_reading_of_a_line(text):
    assert isinstance(python_literal(text.encode("utf-8", "surrogatepass")), dict | None)


@given(st.dictionaries(st.text(max_size=5), st.text(max_size=9) | st.floats(0, 9) | st.booleans()))
def test_a_line_is_read_as_it_was_written(record):
    assert python_literal(literal_line(record).encode()) == record


def test_a_file_of_bad_lines_alone_has_nothing_left_even_where_they_are_allowed(tmp_path):
    write_gz(write_steam(tmp_path) / REVIEWS, ["nonsense"])
    assert "no interaction of 0 is left" in message(tmp_path, max_bad_lines=1.0)
