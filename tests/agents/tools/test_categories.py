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
