"""MovieLens: the official layouts, the filters, the split, and what bad files say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.core import plugins
from agents.core.errors import DataError
from simulators.domains.core.leave_one_out import k_core
from simulators.domains.movielens import MovieLens
from tests.fixtures_movielens import START, Film, Rating, films, ratings, write_ml1m, write_ml100k

FEW = films(6)


def domain(path, **options) -> MovieLens:
    return MovieLens(plugins.build_options(MovieLens.Options, {"path": path, **options}))


def history(user: int, *items: int, rating: int = 5) -> list[Rating]:
    return [Rating(user, item, rating, START + place) for place, item in enumerate(items)]


@pytest.fixture
def ml100k(tmp_path):
    return write_ml100k(tmp_path / "ml-100k")


def small(tmp_path, rows, catalogue=FEW, **options) -> MovieLens:
    folder = write_ml100k(tmp_path / "small", rows=rows, catalogue=catalogue)
    return domain(folder, **{"k_core": 0, **options})


def message(tmp_path, *args, **kwargs) -> str:
    with pytest.raises(DataError) as caught:
        domain(tmp_path, *args, **kwargs).case_ids("test")
    assert "\n" not in caught.value.message
    return caught.value.message


def test_the_plugin_lookup_finds_the_domain():
    assert plugins.load("simulators.domains", "movielens", "domain") is MovieLens


def test_both_layouts_of_the_same_data_give_the_same_domain(tmp_path, ml100k):
    one, other = domain(ml100k), domain(write_ml1m(tmp_path / "ml-1m"))
    assert one.catalogue.items == other.catalogue.items
    assert one.statistics() == other.statistics()
    assert one.case_ids("test") == other.case_ids("test")
    assert all(one.case("test", u) == other.case("test", u) for u in one.case_ids("test"))


def test_the_defaults_leave_enough_of_the_fixture_for_a_sweep(ml100k):
    statistics = domain(ml100k).statistics()
    assert statistics["users"] >= 25
    assert statistics["items"] >= 30


def test_what_is_left_equals_a_plain_count(ml100k):
    rows = [row for row in ratings() if row.rating >= 3]
    while True:
        users, items = [row.user for row in rows], [row.item for row in rows]
        core = [r for r in rows if users.count(r.user) >= 16 and items.count(r.item) >= 16]
        if len(core) == len(rows):
            break
        rows = core
    made = domain(ml100k, k_core=16)
    assert made.statistics() == {
        "users": len({row.user for row in rows}),
        "items": len({row.item for row in rows}),
        "interactions": len(rows),
    }
    assert 0 < len(rows) < sum(row.rating >= 3 for row in ratings())


def test_items_carry_title_genres_decade_and_year(tmp_path):
    made = small(tmp_path, history(1, 1, 2, 3))
    cafe, ferry = made.catalogue["1"], made.catalogue["2"]
    assert cafe.title == "Caf\u00e9 \u00c9toile (1968)"
    assert ferry.title == "Silent Ferry, The (1971)"
    assert ferry.attributes == {
        "genre": ("Crime", "Thriller"),
        "decade": ("1970s",),
        "year": ("1971",),
    }
    assert (ferry.description, ferry.price) == ("", None)


def test_the_unknown_genre_and_a_missing_year_are_left_out(tmp_path):
    odd = [Film(1, "Untitled", ("unknown",)), *FEW[1:]]
    made = small(tmp_path, history(1, 1, 2, 3), catalogue=odd)
    assert made.catalogue["1"].attributes == {}


def test_last_interaction_is_the_test_target_and_the_one_before_of_validation(tmp_path):
    made = small(tmp_path, history(1, 4, 2, 5, 1))
    test, validation = made.case("test", "u1"), made.case("validation", "u1")
    assert [item.id for item in test.hidden.targets] == ["1"]
    assert [item.id for item in test.visible.history] == ["4", "2", "5"]
    assert [item.id for item in validation.hidden.targets] == ["5"]
    assert [item.id for item in validation.visible.history] == ["4", "2"]


def test_ties_in_time_are_broken_by_the_order_of_lines(tmp_path):
    rows = [Rating(1, item, 4, START) for item in (5, 3, 6, 1)]
    made = small(tmp_path, rows)
    case = made.case("test", "u1")
    assert [item.id for item in case.visible.history] == ["5", "3", "6"]


def test_no_held_out_pair_is_among_the_interactions(ml100k):
    made = domain(ml100k)
    events = made.interactions()
    pairs = {(events.user_ids[u], int(i)) for u, i in zip(events.users, events.items, strict=True)}
    assert len(pairs) == made.statistics()["interactions"] - 2 * made.statistics()["users"]
    for case_id in made.case_ids("test"):
        for split in ("validation", "test"):
            (target,) = made.case(split, case_id).hidden.targets
            assert (case_id, made.catalogue.position[target.id]) not in pairs
    targets = [made.case("validation", u).hidden.targets[0].id for u in events.user_ids]
    assert [made.catalogue.items[i].id for i in made.validation_items()] == targets
    assert (np.diff(events.users) >= 0).all()
    assert (np.diff(events.times)[np.diff(events.users) == 0] >= 0).all()


def test_case_ids_are_in_the_order_of_the_user_numbers(tmp_path):
    rows = [row for user in (10, 9, 100) for row in history(user, 1, 2, 3)]
    assert small(tmp_path, rows).case_ids("test") == ("u9", "u10", "u100")


def test_ratings_below_the_minimum_do_not_count(tmp_path):
    rows = [*history(1, 1, 2, 3), Rating(1, 4, 2, START + 9), Rating(1, 5, 3, START + 10)]
    made = small(tmp_path, rows)
    assert [item.id for item in made.catalogue.items] == ["1", "2", "3", "5"]
    assert [item.id for item in made.case("test", "u1").hidden.targets] == ["5"]


def test_a_film_under_two_ids_is_one_item_and_the_earliest_interaction_counts(tmp_path):
    double = [*FEW, Film(7, FEW[1].title, FEW[1].genres)]
    rows = history(1, 7, 1, 2, 3) + history(2, 1, 3, 7)
    made = small(tmp_path, rows, catalogue=double)
    assert "7" not in made.catalogue.position
    first = made.case("test", "u1")
    assert [item.id for item in (*first.visible.history, *first.hidden.targets)] == ["2", "1", "3"]
    assert [item.id for item in made.case("test", "u2").hidden.targets] == ["2"]


def test_an_unknown_case_is_a_data_error(ml100k):
    with pytest.raises(DataError, match="no case 'u999'"):
        domain(ml100k).case("test", "u999")


def test_the_fingerprint_follows_options_and_files_but_not_the_path(tmp_path, ml100k):
    here = domain(ml100k).fingerprint()
    assert domain(write_ml100k(tmp_path / "copy")).fingerprint() == here
    assert domain(ml100k, min_rating=3, k_core=10).fingerprint() == here
    assert domain(ml100k, min_rating=4).fingerprint() != here
    assert domain(ml100k, k_core=5).fingerprint() != here
    for name in ("u.data", "u.item"):
        copy = write_ml100k(tmp_path / name)
        (copy / name).write_bytes((copy / name).read_bytes() + b"\n")
        assert domain(copy).fingerprint() != here


@given(
    st.sets(st.tuples(st.integers(0, 8), st.integers(0, 8)), min_size=1),
    st.integers(0, 5),
)
def test_the_k_core_is_the_largest_set_in_which_all_have_k(pairs, k):
    ordered = sorted(pairs)
    users, items = np.array(ordered).T
    kept = {pair for pair, keep in zip(ordered, k_core(users, items, k), strict=True) if keep}

    def drop_one(left: set[tuple[int, int]]) -> set[tuple[int, int]] | None:
        for side in (0, 1):
            names = [pair[side] for pair in left]
            for name in names:
                if names.count(name) < k:
                    return {pair for pair in left if pair[side] != name}
        return None

    # Dropping one poor user or item at a time, in any order, must end at the same set.
    expected: set[tuple[int, int]] | None = set(ordered)
    while expected and (fewer := drop_one(expected)) is not None:
        expected = fewer
    assert kept == expected


def test_a_missing_folder_is_named(tmp_path):
    assert "no such folder" in message(tmp_path / "missing")
    (tmp_path / "file").write_text("x")
    assert "not a folder" in message(tmp_path / "file")


def test_a_folder_without_the_files_says_what_was_looked_for(tmp_path):
    text = message(tmp_path)
    assert all(name in text for name in ("u.data", "u.item", "ratings.dat", "movies.dat"))


def test_a_missing_second_file_is_named(ml100k):
    (ml100k / "u.item").unlink()
    assert message(ml100k) == (
        f"{ml100k / 'u.item'}: the file is missing; u.data is there, and ML-100K needs both"
    )


def test_two_layouts_in_one_folder_are_refused(ml100k):
    write_ml1m(ml100k)
    assert "both ML-100K and ML-1M" in message(ml100k)


@pytest.mark.parametrize("name", ["u.data", "u.item"])
def test_an_empty_file_is_named(ml100k, name):
    (ml100k / name).write_bytes(b"\n")
    assert message(ml100k) == f"{ml100k / name}: the file is empty; download it again"


@pytest.mark.parametrize("name", ["u.data", "u.item"])
@pytest.mark.parametrize(
    "content",
    [
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1979173\n",
        "/annex/objects/SHA256E-s1979173--0.data\n",
    ],
)
def test_a_pointer_file_is_not_taken_for_data(ml100k, name, content):
    (ml100k / name).write_text(content)
    with pytest.raises(DataError, match="only a pointer to a file in a large-file store"):
        domain(ml100k).fingerprint()
    assert str(ml100k / name) in message(ml100k)


def test_a_dangling_link_into_an_annex_is_a_pointer_too(ml100k):
    (ml100k / "u.data").unlink()
    (ml100k / "u.data").symlink_to(".git/annex/objects/aa/bb/SHA256E-s1--0.data")
    assert "only a pointer" in message(ml100k)


BAD_ROWS = {
    "too few fields": "3::5::4",
    "too many fields": "3::5::4::880000000::1",
    "no number": "3::five::4::880000000",
    "no rating": "3::5::::880000000",
    "not a number": "3::5::nan::880000000",
    "a rating too high": "3::5::9::880000000",
    "a negative user": "-3::5::4::880000000",
    "a fraction of a user": "3.5::5::4::880000000",
    "an empty line": "",
    "a cut row": "3::5",
}


@pytest.mark.parametrize("row", BAD_ROWS.values(), ids=BAD_ROWS)
@pytest.mark.parametrize("layout", ["ml100k", "ml1m"])
def test_a_bad_rating_is_found_with_its_line(tmp_path, layout, row):
    write, name = {"ml100k": (write_ml100k, "u.data"), "ml1m": (write_ml1m, "ratings.dat")}[layout]
    path = write(tmp_path) / name
    lines = path.read_text().splitlines()
    lines[16] = row.replace("::", "\t") if layout == "ml100k" else row
    path.write_text("\n".join(lines) + "\n")
    text = message(tmp_path)
    assert text.startswith(f"{path}:17: found {lines[16]!r}, expected 4 fields")


def test_a_file_cut_in_the_middle_of_a_row_is_found_at_its_last_line(ml100k):
    path = ml100k / "u.data"
    rows = path.read_bytes().split(b"\n")[:100]
    path.write_bytes(b"\n".join([*rows, b"12\t7"]))
    assert message(ml100k).startswith(f"{path}:101: the file is truncated in this line")


@pytest.mark.parametrize("write", [write_ml100k, write_ml1m])
@pytest.mark.parametrize("ends", [b"\n", b"\r\n"])
def test_a_whole_file_without_a_last_line_end_is_read_with_a_remark(tmp_path, write, ends):
    whole, saved = domain(write(tmp_path / "whole")), domain(write(tmp_path / "saved"))
    assert list(whole.remarks()) == []
    for path in saved.files():
        path.write_bytes(path.read_bytes().replace(b"\n", ends).removesuffix(ends))
    assert saved.catalogue.items == whole.catalogue.items
    assert saved.statistics() == whole.statistics()
    for remark, path in zip(saved.remarks(), saved.files(), strict=True):
        assert remark.startswith(f"{path.name} has no line end after its last line")


@pytest.mark.parametrize("cut", [1, 5])
def test_a_time_that_was_cut_at_the_end_of_a_file_is_found(ml100k, cut):
    path = ml100k / "u.data"
    content = path.read_bytes().rstrip(b"\n")
    path.write_bytes(content[:-cut])
    last = content.count(b"\n") + 1
    assert message(ml100k).startswith(f"{path}:{last}: the file is truncated in this line")


def test_a_list_of_films_cut_in_the_middle_of_a_row_is_found_at_its_last_line(ml100k):
    path = ml100k / "u.item"
    rows = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join(rows)[:-20])
    assert message(ml100k).startswith(f"{path}:{len(rows)}: the file is truncated in this line")


def test_windows_line_ends_are_read(tmp_path, ml100k):
    copy = write_ml100k(tmp_path / "windows")
    for name in ("u.data", "u.item"):
        (copy / name).write_bytes((copy / name).read_bytes().replace(b"\n", b"\r\n"))
    assert domain(copy).catalogue.items == domain(ml100k).catalogue.items


@pytest.mark.parametrize(
    "row", ["3|Half a Film (1990)|01-Jan", "x|y", "3||01-Jan-1990|||" + "0|" * 19]
)
def test_a_bad_movie_is_found_with_its_line(ml100k, row):
    path = ml100k / "u.item"
    lines = path.read_bytes().split(b"\n")
    lines[2] = row.encode()
    path.write_bytes(b"\n".join(lines))
    text = message(ml100k)
    assert text.startswith(f"{path}:3: found")
    assert "expected 24 fields" in text


def test_a_bad_movie_of_the_other_layout_is_found_with_its_line(tmp_path):
    path = write_ml1m(tmp_path) / "movies.dat"
    path.write_bytes(path.read_bytes() + b"41::Cut Short\n")
    assert message(tmp_path).startswith(f"{path}:41: found '41::Cut Short', expected 3 fields")


def test_a_movie_id_listed_twice_is_refused(tmp_path):
    write_ml100k(tmp_path, catalogue=[*FEW, FEW[0]], rows=history(1, 1, 2, 3))
    assert message(tmp_path).startswith(f"{tmp_path / 'u.item'}:7: the movie id 1")


@pytest.mark.parametrize("unknown", [0, 77, 999_999_999])
def test_a_rating_of_an_unknown_movie_is_found_with_its_line(tmp_path, unknown):
    write_ml100k(tmp_path, catalogue=FEW, rows=history(1, 1, 2, unknown, 3))
    text = message(tmp_path)
    assert text.startswith(f"{tmp_path / 'u.data'}:3: found a rating of the movie {unknown}")


def test_a_user_with_too_short_a_history_is_named(tmp_path):
    rows = history(8, 1, 2, 3) + history(9, 1, 2)
    write_ml100k(tmp_path, catalogue=FEW, rows=rows)
    text = message(tmp_path, k_core=0)
    assert "user 9 has too short a history: found 2" in text
    assert "set k_core to 3 or more" in text


def test_a_filter_that_leaves_nothing_says_so(ml100k):
    assert "no interaction of 840 is left after min_rating 3 and k_core 1000" in message(
        ml100k, k_core=1000
    )


def test_the_path_is_required_and_no_part_of_identity(tmp_path):
    assert domain(tmp_path, k_core=5).options.identity() == {"k_core": 5}
    with pytest.raises(ValueError, match="path"):
        plugins.build_options(MovieLens.Options, {})


def test_only_the_release_that_a_paper_used_has_published_numbers(tmp_path, ml100k):
    assert domain(ml100k).published() is None
    published = domain(write_ml1m(tmp_path / "ml-1m")).published()
    assert published is not None
    assert published.statistics.keys() == domain(ml100k).statistics().keys()


@pytest.mark.parametrize("write", [write_ml100k, write_ml1m])
@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig"])
def test_a_copy_saved_again_in_utf_8_reads_the_same(tmp_path, write, codec):
    official, copy = write(tmp_path / "official"), write(tmp_path / "copy")
    for path in copy.iterdir():
        path.write_bytes(path.read_bytes().decode("latin-1").encode(codec))
    assert domain(copy).catalogue.items == domain(official).catalogue.items
    assert domain(copy).catalogue["1"].title == "Caf\u00e9 \u00c9toile (1968)"
    assert domain(copy).statistics() == domain(official).statistics()
    assert domain(copy).fingerprint() != domain(official).fingerprint()


def test_latin_1_letters_that_are_no_utf_8_stay_latin_1(tmp_path):
    odd = [Film(1, "Mis\u00e9rables, Les (\u00c3\u00a9) (1995)", ("Drama",)), *FEW[1:]]
    made = small(tmp_path, history(1, 1, 2, 3), catalogue=odd)
    assert made.catalogue["1"].title == odd[0].title


def test_utf_16_is_named(tmp_path):
    folder = write_ml1m(tmp_path / "ml-1m")
    path = folder / "movies.dat"
    path.write_bytes(path.read_bytes().decode("latin-1").encode("utf-16"))
    assert "movies.dat: the file is UTF-16 text; save it as UTF-8" in message(folder)
