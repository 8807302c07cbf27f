"""Eq. 1 and 2 on a small tree: which nodes become preferences, in which order, by which calls."""

import asyncio

import pytest

from agents.af_irs.extraction import Extraction
from agents.af_irs.tree import PreferenceTree
from agents.core.dialogue import Message
from agents.core.items import Catalogue, Item
from tests.agents.af_irs.harness import PROMPTS, TREE, built, node, tree_replies
from tests.fakes import FakeModel, make_ask, scripted

WORDS = [Message("user", "Something with Action and calm")]


def extracted(reply, *, tree=TREE, batch=100):
    """What was extracted, and what each call's prompt offered."""
    model = FakeModel(reply)
    ask = make_ask(model, PROMPTS)
    found = asyncio.run(Extraction(tree, WORDS, "film", batch, ask).run())
    return found, [call.fields["options"] for call in model.calls]


def naming(*names):
    """Selects by name, in this order."""

    def reply(call):
        options = call.fields["options"]
        chosen = [options.index(name) + 1 for name in names if name in options]
        return {"numbers": chosen}

    return reply


def test_the_words_are_followed_level_by_level_to_the_finest_nodes():
    found, offered = extracted(naming("Genre", "Loud", "Action", "Chase"))
    assert found == (node("Genre", "Loud", "Action", "Chase"),)
    assert offered == [
        ["Genre", "Mood"],
        ["Loud", "Quiet"],
        ["Action", "Western"],
        ["Heist", "Chase"],
    ]


def test_a_prompt_groups_options_by_what_they_are_under():
    model = FakeModel(naming("Genre", "Loud", "Quiet", "Action", "Heist", "Family"))
    asyncio.run(Extraction(TREE, WORDS, "film", 100, make_ask(model, PROMPTS)).run())
    # Quiet has one child, Drama, which is followed without asking.
    assert "Under Genre > Loud:\n1. Action\n2. Western\nUnder Genre > Quiet > Drama:\n3. F" in (
        model.calls[-2].messages[0].content
    )
    assert "Under" not in model.calls[0].messages[0].content


@pytest.mark.parametrize(
    ("names", "paths"),
    [
        ((), []),
        (("Genre",), [("Genre",)]),
        (("Genre", "Loud"), [("Genre", "Loud")]),
        (("Genre", "Loud", "Action"), [("Genre", "Loud", "Action")]),
        (
            ("Court", "Family", "Genre", "Quiet", "Loud"),
            [
                ("Genre", "Quiet", "Drama", "Court"),
                ("Genre", "Quiet", "Drama", "Family"),
                ("Genre", "Loud"),
            ],
        ),
        # A node with one child is followed, Mood to what is in Moods, and makes nothing finer.
        (("Mood", "calm"), [("Mood", "Moods", "calm")]),
        (("Mood",), [("Mood",)]),
        (
            ("Mood", "Genre", "calm", "Loud", "Action", "Chase"),
            [("Genre", "Loud", "Action", "Chase"), ("Mood", "Moods", "calm")],
        ),
        # Of one level: in the order of the model, not in that of the tree or of the descent.
        (
            ("Mood", "Genre", "Quiet", "calm", "Loud", "Western"),
            [("Mood", "Moods", "calm"), ("Genre", "Loud", "Western"), ("Genre", "Quiet")],
        ),
    ],
)
def test_where_nothing_finer_is_selected_the_node_itself_is_the_preference(names, paths):
    found, _ = extracted(naming(*names))
    assert [TREE.path(n) for n in found] == paths


def test_nothing_selected_ends_after_one_call():
    assert extracted(lambda call: {"numbers": []}) == ((), [["Genre", "Mood"]])


def test_a_number_of_no_option_is_asked_for_again_and_repeated_ones_are_one():
    replies = [{"numbers": [1, 3]}, {"numbers": [1, 1]}, {"numbers": []}]
    found, offered = extracted(scripted(*replies))
    assert [TREE.path(n) for n in found] == [("Genre",)]
    assert offered[:2] == [["Genre", "Mood"]] * 2
    assert len(offered) == 3


def test_many_options_go_in_batches_that_are_merged_by_rank():
    items = [Item(str(n), f"F{n}", {"g": (f"v{n}",)}) for n in range(5)]
    catalogue = Catalogue(items, noun="film")
    recipe = PreferenceTree(40, 40, 5, None, 500)
    groups = [{"category": f"c{n}", "subcategory": "s", "numbers": [n]} for n in range(1, 6)]
    tree = recipe.load(built(recipe, catalogue, FakeModel(lambda _: {"groups": groups})), catalogue)
    last_first = lambda call: {"numbers": [2, 1][-len(call.fields["options"]) :]}  # noqa: E731
    found, offered = extracted(last_first, tree=tree, batch=2)
    assert offered == [["c1", "c2"], ["c3", "c4"], ["c5"]]
    assert [tree.path(n)[0] for n in found] == ["c2", "c4", "c5", "c1", "c3"]


def test_a_tree_without_a_choice_gives_no_preference_and_costs_no_call():
    catalogue = Catalogue([Item("1", "One"), Item("2", "Two")], noun="film")
    recipe = PreferenceTree(40, 40, 5, None, 500)
    tree = recipe.load(built(recipe, catalogue, FakeModel(tree_replies)), catalogue)
    assert extracted(lambda call: {"numbers": [1]}, tree=tree) == ((), [])


def left_over_tree():
    """c > other > (a, b), where a is of x and Other, and b of Other alone; c > s > d."""
    genres = [("a",)] * 4 + [("b",)] * 2 + [("d",)]
    items = [Item(str(n), f"F{n}", {"g": values}) for n, values in enumerate(genres)]
    recipe = PreferenceTree(40, 40, 2, None, 500)

    def reply(call):
        if call.step.name == "categorise":
            sub = {1: "other", 2: "other", 3: "s"}
            return {
                "groups": [
                    {"category": "c", "subcategory": name, "numbers": [number]}
                    for number, name in sub.items()
                ]
            }
        if call.fields["attribute"].value == "b":
            return {"groups": [{"name": "Other", "numbers": [1, 2]}]}
        return {"groups": [{"name": "x", "numbers": [1, 2]}, {"name": "OTHER", "numbers": [3, 4]}]}

    catalogue = Catalogue(items, noun="film")
    return recipe.load(built(recipe, catalogue, FakeModel(reply)), catalogue)


@pytest.mark.parametrize(
    ("names", "paths", "asked"),
    [
        ((), [], [["a", "b", "s"]]),
        # x is not all of a, so it is asked for; b has nothing but what is left over.
        (("a", "b"), [("c", "other", "a"), ("c", "other", "b")], [["a", "b", "s"], ["x"]]),
        (("a", "x"), [("c", "other", "a", "x")], [["a", "b", "s"], ["x"]]),
        (("s",), [("c", "s")], [["a", "b", "s"]]),
    ],
)
def test_what_is_left_over_is_no_option_and_hides_nothing(names, paths, asked):
    tree = left_over_tree()
    found, offered = extracted(naming(*names), tree=tree)
    assert [tree.path(n) for n in found] == paths
    assert offered == asked
