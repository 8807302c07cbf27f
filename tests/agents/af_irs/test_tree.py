"""The preference tree: what is built, whatever the replies."""

import asyncio
import dataclasses
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.af_irs.tree import (
    LEVELS,
    OTHER,
    UNLABELLED,
    PreferenceTree,
    Tree,
    attributes_of,
)
from agents.core.calls import Completion
from agents.core.errors import ReplyInvalid, UsageError
from agents.core.items import Catalogue, Item
from simulators.domains.synthetic.items import make_items
from tests.agents.af_irs.harness import (
    FILMS,
    PROMPTS,
    RECIPE,
    TREE,
    RulesModel,
    built,
    items_of,
    node,
    tree_replies,
)
from tests.fakes import FakeModel, by_step
from tests.workers.backends.rules.test_answers import changed, leaves
from workers.backends.vllm.model.reply_length import longest_reply


def test_a_small_tree_is_the_one_that_the_replies_describe():
    paths = {TREE.path(n): items_of(TREE, n) for n in range(len(TREE.names))}
    assert paths == {
        ("Genre",): {0, 1, 2, 3, 4, 5, 6},
        ("Genre", "Loud"): {0, 1, 2, 3, 6},
        ("Genre", "Loud", "Action"): {0, 1, 2, 3},
        ("Genre", "Loud", "Action", "Heist"): {0, 1},
        ("Genre", "Loud", "Action", "Chase"): {2, 3},
        ("Genre", "Loud", "Western"): {6},
        ("Genre", "Loud", "Western", "Western"): {6},
        ("Genre", "Quiet"): {2, 3, 4, 5},
        ("Genre", "Quiet", "Drama"): {2, 3, 4, 5},
        ("Genre", "Quiet", "Drama", "Family"): {2, 3},
        ("Genre", "Quiet", "Drama", "Court"): {4, 5},
        ("Mood",): {0, 1, 2, 3, 4, 5},
        ("Mood", "Moods"): {0, 1, 2, 3, 4, 5},
        ("Mood", "Moods", "calm"): {0, 3, 4},
        ("Mood", "Moods", "calm", "calm"): {0, 3, 4},
        ("Mood", "Moods", "tense"): {1, 2, 5},
        ("Mood", "Moods", "tense", "tense"): {1, 2, 5},
        (UNLABELLED,): {7},
        (UNLABELLED,) * 2: {7},
        (UNLABELLED,) * 3: {7},
        (UNLABELLED,) * 4: {7},
    }
    assert [TREE.names[n] for n in TREE.roots] == ["Genre", "Mood", UNLABELLED]
    none = {"asked_again": 0, "left_out": 0, "placed_twice": 0}
    assert TREE.counts == {"attributes": none, "items": none}


def test_progress_counts_every_call_and_small_attributes_cost_none():
    seen = []
    model = FakeModel(tree_replies)
    built(RECIPE, FILMS, model, lambda done, most: seen.append((done, most)))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert sorted(call.step.name for call in model.calls) == ["categorise"] + ["subcategorise"] * 2
    assert {call.role for call in model.calls} == {"agent.tree"}


def test_the_longest_reply_follows_the_size_of_a_batch():
    def longest(recipe):
        return [longest_reply(step.schema) for step in recipe.widest_steps()]

    assert longest(RECIPE) == [8_562, 4_092]  # 67,962 and 43,692 whatever the batch was
    assert longest(dataclasses.replace(RECIPE, batch_attributes=10, batch_items=5)) == [1_962, 482]


def schema_bounds(call):
    """Most groups, most numbers in one, and the highest number."""
    groups = call.step.schema["properties"]["groups"]
    (group,) = call.step.schema["$defs"].values()
    numbers = group["properties"]["numbers"]
    return groups["maxItems"], numbers["maxItems"], numbers["items"]["maximum"]


def test_batches_follow_one_another_and_show_the_names_so_far():
    recipe = PreferenceTree(
        batch_attributes=3, batch_items=3, smallest=4, attributes=("genre",), most_values=500
    )
    items = [Item(str(n), f"Film {n}", {"genre": ("Action",)}) for n in range(5)]
    model = FakeModel(
        by_step(
            categorise={"groups": [{"category": "G", "subcategory": "S", "numbers": [1]}]},
            subcategorise=[
                {"groups": [{"name": "New  Wave", "numbers": [1, 2]}]},
                {"groups": [{"name": "new wave!", "numbers": [1]}]},
                {"groups": [{"name": "Late", "numbers": [2]}]},
            ],
        )
    )
    tree = recipe.load(
        built(recipe, Catalogue(items, noun="film"), model), Catalogue(items, noun="")
    )
    first, second, again = (call for call in model.calls if call.step.name == "subcategorise")
    assert [item.id for item in first.fields["items"]] == ["0", "1", "2"]
    assert [item.id for item in second.fields["items"]] == ["3", "4"]
    assert second.fields["known"] == [("New Wave",)]
    assert "1. Film 3" in second.messages[0].content
    assert "- New Wave" in second.messages[0].content
    assert [schema_bounds(call) for call in (first, second)] == [(3, 3, 3), (2, 2, 2)]
    # What the two left out is asked for once more, then goes to "Other".
    assert [item.id for item in again.fields["items"]] == ["2", "4"]
    assert [call.draw for call in (first, second, again)] == [0, 1, 2]
    below = {tree.names[n]: items_of(tree, n) for n in tree.children[2]}
    assert below == {"New Wave": {0, 1, 3}, "Late": {4}, OTHER: {2}}
    assert tree.counts["items"] == {
        "asked_again": 2,
        "left_out": 1,
        "placed_twice": 0,
    }


def test_what_replies_get_wrong_is_repaired_the_same_way_and_counted():
    first = [
        {"category": "A", "subcategory": "!!", "numbers": [1, 1, 2]},
        {"category": "a ", "subcategory": "other", "numbers": [2, 3]},
        {"category": "Empty", "subcategory": "Empty", "numbers": []},
    ]
    again = [{"category": "Empty", "subcategory": "Empty", "numbers": []}]
    rest = [{"groups": first}, {"groups": again}]
    model = FakeModel(
        lambda call: rest.pop(0) if call.step.name == "categorise" else tree_replies(call)
    )
    tree = RECIPE.load(built(RECIPE, FILMS, model), FILMS)
    assert tree.counts["attributes"] == {
        "asked_again": 2,
        "left_out": 2,
        "placed_twice": 2,
    }
    assert [tree.names[n] for n in tree.roots] == ["A", OTHER, UNLABELLED]
    assert [tree.names[n] for n in tree.children[tree.roots[0]]] == [OTHER]
    below = tree.children[node("A", OTHER, tree=tree)]
    assert [tree.names[n] for n in below] == ["Action", "Drama", "Western"]
    assert [tree.names[n] for n in tree.children[node(OTHER, OTHER, tree=tree)]] == [
        "calm",
        "tense",
    ]


def test_a_value_of_two_attributes_is_named_with_its_attribute():
    items = [Item("1", "One", {"genre": ("War", " "), "theme": ("war", "Sea")})]
    labels = [a.label for a in attributes_of(Catalogue(items, noun="film"), ("genre", "theme"))]
    assert labels == ["War (genre)", "war (theme)", "Sea"]


def test_names_of_many_values_make_no_attributes_unless_they_are_asked_for():
    moods = [Item(str(n), f"Film {n}", {"genre": ("Drama",), "mood": (f"m{n}",)}) for n in range(9)]
    catalogue = Catalogue(moods, noun="film")
    model = RulesModel(catalogue)
    few = built(PreferenceTree(40, 40, 5, None, 8), catalogue, model)
    assert "m1" not in few.data["names"]
    named = built(PreferenceTree(40, 40, 5, ("mood",), 8), catalogue, model)
    assert "m1" in named.data["names"]
    with pytest.raises(UsageError, match="more than 0 values"):
        built(PreferenceTree(40, 40, 5, None, 0), catalogue, model)


def test_attributes_can_be_chosen_by_name_and_wrong_names_are_refused():
    assert [a.fact.value for a in attributes_of(FILMS, ("mood",))] == ["calm", "tense"]
    with pytest.raises(UsageError, match=r"no item has an attribute 'gnre'; did you mean 'genre'"):
        attributes_of(FILMS, ("gnre",))


def test_a_name_of_ten_thousand_characters_is_refused():
    long = {"groups": [{"category": "x" * 10_000, "subcategory": "y", "numbers": [1]}]}
    model = FakeModel(lambda call: long)
    with pytest.raises(ReplyInvalid, match="at most 60 characters"):
        built(RECIPE, FILMS, model)
    assert len(model.calls) == 3


NAMES = st.one_of(
    st.sampled_from(["Genre", "genre ", "GENRE!", "Other", "Unlabelled", "<b>Bold</b>", "{{ x }}"]),
    st.text(min_size=1, max_size=12),
)
NUMBERS = st.lists(st.integers(1, 12), max_size=12)
CATEGORY = st.fixed_dictionaries({"category": NAMES, "subcategory": NAMES, "numbers": NUMBERS})
SUBCATEGORY = st.fixed_dictionaries({"name": NAMES, "numbers": NUMBERS})
REPLIES = st.fixed_dictionaries(
    {
        "categorise": st.lists(st.lists(CATEGORY, min_size=1, max_size=4), min_size=1, max_size=3),
        "subcategorise": st.lists(
            st.lists(SUBCATEGORY, min_size=1, max_size=4), min_size=1, max_size=5
        ),
    }
)
VALUES = st.lists(st.sampled_from(["a", "B", "c", "x y", "", "!"]), max_size=3).map(tuple)
CATALOGUES = st.lists(
    st.dictionaries(st.sampled_from(["genre", "mood"]), VALUES, max_size=2), min_size=1, max_size=14
).map(lambda all_: Catalogue([Item(str(n), f"T {n}", a) for n, a in enumerate(all_)], noun="film"))


class Slow(FakeModel):
    """Answers each call by its number, after waits drawn from `seed`."""

    def __init__(self, replies, seed):
        super().__init__(lambda call: self._groups(replies[call.step.name], call))
        self._rng = random.Random(seed)

    @staticmethod
    def _groups(given, call):
        """A drawn reply, within the bounds of the members that the prompt lists."""
        listed = len(call.fields.get("options") or call.fields["items"])
        groups = [
            {**group, "numbers": [n for n in group["numbers"] if n <= listed][:listed]}
            for group in given[call.draw % len(given)]
        ]
        return {"groups": groups[:listed]}

    async def complete(self, call) -> Completion:
        for _ in range(self._rng.randrange(6)):
            await asyncio.sleep(0)
        return await super().complete(call)


@settings(max_examples=60)
@given(CATALOGUES, REPLIES, st.integers(2, 5), st.integers(2, 5), st.integers(1, 4))
def test_a_tree_holds_whatever_the_replies_are(catalogue, replies, batch, batch_items, smallest):
    recipe = PreferenceTree(batch, batch_items, smallest, None, 500)
    content = built(recipe, catalogue, Slow(replies, 1))
    assert content.digest() == built(recipe, catalogue, Slow(replies, 2)).digest()
    tree = recipe.load(content, catalogue)
    assert_sound(tree, catalogue)


def assert_sound(tree: Tree, catalogue: Catalogue) -> None:
    nodes = range(len(tree.names))
    # Levels as in 4.1.1, and nothing hangs loose.
    for n in nodes:
        parent = tree.parents[n]
        assert tree.levels[n] == (1 if parent < 0 else tree.levels[parent] + 1)
        assert bool(tree.children[n]) == (tree.levels[n] < LEVELS)
        below = tree.children[n]
        if below:
            assert items_of(tree, n) == set().union(*(items_of(tree, child) for child in below))
        assert items_of(tree, n), "an empty node"
    siblings = [tree.roots, *(c for n, c in enumerate(tree.children) if tree.levels[n] == 1)]
    for group in siblings:
        names = [tree.names[n].casefold().strip("! ") for n in group]
        assert len(names) == len(set(names))
    # Level 3 holds every attribute once; under it, every item that has it, once.
    attributes = attributes_of(catalogue, catalogue.attributes)
    labelled = set().union(*(a.items for a in attributes)) if attributes else set()
    bare = set(range(len(catalogue))) - labelled
    wanted = [(a.label, frozenset(a.items)) for a in attributes]
    wanted += [(UNLABELLED, frozenset(bare))] if bare else []
    third = [n for n in nodes if tree.levels[n] == 3]
    assert sorted((tree.names[n], sorted(items_of(tree, n))) for n in third) == sorted(
        (name, sorted(items)) for name, items in wanted
    )
    for n in third:
        leaves = [items_of(tree, child) for child in tree.children[n]]
        assert sum(map(len, leaves)) == len(items_of(tree, n))
    # No orphan.
    assert set().union(*(items_of(tree, n) for n in tree.roots)) == set(range(len(catalogue)))


def test_rules_build_a_sound_tree_of_a_larger_catalogue():
    catalogue = Catalogue(make_items(0, 300), noun="game")
    recipe = PreferenceTree(40, 40, 5, None, 500)
    tree = recipe.load(built(recipe, catalogue, RulesModel(catalogue)), catalogue)
    assert_sound(tree, catalogue)
    assert {"genre", "mood", "maker"} <= {tree.names[n] for n in tree.roots}
    assert tree.mask(0).dtype == np.bool_


def test_rules_group_by_nothing_that_the_prompts_do_not_show():
    catalogue = Catalogue(make_items(0, 60), noun="game")
    rules = RulesModel(catalogue)
    asked = {}

    class Watched(RulesModel):
        async def complete(self, call):
            asked.setdefault(call.step.name, call)
            return await super().complete(call)

    built(PreferenceTree(12, 12, 5, None, 500), catalogue, Watched(catalogue))
    assert set(asked) == {"categorise", "subcategorise"}
    unseen = 0
    for call in asked.values():

        def answer(fields, call=call):
            given = {**fields, "reply_form": call.step.form}
            prompt, shown = PROMPTS.render_shown(call.step.name, given)
            messages = (call.messages[0]._replace(content=prompt),)
            again = dataclasses.replace(call, fields=fields, shown=shown, messages=messages)
            return prompt, asyncio.run(rules.complete(again)).text

        fields = {k: tuple(v) if isinstance(v, list) else v for k, v in call.fields.items()}
        prompt, reply = answer(fields)
        for path in leaves(fields):
            other_prompt, other_reply = answer(changed(fields, path))
            if other_prompt == prompt:
                unseen += 1
                assert other_reply == reply, path
    assert unseen > 50
