"""Amazon: both published layouts of a category, the filters, and what bad lines say."""

from __future__ import annotations

import codecs
import gzip
import json

import pytest

from agents.core import plugins
from agents.core.decision_first import Recommendation
from agents.core.errors import DataError
from agents.core.grounded_titles import ground_mentions
from agents.core.items import LONGEST_TITLE
from simulators.domains.amazon import Amazon
from tests.fixtures_reviews import Row, amazon_review, product, rows, write_amazon, write_gz

REVIEWS, RATINGS, META = "reviews_Beauty_5.json.gz", "ratings_Beauty.csv", "meta_Beauty.json.gz"
GOOD = amazon_review(Row("a", "7000"))


def domain(path, **options) -> Amazon:
    return Amazon(plugins.build_options(Amazon.Options, {"path": path, **options}))


def history(user: str, *items: str) -> list[Row]:
    return [Row(user, item, place) for place, item in enumerate(items)]


def small(tmp_path, reviews, products=None, **options) -> Amazon:
    return domain(write_amazon(tmp_path, reviews, products), **{"k_core": 0, **options})


def message(tmp_path, **options) -> str:
    with pytest.raises(DataError) as caught:
        domain(tmp_path, **options).case_ids("test")
    return caught.value.message


def test_the_plugin_lookup_finds_the_domain():
    assert plugins.load("simulators.domains", "amazon", "domain") is Amazon


def test_both_layouts_of_the_same_data_give_the_same_domain(tmp_path):
    one = domain(write_amazon(tmp_path / "json"))
    other = domain(write_amazon(tmp_path / "csv", csv=True))
    assert one.catalogue.items == other.catalogue.items
    assert one.statistics() == other.statistics()
    assert one.case_ids("test") == other.case_ids("test")
    assert all(one.case("test", u) == other.case("test", u) for u in one.case_ids("test"))
    assert one.fingerprint() != other.fingerprint()


def test_what_is_left_equals_a_plain_count(tmp_path):
    left = [row for row in rows() if row.rating >= 3]
    while True:
        users, items = [row.user for row in left], [row.item for row in left]
        core = [r for r in left if users.count(r.user) >= 16 and items.count(r.item) >= 16]
        if len(core) == len(left):
            break
        left = core
    assert domain(write_amazon(tmp_path), k_core=16).statistics() == {
        "users": len({row.user for row in left}),
        "items": len({row.item for row in left}),
        "interactions": len(left),
    }
    assert 0 < len(left) < len(rows())


def test_a_product_carries_what_its_line_says(tmp_path):
    made = small(tmp_path, history("a", "1", "2", "3"))
    one = made.catalogue["1"]
    assert (one.title, one.price) == ("Velvet & Rose Cream 1", 9.5)
    assert one.description == "Cream number 1."
    assert one.attributes == {"category": ("Skin Care", "Face", "Body"), "brand": ("Orchard",)}
    assert made.catalogue.noun == "beauty product"


def test_a_long_description_is_cut_between_words(tmp_path):
    long = product("1", description="soft cream " * 200)
    text = small(tmp_path, history("a", "1", "2", "3"), [long, product("2"), product("3")])
    description = text.catalogue["1"].description
    assert description.endswith((" soft ...", " cream ..."))
    assert len(description) <= 604


def test_a_product_without_a_title_is_left_out_and_counted(tmp_path):
    products = [product("1"), product("2"), product("3"), {"asin": "4"}]
    made = small(tmp_path, history("a", "4", "1", "2", "3"), products)
    assert [item.id for item in made.catalogue.items] == ["1", "2", "3"]
    assert made.remarks() == [
        "1 reviews of 1 products that meta_Beauty.json.gz does not list with a title are left out"
    ]


def test_ratings_below_the_minimum_do_not_count(tmp_path):
    reviews = [*history("a", "1", "2", "3"), Row("a", "4", 9, 2.0), Row("a", "5", 10, 3.0)]
    made = small(tmp_path, reviews)
    assert [item.id for item in made.catalogue.items] == ["1", "2", "3", "5"]
    assert made.case("test", "ua").hidden.targets[0].id == "5"


def test_another_category_has_other_file_names_and_no_published_numbers(tmp_path):
    folder = write_amazon(tmp_path, category="Video_Games")
    made = domain(folder, category="Video_Games")
    assert made.statistics()["users"] == 30
    assert made.catalogue.noun == "video games product"
    assert made.published() is None
    assert domain(folder).published() is not None
    assert message(tmp_path) == (
        f"{tmp_path}: no {REVIEWS} and no {RATINGS} is there; "
        "did you mean 'reviews_Video_Games_5.json.gz'?"
    )
    with pytest.raises(ValueError, match="category"):
        domain(tmp_path, category="../Beauty")


def test_two_files_of_reviews_are_refused(tmp_path):
    write_amazon(tmp_path)
    write_amazon(tmp_path, csv=True)
    assert f"holds both {REVIEWS} and {RATINGS}" in message(tmp_path)


BAD_JSON = {
    "empty": "",
    "a Python literal": str(GOOD),
    "no object": "[1]",
    "cut": json.dumps(GOOD)[:-9],
    "no user": json.dumps({**GOOD, "reviewerID": None}),
    "no product": json.dumps({**GOOD, "asin": ""}),
    "a rating too high": json.dumps({**GOOD, "overall": 6}),
    "a rating that is none": json.dumps({**GOOD, "overall": float("nan")}),
    "a flag for a rating": json.dumps({**GOOD, "overall": True}),
    "words for a time": json.dumps({**GOOD, "unixReviewTime": "2014"}),
    "a time too high": json.dumps({**GOOD, "unixReviewTime": 10**30}),
    "nested": "[" * 100_000,
    "a long number": "1" * 10_000,
}


@pytest.mark.parametrize("line", BAD_JSON.values(), ids=BAD_JSON)
def test_a_bad_line_of_json_is_left_out_and_reported(tmp_path, line):
    lines = [json.dumps(amazon_review(row)) for row in rows()]
    write_amazon(tmp_path)
    write_gz(tmp_path / REVIEWS, [*lines[:16], line, *lines[16:]])
    made = domain(tmp_path, min_rating=0)
    assert made.statistics()["interactions"] == len(lines)
    [remark] = made.remarks()
    assert "1 of 841 lines of reviews_Beauty_5.json.gz" in remark
    assert "in line 17: found " in remark


BAD_CSV = [
    "",
    "user,item,rating,timestamp",
    "a,7000,5.0",
    "a,7000,5.0,1,2",
    ",7000,5.0,1",
    "a,,5.0,1",
    "a,7000,nan,1",
    "a,7000,5.1,1",
    "a,7000,5.0,-1",
    "a,7000,5.0,1e9",
    "a,7000,5.0,\u0661",
]


@pytest.mark.parametrize("line", BAD_CSV)
def test_a_bad_line_of_csv_is_left_out_and_reported(tmp_path, line):
    path = write_amazon(tmp_path, csv=True) / RATINGS
    path.write_bytes(path.read_bytes() + f"{line}\n".encode())
    [remark] = domain(tmp_path).remarks()
    assert f"in line 841: found {line!r}, expected user,item,rating of 1 to 5,unix time" in remark


def test_a_last_line_of_csv_that_is_cut_off_does_not_count(tmp_path):
    path = write_amazon(tmp_path, csv=True) / RATINGS
    path.write_bytes(path.read_bytes()[:-4])
    assert "in line 840: found " in domain(tmp_path).remarks()[0]


def test_a_whole_last_line_without_a_line_end_counts(tmp_path):
    whole, saved = domain(write_amazon(tmp_path / "whole", csv=True)), tmp_path / "saved"
    path = write_amazon(saved, csv=True) / RATINGS
    path.write_bytes(path.read_bytes().removesuffix(b"\n"))
    assert domain(saved).statistics() == whole.statistics()
    assert list(whole.remarks()) == []
    [remark] = domain(saved).remarks()
    assert remark.startswith(
        f"{RATINGS} has no line end after its last line, which is read as it is"
    )


def test_a_bad_product_is_left_out_and_reported(tmp_path):
    path = write_amazon(tmp_path) / META
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    write_gz(path, ["{'title': 'No id'}", *lines])
    assert message(tmp_path).startswith(f"{path}:1: found \"{{'title': 'No id'}}\", expected a")
    [remark] = domain(tmp_path, max_bad_lines=0.1).remarks()
    assert remark.startswith("1 of 41 lines of meta_Beauty.json.gz")


def test_the_fingerprint_follows_options_and_files_but_not_the_path(tmp_path):
    here = domain(write_amazon(tmp_path / "a")).fingerprint()
    assert domain(write_amazon(tmp_path / "b"), max_bad_lines=0.5).fingerprint() == here
    assert domain(tmp_path / "a", min_rating=4).fingerprint() != here
    write_amazon(tmp_path / "b", rows(seed=1))
    assert domain(tmp_path / "b").fingerprint() != here


def test_a_title_that_no_reply_could_name_is_cut_and_reported(tmp_path):
    """A product of real data is often titled by half of its description."""
    items = sorted({row.item for row in rows()})
    words = "for dry and sensitive skin with rose and velvet " * 250
    long = [product(item, title=f"Cream {item} {words}") for item in items[:3]]
    write_amazon(tmp_path, products=[*long, *map(product, items[3:])])
    made = domain(tmp_path, min_rating=0)
    titles = {item.id: item.title for item in made.catalogue.items}
    for number in items[:3]:
        title = titles[number]
        assert LONGEST_TITLE - 10 < len(title) <= LONGEST_TITLE
        assert f"Cream {number} {words}".startswith(title + " ")
        reply = Recommendation.model_validate({"titles": [title]})
        [named] = ground_mentions(reply.titles, made.catalogue).items
        assert named.id == number
    assert made.remarks() == [
        "3 titles of meta_Beauty.json.gz are longer than 200 characters and cut there, so that "
        "replies can name them"
    ]


def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path):
    for csv in (True, False):
        plain, marked = tmp_path / f"plain{csv}", tmp_path / f"marked{csv}"
        for folder in (plain, marked):
            write_amazon(folder, csv=csv)
        for path in marked.iterdir():
            content = path.read_bytes()
            zipped = path.suffix == ".gz"
            content = codecs.BOM_UTF8 + (gzip.decompress(content) if zipped else content)
            path.write_bytes(gzip.compress(content) if zipped else content)
        assert domain(marked).case_ids("test") == domain(plain).case_ids("test")
        assert domain(marked).statistics() == domain(plain).statistics()
        assert domain(marked).remarks() == []
