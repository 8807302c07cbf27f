"""LastFM and Yelp in the layout of SCPR: the published split, the facts, and bad files."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.core import plugins
from agents.core.errors import DataError
from simulators.domains.lastfm import LastFM
from simulators.domains.yelp import Yelp
from tests.fixtures_scpr import (
    GRAPH,
    INTERACTIONS,
    NAMES,
    Split,
    split,
    write_json,
    write_lastfm,
    write_split,
    write_yelp,
)

SMALL = Split(train={3: [0, 2], 7: [1]}, valid={3: [4]}, test={3: [5, 1], 7: [2], 9: [0]})
TEST, LISTING = f"{INTERACTIONS}/review_dict_test.json", f"{GRAPH}/item_dict.json"


def lastfm(path, **options) -> LastFM:
    return LastFM(LastFM.Options(path=path, **options))


def yelp(path, **options) -> Yelp:
    return Yelp(Yelp.Options(path=path, **options))


def message(domain) -> str:
    with pytest.raises(DataError) as caught:
        domain.case_ids("test")
    assert "\n" not in caught.value.message
    return caught.value.message


def numbers(items) -> list[int]:
    return [int(item.id) for item in items]


@pytest.mark.parametrize(("name", "cls"), [("lastfm", LastFM), ("yelp", Yelp)])
def test_the_plugin_lookup_finds_the_domain(name, cls):
    assert plugins.load("simulators.domains", name, "domain") is cls


def test_a_case_is_a_held_out_interaction_and_its_history_the_training_items(tmp_path):
    made = lastfm(write_lastfm(tmp_path, SMALL))
    assert made.case_ids("test") == ("u3-i5", "u3-i1", "u7-i2", "u9-i0")
    case = made.case("test", "u3-i1")
    assert case.visible.case_id == "u3-i1"
    assert numbers(case.visible.history) == [0, 2]
    assert numbers(case.hidden.targets) == [1]
    assert made.case("test", "u9-i0").visible.history == ()
    assert made.case_ids("validation") == made.case_ids("train") == ("u3-i4",)
    assert numbers(made.case("train", "u3-i4").visible.history) == [0, 2]


def test_all_held_out_items_of_a_user_can_be_the_targets_of_one_case(tmp_path):
    made = lastfm(write_lastfm(tmp_path, SMALL), targets="all")
    assert made.case_ids("test") == ("u3", "u7", "u9")
    assert made.case_ids("validation") == ("u3",)
    assert numbers(made.case("test", "u3").hidden.targets) == [5, 1]
    assert made.fingerprint() != lastfm(tmp_path).fingerprint()


@pytest.mark.parametrize("case_id", ["u3", "u3-i0", "u03-i5", "u4-i5", "u3-i5 ", "3", "u99-i1", ""])
def test_a_case_that_is_not_in_the_test_file_is_refused(tmp_path, case_id):
    made = lastfm(write_lastfm(tmp_path, SMALL))
    with pytest.raises(DataError, match="there is no case"):
        made.case("test", case_id)


def test_training_data_is_the_training_file_alone(tmp_path):
    made = lastfm(write_lastfm(tmp_path, SMALL))
    data = made.training_data()
    assert data.interactions.user_ids == ("u3", "u7", "u9")
    assert data.interactions.users.tolist() == [0, 0, 1]
    assert data.interactions.items.tolist() == [0, 2, 1]
    assert data.interactions.times.tolist() == [0, 1, 0]
    assert data.validation.tolist() == [4, -1, -1]


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(st.integers(0, 6), st.integers(0, 9), st.sampled_from(Split._fields)),
        min_size=1,
    )
)
def test_every_interaction_counts_once_in_the_first_file_that_lists_it(tmp_path, listed):
    files = {part: {} for part in Split._fields}
    for user, item, part in listed:
        files[part].setdefault(user, []).append(item)
    files["test"].setdefault(0, []).append(10)
    made = lastfm(write_lastfm(tmp_path, Split(**files), items=12))

    first: dict[tuple[int, int], str] = {}
    for part in Split._fields:
        for user in sorted(files[part]):
            for item in files[part][user]:
                first.setdefault((user, item), part)
    expected = {
        part: [f"u{u}-i{i}" for (u, i), own in first.items() if own == part]
        for part in Split._fields
    }
    assert list(made.case_ids("test")) == expected["test"]
    assert list(made.case_ids("validation")) == expected["valid"]
    data = made.interactions()
    assert [
        f"{data.user_ids[user]}-i{item}" for user, item in zip(data.users, data.items, strict=True)
    ] == expected["train"]
    for case_id in made.case_ids("test"):
        case = made.case("test", case_id)
        user = int(case_id[1:].split("-")[0])
        mine = [i for (u, i), own in first.items() if u == user and own == "train"]
        assert numbers(case.visible.history) == mine
        assert numbers(case.hidden.targets) == [int(case_id.split("-i")[1])]
    total = sum(len(items) for part in files.values() for items in part.values())
    again = total - len(first)
    assert made.statistics()["interactions"] == len(first)
    assert made.remarks() == (
        [f"{again:,} interactions are listed again and count once"] if again else []
    )


def test_an_artist_has_its_tags_as_facts_and_nothing_else(tmp_path):
    made = lastfm(write_lastfm(tmp_path, SMALL, features={0: [2, 3, 2], 1: []}))
    one = made.catalogue["0"]
    assert (one.title, one.attributes, one.description) == (
        "Paper Tailors", {"tag": ("new wave", "80s")}, ""
    )  # fmt: skip
    assert made.catalogue["1"].attributes == {}
    assert made.catalogue.noun == "music artist"
    assert made.statistics() == {"users": 3, "items": 40, "attributes": 8, "interactions": 8}


def test_an_artist_without_a_name_is_left_out_with_its_interactions(tmp_path):
    made = lastfm(write_lastfm(tmp_path, SMALL, nameless=(1, 30)))
    assert made.statistics() == {"users": 2 + 1, "items": 38, "attributes": 8, "interactions": 6}
    assert made.case_ids("test") == ("u3-i5", "u7-i2", "u9-i0")
    assert made.remarks() == [
        "2 of 40 items have no name in item_reverse_map.json and are left out: "
        "a dialogue could not name them",
        "2 interactions with these items are left out",
    ]
    assert message(lastfm(write_lastfm(tmp_path, SMALL, nameless=range(40)))) == (
        f"{tmp_path}/{NAMES}/item_reverse_map.json: found no name of an item, expected those of 40"
    )


def test_a_business_has_its_tags_and_the_kinds_of_its_categories_as_facts(tmp_path):
    features = {0: [1, 3, 5, 6, 8, 11], 1: [0, 2, 7, 6]}
    made = yelp(write_yelp(tmp_path, SMALL, features=features))
    assert made.catalogue["0"].attributes == {
        "kind": ("Asian food", "Drinks"),
        "category": ("Noodles", "Tea Rooms", "Bridal"),
        "price": ("price level 2",),
        "rating": ("4 stars",),
        "city": ("City 1",),
    }
    assert made.catalogue["1"].attributes == {
        "kind": ("Asian food",),
        "category": ("Soup", "Noodles"),
        "rating": ("1 star",),
        "city": ("City 0",),
    }
    assert made.catalogue.noun == "place"
    assert made.statistics()["attributes"] == 12


def test_businesses_of_one_name_are_named_by_city_and_then_by_number(tmp_path):
    names = dict.fromkeys(range(4), "Wok & Roll") | {4: "Wok &amp; Roll", 5: None}
    names |= {6: "Wok & Roll, City 0, No. 2"}
    features = {n: [0 if n < 3 else 1, 6] for n in range(7)}
    made = yelp(write_yelp(tmp_path, names=names, features=features))
    titles = {item.id: item.title for item in made.catalogue.items}
    assert [titles.get(str(n)) for n in range(7)] == [
        "Wok & Roll, City 0",
        "Wok & Roll, City 0, No. 3",
        "Wok & Roll, City 0, No. 4",
        "Wok & Roll, City 1",
        "Wok & Roll, City 1, No. 2",
        None,
        "Wok & Roll, City 0, No. 2",
    ]
    assert len(set(titles.values())) == len(titles) == 39
    for number, title in titles.items():
        found = made.catalogue.titles.ground(title)
        assert found is not None
        assert found.place == made.catalogue.position[number]


@settings(max_examples=40)
@given(st.lists(st.tuples(st.sampled_from("ABC"), st.integers(0, 1)), min_size=1, max_size=40))
def test_no_two_businesses_have_one_title(tmp_path, listed):
    names = {n: letter for n, (letter, _) in enumerate(listed)}
    features = {n: [city, 6] for n, (_, city) in enumerate(listed)}
    made = yelp(write_yelp(tmp_path, names=names, features=features))
    assert max(Counter(item.title for item in made.catalogue.items).values()) == 1
    assert all(made.catalogue[str(n)].title.startswith(name) for n, name in names.items())


def test_the_two_domains_share_the_split(tmp_path):
    one, other = lastfm(write_lastfm(tmp_path / "a")), yelp(write_yelp(tmp_path / "b"))
    assert one.case_ids("test") == other.case_ids("test")
    assert one.interactions().items.tolist() == other.interactions().items.tolist()
    assert len(one.case_ids("test")) == 90


def test_published_numbers_are_those_of_the_paper(tmp_path):
    published = lastfm(write_lastfm(tmp_path / "a")).published()
    assert published is not None
    assert published.statistics == {
        "users": 1801, "items": 7432, "attributes": 33, "interactions": 76693
    }  # fmt: skip
    published = yelp(write_yelp(tmp_path / "b")).published()
    assert published is not None
    assert published.statistics == {
        "users": 27675, "items": 70311, "attributes": 590, "interactions": 1368606
    }  # fmt: skip


def test_the_fingerprint_follows_the_files_but_not_the_path(tmp_path):
    here = lastfm(write_lastfm(tmp_path / "a")).fingerprint()
    assert lastfm(write_lastfm(tmp_path / "b")).fingerprint() == here
    write_split(tmp_path / "b", split(seed=1))
    assert lastfm(tmp_path / "b").fingerprint() != here
    write_lastfm(tmp_path / "b", features={0: [1]})
    assert lastfm(tmp_path / "b").fingerprint() != here


def test_a_folder_without_the_files_is_described(tmp_path):
    assert message(lastfm(tmp_path / "missing")).endswith(
        "there is no such folder; `path` must be the folder of the LastFM files"
    )
    assert message(lastfm(tmp_path)) == f"{tmp_path}: no {GRAPH} is there"
    write_yelp(tmp_path)
    assert message(lastfm(tmp_path)) == (
        f"{tmp_path}/{GRAPH}: no item_dict.json is there; "
        "did you mean 'item_dict-original_tag.json'?"
    )
    (tmp_path / INTERACTIONS / "review_dict_test.json").rename(
        tmp_path / INTERACTIONS / "review_dict_tests.json"
    )
    assert message(yelp(tmp_path)) == (
        f"{tmp_path}/{INTERACTIONS}: no review_dict_test.json is there; "
        "did you mean 'review_dict_tests.json'?"
    )
    other = write_lastfm(tmp_path / "other")
    for path in (other / NAMES).iterdir():
        path.unlink()
    (other / NAMES).rmdir()
    (other / NAMES).write_text("x")
    assert f"{other}/{NAMES}: is a file, not a folder" in message(lastfm(other))


BAD_FILES = {
    (TEST, "[1]"): "found '[1]', expected a JSON object that maps users to lists",
    (TEST, '{"3": [1'): ":1: found no valid JSON here (Expecting ',' delimiter)",
    (TEST, ""): "the file is empty",
    (TEST, "{}"): "found no interaction to test on",
    (TEST, '{"3": []}'): "found no interaction to test on",
    (TEST, '{"x": [1]}'): "found the key 'x', expected the number of a user",
    (TEST, '{"03": [1]}'): "found the key '03', expected the number of a user",
    (TEST, '{"3": 1}'): "user 3: found '1', expected a list of item numbers",
    (TEST, '{"3": [true]}'): "user 3: found '[true]', expected a list of item numbers",
    (TEST, '{"3": [-1]}'): "user 3: found '[-1]', expected a list of item numbers",
    (TEST, '{"3": [1.0]}'): "user 3: found '[1.0]', expected a list of item numbers",
    (TEST, '{"3": ["1"]}'): "user 3: found '[\"1\"]', expected a list of item numbers",
    (TEST, f'{{"3": [{2**31}]}}'): "expected a list of item numbers",
    (TEST, f'{{"3": [{"9" * 5000}]}}'): "cannot be read as JSON",
    (TEST, "[" * 100_000): "cannot be read as JSON",
    (TEST, '{"3": [1], "3": [2]}'): "the key '3' is listed twice",
    (TEST, '{"3": [99]}'): "user 3: found the item 99, which item_dict.json does not list",
    (LISTING, '{"0": [1]}'): "item 0: found '[1]', expected an object with a feature_index",
    (LISTING, '{"0": {"busi_id": 1}}'): "expected an object with a feature_index",
    (LISTING, '{"a": {"feature_index": []}}'): "found the key 'a', expected the number of an item",
    (LISTING, '{"0": {"feature_index": [8]}}'): "found the feature 8, expected one that has a name",
    (LISTING, '{"0": {"feature_index": [], "feature_index": []}}'): "'feature_index' is listed twi",
    (f"{NAMES}/tag_reverse_map.json", '{"0": "x"}'): "expected an object with a real_name",
    (f"{NAMES}/item_reverse_map.json", '{"0": {"real_name": "x"}}'): "which is a list of names",
}


@pytest.mark.parametrize(("file", "content"), BAD_FILES)
def test_a_bad_file_is_named_with_what_was_found(tmp_path, file, content):
    path = write_lastfm(tmp_path) / file
    path.write_text(content)
    said = message(lastfm(tmp_path))
    assert said.startswith(f"{path}:")
    assert BAD_FILES[file, content] in said
    assert len(said) < 400


TAG_MAP, TAXONOMY = "second-layer_oringinal_tag_map.json", "2-layer taxonomy.json"
BAD_YELP_FILES = [
    (TAG_MAP, {"prize_1": 0}, "did you mean 'price'?"),
    (TAG_MAP, {"city_": 0}, "expected a number for a tag that begins with category_, price_, star"),
    (TAG_MAP, {"city_0": "0"}, "expected a number for a tag"),
    (TAG_MAP, {"star_1": 0, "star_2": 0}, "the number 0 is that of two tags, one is 'star_2'"),
    (TAXONOMY, {"Drinks": 8}, "found '8', expected a list of the numbers of tags"),
    (TAXONOMY, {"Drinks": [99]}, "found '[99]', expected a list of the numbers of tags"),
]


@pytest.mark.parametrize(("file", "content", "expected"), BAD_YELP_FILES)
def test_a_bad_file_of_yelp_is_named_with_what_was_found(tmp_path, file, content, expected):
    path = write_json(write_yelp(tmp_path) / GRAPH / file, content)
    said = message(yelp(tmp_path))
    assert said.startswith(f"{path}: ")
    assert expected in said


def test_a_file_that_is_only_a_pointer_or_utf16_is_refused(tmp_path):
    path = write_lastfm(tmp_path) / TEST
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    assert "only a pointer to a file in a large-file store" in message(lastfm(tmp_path))
    path.write_text('{"3": [1]}', encoding="utf-16")
    assert "the file is UTF-16 text" in message(lastfm(tmp_path))


def test_a_long_name_is_cut_and_reported(tmp_path):
    made = yelp(write_yelp(tmp_path, names={0: "Very long " * 40}))
    assert len(made.catalogue["0"].title) <= 200
    assert made.remarks() == [
        "1 names of busi_name.json are longer than 200 characters and cut there, "
        "so that replies can name them"
    ]
