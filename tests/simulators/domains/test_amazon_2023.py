"""Amazon Reviews 2023: the filters, targets and budgets of CSI, and both layouts of users."""

from __future__ import annotations

import gzip
import json
from collections import Counter

import pandas as pd
import pytest

from agents.core import plugins
from agents.core.errors import DataError
from simulators.core.profiles import BuyerBudget
from simulators.domains.amazon_2023 import Amazon2023
from simulators.domains.core.amazon_reviews_2023 import plain_text, price_of, text_of
from simulators.domains.core.files import WATCHER
from tests.fixtures_amazon_2023 import (
    CATEGORY,
    PATHS,
    product,
    profile,
    profiles_of,
    published_profile,
    review,
    rows,
    write_amazon_2023,
    write_products,
    write_profiles,
)
from tests.fixtures_reviews import Row, write_gz

META, REVIEWS = f"meta_{CATEGORY}.jsonl.gz", f"{CATEGORY}.jsonl.gz"


def domain(path, **options) -> Amazon2023:
    return Amazon2023(plugins.build_options(Amazon2023.Options, {"path": path, **options}))


def small(tmp_path, reviews, products=None, **options) -> Amazon2023:
    folder = write_amazon_2023(tmp_path, reviews, products)
    return domain(folder, **{"k_core": 0, "train_users": 0, **options})


def bought(user: str, *items: str) -> list[Row]:
    return [Row(user, item, place) for place, item in enumerate(items)]


def message(path, **options) -> str:
    with pytest.raises(DataError) as caught:
        domain(path, **options).case_ids("test")
    return caught.value.message


def by_pandas(reviews: list[Row], k: int, complete: set[str]) -> pd.DataFrame:
    """Steps 1 and 2, by plain means."""
    left = pd.DataFrame(reviews).drop_duplicates(["user", "item"])
    while True:
        users, items = (
            left.user.map(left.user.value_counts()),
            left.item.map(left.item.value_counts()),
        )
        core = left[(users >= k) & (items >= k)]
        if len(core) == len(left):
            break
        left = core
    left = left[left.item.isin(complete)]
    return left[left.user.map(left.user.value_counts()) >= k]


def test_filters_targets_and_budgets_equal_a_plain_calculation(tmp_path):
    every = rows(users=60, items=55, each=12)
    numbers = sorted({row.item for row in every})
    broken = [item for item, _ in Counter(row.item for row in every).most_common(6)]
    missing = dict(
        zip(
            broken,
            ("title", "description", "categories", "features", "price", "price"),
            strict=True,
        )
    )
    products = [product(n, **({missing[n]: None} if n in missing else {})) for n in numbers]
    made = domain(write_amazon_2023(tmp_path, every, products), train_users=0)
    left = by_pandas(every, 10, set(numbers) - set(broken)).sort_values(["user", "day"])
    assert 0 < left.user.nunique() < 60
    assert made.statistics() == {
        "users": left.user.nunique(),
        "items": left.item.nunique(),
        "interactions": len(left),
        "categories": left.item.map(lambda n: tuple(product(n)["categories"])).nunique(),
    }
    for user, own in left.groupby("user"):
        case = made.case("test", f"u{user}")
        path = product(own.item.iloc[-1])["categories"]
        targets = [n for n in own.item if product(n)["categories"] == path]
        assert [item.id for item in case.hidden.targets] == targets
        assert [i.id for i in case.visible.history] == [n for n in own.item if n not in targets]
        prices = [product(n)["price"] for n in targets]
        assert made.wants(f"u{user}") == (tuple(path), BuyerBudget(min(prices), max(prices)))
    assert any("6 of " in line and "2 without price" in line for line in made.remarks())
    assert any("1 without category" in line for line in made.remarks())


@pytest.mark.parametrize(
    ("again", "users", "interactions"),
    [("none", "abcdef", 9), ("users", "abf", 6), ("products", "ab", 4)],
)
def test_who_is_counted_again_after_incomplete_products_are_left_out(
    tmp_path, again, users, interactions
):
    baskets = {"a": "12", "b": "12", "c": "34", "d": "34", "e": "14", "f": "234"}
    every = [row for user, own in baskets.items() for row in bought(user, *(f"B{n}" for n in own))]
    products = [product(f"B{n}") for n in (1, 2, 3)] + [product("B4", price=None)]
    folder = write_amazon_2023(tmp_path, every, products)
    made = domain(folder, k_core=2, core_again=again, train_users=0)
    assert list(made.case_ids("test")) == [f"u{user}" for user in users]
    assert made.statistics()["interactions"] == interactions


def test_a_product_carries_its_path_price_rating_and_number_of_ratings(tmp_path):
    made = small(tmp_path, bought("a", "B1", "B2", "B7"))
    one = made.catalogue["B7"]
    assert (one.title, one.price) == ("Kotoshiro Denim No. 7", 14.99)
    assert one.attributes == {
        "category": PATHS[2],
        "store": ("Store 3",),
        "average rating": ("3.7",),
        "number of ratings": ("107",),
    }
    assert one.description == "A jeans item for everyday wear. Features: Soft & light; Colour 0"
    assert made.catalogue.noun == "clothing shoes and jewelry product"


@pytest.mark.parametrize(
    ("description", "features", "whole", "alone"),
    [
        (["Soft.", "Features: two"], ["Light"], "Soft. Features: two Features: Light",
         "Soft. Features: two"),
        ("Soft", [], "Soft", ""),
        ([], ["Light", "Thin"], "Features: Light; Thin", ""),  # nothing else describes it
        (["x" * 900], ["Light"], "x" * 800, "x" * 800),
    ],
)  # fmt: skip
def test_a_description_is_known_without_the_features_after_it(description, features, whole, alone):
    assert text_of({"description": description, "features": features}) == (whole, alone)


@pytest.mark.parametrize(
    ("given", "price"),
    [
        (12.5, 12.5),
        ("12.50", 12.5),
        ("$1,299.00", 1299.0),
        ("from 12.99", None),
        ("9.99 - 12.99", None),
        ("1,2", None),
        ("\u2014", None),
        (None, None),
        (True, None),
        (0, None),
        (float("nan"), None),
    ],
)
def test_prices_are_numbers_or_text_of_one_number(given, price):
    assert price_of(given) == price


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        ("Soft.<br />Warm.<BR>Light.", "Soft. Warm. Light."),
        ("<p>One</p><ul><li>two</li><li>three</li></ul>", "One two three"),
        ("a <b>bo</b>ld word, <a href='x' class=\"y\">linked</a>", "a bold word, linked"),
        ("<!-- a comment --><style>p {color: red}</style>Seen<script>x < y</script>", "Seen"),
        ("<img src=x onerror='alert(1)'/>Fine", "Fine"),
        ("I <3 it, 2 < 3 > 1, size <M and up", "I <3 it, 2 < 3 > 1, size <M and up"),
        ("the <Levi's> I wanted", "the <Levi's> I wanted"),
        ("<" * 50 + "br", "<" * 50 + "br"),
        ("", ""),
    ],
)  # fmt: skip
def test_a_text_without_its_html(given, plain):
    assert plain_text(given) == plain


def test_reviews_and_products_are_read_without_html(tmp_path):
    markup = {
        "title": "Denim <b>No.</b> 5 &amp; more",
        "description": ["<p>Soft.</p><p>Warm.</p>", "<br>"],
        "features": ["Light&lt;br&gt;weight", "<br />"],
        "store": "<i>Acme</i>",
    }
    products = [product("B5", **markup), product("B10")]
    folder = write_amazon_2023(tmp_path, [], products)
    made = [review(Row("a", item, day)) for day, item in enumerate(("B5", "B10"))]
    made[0] |= {"title": "Great<br />fit", "text": "I love it.<br /><br />It&#39;s <3!"}
    write_gz(folder / REVIEWS, [json.dumps(one) for one in made])
    read = domain(folder, k_core=0, train_users=0)
    item = read.catalogue["B5"]
    assert item.title == "Denim No. 5 & more"
    assert item.description == "Soft. Warm. Features: Light weight"
    assert item.attributes["store"] == ("Acme",)
    (buyer,) = read.buyers(["a"])
    first = next(one for one in (*buyer.history, *buyer.targets) if one.item.id == "B5")
    assert (first.review_title, first.review) == ("Great fit", "I love it. It's <3!")


def test_users_with_few_targets_are_left_out_and_counted(tmp_path):
    every = [*bought("a", "B0", "B5", "B1", "B10"), *bought("b", "B0", "B2")]
    made = small(tmp_path, every, min_targets=3)
    assert list(made.case_ids("test")) == ["ua"]
    assert [item.id for item in made.case("test", "ua").hidden.targets] == ["B0", "B5", "B10"]
    assert "1 of 2 users have fewer than 3 targets and are left out" in made.remarks()


def test_splits_are_of_users_and_training_data_holds_no_test_target(tmp_path):
    folder = write_amazon_2023(tmp_path)
    made = domain(folder, train_users=0.3, validation_users=0.2)
    ids = {split: set(made.case_ids(split)) for split in ("train", "validation", "test")}
    whole = set(domain(folder, train_users=0).case_ids("test"))
    assert set.union(*ids.values()) == whole
    assert sum(map(len, ids.values())) == len(whole)
    assert 8 <= len(ids["train"]) <= 28
    data = made.training_data()
    place = made.catalogue.position
    pairs = set(
        zip(data.interactions.users.tolist(), data.interactions.items.tolist(), strict=True)
    )
    for split in ("validation", "test"):
        for case_id in ids[split]:
            case, user = made.case(split, case_id), data.interactions.user_ids.index(case_id)
            assert not any((user, place[t.id]) in pairs for t in case.hidden.targets)
            assert data.validation[user] == place[case.visible.history[-1].id]
    with pytest.raises(DataError, match="there is no case"):
        made.case("train", next(iter(ids["test"])))


def test_bad_lines_are_counted_and_too_many_refused(tmp_path):
    folder = write_amazon_2023(tmp_path)
    lines = gzip.decompress((folder / REVIEWS).read_bytes()).decode().splitlines()
    one = Row("a", "B1")
    odd = [review(one, rating=9), review(one, timestamp="x"), review(Row("", "B1"))]
    bad = ["{", "[]", *map(json.dumps, odd)]
    write_gz(folder / REVIEWS, [*bad, *lines])
    made = domain(folder)
    whole = domain(write_amazon_2023(tmp_path / "whole"))
    assert made.case_ids("test") == whole.case_ids("test")
    assert made.remarks()[0].startswith(f"5 of {len(lines) + 5} lines of {REVIEWS} are malformed")
    assert "more than max_bad_lines" in message(folder, max_bad_lines=0.001)


def test_reading_reports_how_far_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr("simulators.domains.core.files._TELL_EVERY", 100)
    heard = []
    token = WATCHER.set(lambda path, lines, share: heard.append((path.name, lines, share)))
    try:
        domain(write_amazon_2023(tmp_path)).case_ids("test")
    finally:
        WATCHER.reset(token)
    assert [lines for name, lines, _ in heard if name == REVIEWS] == list(range(100, 841, 100))
    assert all(0 < share <= 1 for _, _, share in heard)


def test_profiles_make_cases_and_groups_and_enter_the_fingerprint(tmp_path):
    folder = write_amazon_2023(tmp_path / "data")
    names = [case_id[1:] for case_id in domain(folder, train_users=0).case_ids("test")][:9]
    path = write_profiles(tmp_path / "p.jsonl", [*profiles_of(names), profile("stranger")])
    made = domain(folder, profiles=path, train_users=0)
    assert list(made.case_ids("test")) == [f"u{name}" for name in names]
    assert made.groups("test", f"u{names[1]}") == {"openness": "Neutral", "style": "Rational"}
    case = made.case("test", f"u{names[1]}")
    assert case.hidden.profile is not None
    assert case.hidden.profile.budget == BuyerBudget(10.99, 20.99)
    assert case.hidden.targets
    assert "1 profiles are of unknown users" in made.remarks()
    before = made.fingerprint()
    write_profiles(path, profiles_of(names))
    assert domain(folder, profiles=path, train_users=0).fingerprint() != before
    assert domain(folder, train_users=0).groups("test", f"u{names[0]}") == {}


def test_the_authors_profiles_alone_make_cases(tmp_path):
    folder = write_products(tmp_path / "data", [product(f"B{n}") for n in range(10)])
    path = tmp_path / "sample.json"
    path.write_text(
        json.dumps([published_profile(), published_profile(dialogue_openness="Passive")])
    )
    made = domain(folder, profiles=path)
    assert list(made.case_ids("test")) == ["u1", "u2"]
    assert list(made.case_ids("train")) == []
    case = made.case("test", "u1")
    assert (case.hidden.targets, case.visible.history) == ((), ())
    assert case.hidden.profile is not None
    assert case.hidden.profile.openness == "Neutral"  # "Less Active" of Table 11
    assert case.hidden.profile.category_path[1:] == PATHS[0][1:]
    assert len(made.catalogue) == 10
    assert "no interactions.json" in message(folder)


def test_the_authors_interactions_name_targets_and_prices(tmp_path):
    folder = write_products(tmp_path, [product(f"B{n}") for n in range(12)])
    users = {
        "x": {
            "targets": ["B0", "B5", "B99"],
            "target_price": [5.5, 44.25, 9.0],
            "history": ["B1", "B77"],
        },
        "y": {"targets": ["B98"], "target_price": [3.0], "history": ["B1"]},
    }
    (folder / "interactions.json").write_text(json.dumps(users))
    made = domain(folder, train_users=0)
    assert list(made.case_ids("test")) == ["ux"]
    case = made.case("test", "ux")
    assert [item.id for item in case.hidden.targets] == ["B0", "B5"]
    assert [item.id for item in case.visible.history] == ["B1"]
    assert made.wants("ux") == (PATHS[0], BuyerBudget(5.5, 44.25))
    assert any("3 of 6 products of interactions.json" in line for line in made.remarks())
    assert any("1 of 2 users" in line for line in made.remarks())
    users["y"]["target_price"] = []
    (folder / "interactions.json").write_text(json.dumps(users))
    assert "user y" in message(folder)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("openness", "Actve", "expected one of Active, Neutral, Passive; did you mean 'Active'?"),
        ("style", None, "expected one of Rational, Dependent, Intuitive"),
        ("budget", [30, 20], "expected the lowest and the highest price"),
        ("budget", [1, True], "expected the lowest and the highest price"),
        ("category_path", [], "expected a list of strings"),
        ("general_preference", " ", "expected a text"),
        ("purchase_reasons", [3], "expected a text"),
    ],
)
def test_a_bad_profile_is_named_with_its_line_and_field(tmp_path, field, value, words):
    folder = write_products(tmp_path / "data", [product("B1")])
    path = write_profiles(tmp_path / "p.jsonl", [profile("a"), profile("b", **{field: value})])
    found = message(folder, profiles=path)
    assert found.startswith(f"{path}:2: {field}: ")
    assert words in found


def test_bad_files_of_profiles_are_named(tmp_path):
    folder = write_products(tmp_path / "data", [product("B1")])
    path = write_profiles(tmp_path / "p.jsonl", [profile("a"), profile("a")])
    assert "the user 'a' is listed twice" in message(folder, profiles=path)
    path.write_text("[]")
    assert "found no profile" in message(folder, profiles=path)
    path.write_text('[{"user_data": {}}]')
    assert "profile 1: found no 'general_preference'" in message(folder, profiles=path)
    path.write_text("3")
    assert "expected profiles" in message(folder, profiles=path)
    path.write_text("[{")
    assert "no valid JSON" in message(folder, profiles=path)
    write_profiles(path, [profile("unknown")])
    assert "no profile of any of the" in message(
        write_amazon_2023(tmp_path / "whole"), profiles=path
    )


def test_a_category_without_files_or_with_both_layouts_is_refused(tmp_path):
    folder = write_amazon_2023(tmp_path)
    assert "no meta_Electronics.jsonl.gz" in message(folder, category="Electronics")
    (folder / "interactions.json").write_text("{}")
    assert f"holds {REVIEWS} and interactions.json" in message(folder)
    for category in (CATEGORY, "Electronics"):
        known = domain(folder, category=category).published()
        assert known is not None
        # The steps of A.2 that can be read in several ways, with the options that choose.
        assert all(word in known.remark for word in ("core_again", "fields", "min_targets"))
    assert domain(folder, category="Video_Games").published() is None
