"""Eq. 3 to 5, against sets and sums written out."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.af_irs.filtering import distribution, preferences_of, session_filter
from agents.af_irs.tree import PreferenceTree
from agents.core.artifacts import Content
from agents.core.items import Catalogue, Item, facts_of
from agents.recommenders.core import best
from tests.agents.af_irs.harness import FILMS, TREE, built, items_of, node
from tests.agents.af_irs.lined_up import LinedUp
from tests.fakes import FakeModel

SIZE = 9
SETS = st.sets(st.integers(0, SIZE - 1))


def mask(items) -> np.ndarray:
    found = np.zeros(SIZE, bool)
    found[list(items)] = True
    return found


def chosen(found: np.ndarray) -> set[int]:
    return set(np.flatnonzero(found).tolist())


@given(st.lists(SETS, max_size=5), SETS)
def test_eq_3_is_the_intersection_and_what_follows_when_it_is_empty(sets, allowed):
    masks = [mask(s) for s in sets]
    whole = allowed.intersection(*sets)
    pools = {
        how: session_filter(masks, mask(allowed), how)
        for how in ("drop_least_relevant", "union", "nothing")
    }
    if whole or not sets:
        assert all((chosen(p.mask), p.kept) == (whole, len(sets)) for p in pools.values())
        return
    assert chosen(pools["nothing"].mask) == set()
    assert chosen(pools["union"].mask) == set().union(*sets) & allowed
    dropped = pools["drop_least_relevant"]
    assert chosen(dropped.mask) == allowed.intersection(*sets[: dropped.kept])
    assert chosen(dropped.mask) or dropped.kept == 0
    assert not allowed.intersection(*sets[: dropped.kept + 1])  # none more could have been kept


def test_filtering_changes_none_of_the_masks_it_is_given():
    sets, allowed = [mask({1, 2}), mask({2, 3}), mask({5})], mask({1, 2, 3})
    session_filter(sets, allowed, "drop_least_relevant")
    assert [chosen(s) for s in (*sets, allowed)] == [{1, 2}, {2, 3}, {5}, {1, 2, 3}]


@given(st.lists(st.sampled_from(range(len(TREE.names))), unique=True, max_size=5), st.booleans())
def test_preferences_are_the_nodes_sets_and_uniting_never_loses_an_item(nodes, unite):
    nodes = [n for n in nodes if not any(n != m and n in TREE.line(m) for m in nodes)]
    found = preferences_of(TREE, nodes, unite=unite)
    sets = [items_of(TREE, node) for node in nodes]
    assert [p.rank for p in found] == sorted(p.rank for p in found)
    if not unite:
        assert [chosen(p.items) for p in found] == sets
        return
    both = set.intersection(*sets) if sets else set()
    assert all(both <= chosen(p.items) <= set().union(*sets) for p in found)
    assert sum(p.words.count(">") for p in found) == sum(len(TREE.path(n)) - 1 for n in nodes)


def united(*paths, tree=TREE):
    nodes = [node(*path, tree=tree) for path in paths]
    return [(p.words, chosen(p.items)) for p in preferences_of(tree, nodes, unite=True)]


def test_subcategories_of_one_attribute_are_alternatives_and_attributes_that_meet_are_not():
    heist, chase = ("Genre", "Loud", "Action", "Heist"), ("Genre", "Loud", "Action", "Chase")
    assert united(heist, chase) == [
        ("Genre > Loud > Action > Heist | Genre > Loud > Action > Chase", {0, 1, 2, 3})
    ]
    drama = ("Genre", "Quiet", "Drama", "Family")
    assert [items for _, items in united(chase, drama)] == [{2, 3}, {2, 3}]


@pytest.mark.parametrize("smallest", [2, 9])
def test_years_are_alternatives_divided_or_not(smallest):
    years = [("1994",)] * 3 + [("1995",)] * 3
    films = Catalogue(
        [Item(str(n), f"F{n}", {"year": y}) for n, y in enumerate(years)], noun="film"
    )
    recipe = PreferenceTree(40, 40, smallest, None, 500)

    def reply(call):
        if call.step.name == "categorise":
            return {"groups": [{"category": "Time", "subcategory": "1990s", "numbers": [1, 2]}]}
        return {"groups": [{"name": "Calm", "numbers": [1, 2]}, {"name": "Tense", "numbers": [3]}]}

    tree = recipe.load(built(recipe, films, FakeModel(reply)), films)
    whole = [("Time", "1990s", "1994"), ("Time", "1990s", "1995")]
    assert [items for _, items in united(*whole, tree=tree)] == [set(range(6))]
    if smallest == 2:
        calm = [(*path, "Calm") for path in whole]
        assert [items for _, items in united(*calm, tree=tree)] == [{0, 1, 3, 4}]


NUMBER = st.floats(-3, 3, width=16)
VECTORS = st.lists(st.tuples(NUMBER, NUMBER), min_size=SIZE, max_size=SIZE)


class Fixed(LinedUp):
    def __init__(self, content, user):
        super().__init__(content)
        self._user = np.array(user, np.float32)

    def user_embedding(self, history):
        return self._user


@settings(max_examples=60)
@given(VECTORS, st.tuples(NUMBER, NUMBER), SETS, st.integers(1, SIZE + 3))
def test_eq_4_and_5_are_the_nearest_of_the_pool_by_cosine(vectors, user, pool, k):
    recommender = Fixed(Content(arrays={"vectors": np.array(vectors, np.float32)}), user)
    similar = recommender.similarities(())
    for (x, y), found in zip(vectors, similar, strict=True):
        lengths = math.hypot(x, y) * math.hypot(*user)
        wanted = (x * user[0] + y * user[1]) / lengths if lengths else 0
        assert found == pytest.approx(wanted, abs=1e-4)
    ranked = best(similar, k, among=mask(pool)).tolist()
    assert len(ranked) == min(k, len(pool))
    assert set(ranked) <= pool
    assert all(similar[a] >= similar[b] for a, b in pairwise(ranked))
    outside = pool - set(ranked)
    assert not outside or not ranked or similar[list(outside)].max() <= similar[ranked].min()


def test_the_distribution_names_what_splits_the_candidates_best_first():
    shares = distribution(FILMS.items, 20)
    assert [(s.attribute, s.value, s.number) for s in shares] == [
        ("genre", "Action", 4),
        ("genre", "Drama", 4),
        ("mood", "calm", 3),
        ("mood", "tense", 3),
        ("genre", "Western", 1),
    ]
    assert distribution(FILMS.items, 2) == shares[:2]
    assert [s.value for s in distribution(FILMS.items[:3], 20)] == ["calm", "tense", "Drama"]
    assert distribution((), 20) == []


VALUES = st.lists(st.sampled_from("abc"), max_size=3).map(tuple)
ATTRIBUTES = st.dictionaries(st.sampled_from("gm"), VALUES, max_size=2)
CANDIDATES = st.lists(ATTRIBUTES.map(lambda attributes: Item("", "", attributes)))


@given(CANDIDATES, st.integers(0, 6))
def test_a_share_is_neither_none_nor_all_and_never_counts_an_item_twice(items, most):
    shares = distribution(items, most)
    assert len(shares) <= most
    for share in shares:
        have = [i for i in items if (share.attribute, share.value) in map(_pair, facts_of(i))]
        assert share.number == len(have)
        assert 0 < share.number < len(items)
    telling = [min(s.number, len(items) - s.number) for s in shares]
    assert telling == sorted(telling, reverse=True)


def _pair(fact):
    return fact.attribute, fact.value
