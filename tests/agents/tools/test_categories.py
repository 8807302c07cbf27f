"""The tree of categories: what names resolve to, and which items are where."""

import pytest

from agents.core.items import Catalogue, Item
from agents.tools.categories import CategoryTree, Subcategory, path_of

PATHS = [("Root", "Women's", "Shoes"), ("Root", "Women's", "Shoes"), ("Root", "Women's"),
         ("Root", "Men", "Shoes"), ("Root", "Men", "Hats & Caps", "Caps")]  # fmt: skip
CATALOGUE = Catalogue(
    [Item(str(n), f"T{n}", {"category": path}) for n, path in enumerate(PATHS)], noun="thing"
)
TREE = CategoryTree.of(CATALOGUE)


@pytest.mark.parametrize(
    ("names", "path"),
    [
        (["Root", "Men", "Shoes"], ("Root", "Men", "Shoes")),
        (["root", "WOMENS"], ("Root", "Women's")),
        (["Men", "hats and caps"], ("Root", "Men")),  # never guessed
        (["Men", "Hats Caps", "caps"], ("Root", "Men", "Hats & Caps", "Caps")),
        (["Shoes"], ()),
        ([], ()),
        ([""], ()),
        (["Root", "Men", "Shoes", "More"], ("Root", "Men", "Shoes")),
    ],
)
def test_names_resolve_to_the_longest_path_that_they_spell(names, path):
    assert TREE.resolve(names) == path


def test_a_root_is_left_out_only_where_there_is_one():
    items = [Item(root, root, {"category": (root, "X")}) for root in "AB"]
    two = Catalogue(items, noun="thing")
    assert CategoryTree(two).resolve(["X"]) == ()
    assert CategoryTree(two).resolve(["b", "x"]) == ("B", "X")


def test_subcategories_are_counted_the_largest_first():
    assert TREE.subcategories(("Root",)) == (Subcategory("Women's", 3), Subcategory("Men", 2))
    assert TREE.subcategories(()) == (Subcategory("Root", 5),)
    assert TREE.subcategories(("Root", "Men", "Shoes")) == ()
    assert TREE.subcategories(("no", "such")) == ()


def test_names_may_leave_out_levels_without_a_choice():
    items = [Item(leaf, leaf, {"category": ("A", "B", "C", leaf)}) for leaf in "XY"]
    tree = CategoryTree(Catalogue(items, noun="thing"))
    for names in (["A", "B", "C", "X"], ["x"], ["a", "x"], ["b", "X"], ["C", "X"]):
        assert tree.resolve(names) == ("A", "B", "C", "X")
    assert tree.resolve(["A", "Z"]) == ("A",)
    assert tree.settled(("A",)) == ("A", "B", "C")


def test_levels_without_a_choice_are_settled():
    assert TREE.settled(()) == ("Root",)
    assert TREE.settled(("Root", "Men")) == ("Root", "Men")
    assert TREE.settled(("Root", "Men", "Hats & Caps")) == ("Root", "Men", "Hats & Caps", "Caps")
    # An item is in Women's itself: whether it is shoes is a choice.
    assert TREE.settled(("Root", "Women's")) == ("Root", "Women's")
    assert TREE.settled(("no", "such")) == ("no", "such")
    loose = Catalogue([*CATALOGUE.items, Item("9", "Without a category")], noun="thing")
    assert CategoryTree(loose).settled(()) == ("Root",)
    assert CategoryTree(Catalogue([Item("9", "Without")], noun="thing")).settled(()) == ()


@pytest.mark.parametrize(
    ("words", "known", "path"),
    [
        ("", (), ("Root",)),
        ("I need Root > Men products", (), ("Root", "Men")),
        ("Women\u2019s shoes, please", (), ("Root", "Women's", "Shoes")),
        ("shoes for women", (), ("Root", "Women's", "Shoes")),
        ("hats and caps for MEN", (), ("Root", "Men", "Hats & Caps", "Caps")),
        ("a mention of shoes", (), ("Root",)),  # no part of a word, and no level is skipped
        ("for women or men", (), ("Root",)),  # never guessed
        ("for women or men", ("Root", "Men"), ("Root", "Men")),
        ("shoes", ("Root", "Men"), ("Root", "Men", "Shoes")),
        ("yes", ("Root", "Men", "Shoes"), ("Root", "Men", "Shoes")),
        ("women", ("Root", "Men", "Shoes"), ("Root", "Women's")),
        ("Men's", ("Root", "Men", "Shoes"), ("Root", "Men", "Shoes")),
    ],
)
def test_what_a_user_says_names_a_path(words, known, path):
    assert TREE.named(words, known) == path


def test_a_word_of_a_name_counts_once_and_for_the_longest_name():
    root = "Clothing, Shoes & Jewelry"
    paths = [(root, "Women", "Clothing"), (root, "Women", "Shoes"),
             (root, "Women", "Shoes Care"), (root, "Men", "Clothing")]  # fmt: skip
    items = [Item(str(n), f"T{n}", {"category": path}) for n, path in enumerate(paths)]
    tree = CategoryTree(Catalogue(items, noun="thing"))
    assert tree.named(f"I need {root}, Women products") == (root, "Women")
    assert tree.named(f"I need {root} > Women > Shoes") == (root, "Women", "Shoes")
    assert tree.named("shoes care for women") == (root, "Women", "Shoes Care")
    assert tree.named("clothing") == (root,)
    assert tree.named("clothing", (root, "Men")) == (root, "Men", "Clothing")


def test_items_of_the_narrowest_part_that_has_any():
    assert TREE.within(("Root", "Women's")).tolist() == [True, True, True, False, False]
    assert TREE.within(()).all()
    among = TREE.within(("Root", "Men"))
    assert TREE.narrowest(("Root", "Women's", "Shoes"), among).tolist() == among.tolist()
    assert TREE.narrowest(("Root", "Men", "Shoes"), among).tolist() == [
        False,
        False,
        False,
        True,
        False,
    ]
    assert TREE.narrowest((), among).tolist() == among.tolist()


def test_one_tree_a_catalogue_and_paths_without_categories():
    assert CategoryTree.of(CATALOGUE) is TREE
    assert path_of(Item("1", "a", {"genre": ("Drama", "War")})) == ("Drama",)
    assert path_of(Item("1", "a")) == ()
