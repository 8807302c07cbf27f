"""Amazon Reviews 2023 with the latest items of histories held out, over made-up files."""

import json

import pytest

from agents.core import plugins
from agents.core.errors import DataError
from simulators.domains.amazon_2023_histories import Amazon2023Histories
from tests.fixtures_amazon_2023 import product, review, rows, write_amazon_2023
from tests.fixtures_reviews import Row, write_gz

GAMES = "Video_Games"


def domain(path, **options) -> Amazon2023Histories:
    given = {"path": path, "category": GAMES, **options}
    return Amazon2023Histories(plugins.build_options(Amazon2023Histories.Options, given))


def history(user: str, *items: int) -> list[Row]:
    return [Row(user, f"B{item:04d}", day) for day, item in enumerate(items)]


def test_what_is_left_equals_a_plain_count(tmp_path):
    every = rows(users=40, items=45, each=14)
    listed = sorted({row.item for row in every})[5:]
    write_amazon_2023(tmp_path, every, [product(item) for item in listed], category=GAMES)
    # Titles are numbered, so equal ones do not meet here.
    left = [row for row in every if row.item in listed]
    while True:
        users, items = [row.user for row in left], [row.item for row in left]
        core = [r for r in left if users.count(r.user) >= 9 and items.count(r.item) >= 9]
        if len(core) == len(left):
            break
        left = core
    made = domain(tmp_path, k_core=9)
    assert made.statistics() == {
        "users": len({row.user for row in left}),
        "items": len({row.item for row in left}),
        "interactions": len(left),
    }
    assert 0 < len(left) < sum(row.item in listed for row in every)
    [remark] = made.remarks()
    missing = [row for row in every if row.item not in listed]
    assert remark.startswith(f"{len(missing)} reviews of 5 products that meta_Video_Games.jsonl.gz")
    for case_id in made.case_ids("test"):
        own = sorted((row for row in left if f"u{row.user}" == case_id), key=lambda row: row.day)
        test, validation = (made.case(split, case_id) for split in ("test", "validation"))
        assert test.hidden.targets[0].id == own[-1].item
        assert validation.hidden.targets[0].id == own[-2].item
        assert [item.id for item in test.visible.history] == [row.item for row in own[:-1]]
        assert own[-1].item not in [item.id for item in test.visible.history]


def test_a_product_carries_what_its_line_says_and_needs_no_more_than_a_title(tmp_path):
    products = [product("B0000"), {"parent_asin": "B0001", "title": "Bare"}, product("B0002")]
    write_amazon_2023(tmp_path, history("a", 0, 1, 2), products, category=GAMES)
    made = domain(tmp_path, k_core=0)
    one, bare, _ = made.catalogue.items
    assert one.attributes == {"category": ("Women", "Clothing", "Jeans"), "store": ("Store 0",)}
    assert one.description.startswith("A jeans item for everyday wear. Features: Soft & light; ")
    assert (one.price, bare.price) == (9.99, None)
    assert (bare.title, bare.attributes, bare.description) == ("Bare", {}, "")
    assert made.catalogue.noun == "video games product"


def test_a_minimum_of_the_rating_and_malformed_lines_are_left_out(tmp_path):
    low = Row("a", "B0003", 9, 2.0)
    write_amazon_2023(tmp_path, [*history("a", 0, 1, 2), low], category=GAMES)
    assert domain(tmp_path, k_core=0).case("test", "ua").hidden.targets[0].id == "B0003"
    liked = domain(tmp_path, k_core=0, min_rating=3)
    assert liked.case("test", "ua").hidden.targets[0].id == "B0002"
    lines = [json.dumps(review(row)) for row in [*history("a", 0, 1, 2), low]]
    write_gz(tmp_path / f"{GAMES}.jsonl.gz", [*lines, '{"rating": 5}'])
    made = domain(tmp_path, k_core=0, max_bad_lines=0.5)
    assert "1 of 5 lines of Video_Games.jsonl.gz" in made.remarks()[0]
    with pytest.raises(DataError, match="Video_Games"):
        domain(tmp_path, k_core=0).case_ids("test")


def test_its_numbers_are_next_to_the_papers_and_missing_files_are_named(tmp_path):
    write_amazon_2023(tmp_path, category=GAMES)
    published = domain(tmp_path).published()
    assert published is not None
    assert published.statistics["users"] == 15_582
    assert domain(tmp_path).dataset == "Amazon2023-Video_Games"
    with pytest.raises(DataError, match=r"no CDs_and_Vinyl.jsonl.gz"):
        domain(tmp_path, category="CDs_and_Vinyl").case_ids("test")
