"""CSI against pandas and sums written out: what it suggests, persuades of, explores and recalls."""

from __future__ import annotations

import asyncio
import base64
import math
import re
from collections import Counter
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.core.agent import AgentContext
from agents.core.dialogue import Message
from agents.core.items import Catalogue, Item, VisibleCase
from agents.core.memory import MEMORY, LearnedTurn
from agents.csi import CSI
from agents.csi.memory import KEY, Recall, SalesMemory
from agents.csi.steps import Profile
from agents.tools.categories import CategoryTree
from agents.tools.retrieval import ITEM_VECTORS
from tests.agents.csi.harness import OPENING, answered, ids, plan, replies
from tests.agents.playing import prompts_of
from tests.fakes import FakeModel, by_step, make_ask

PATHS = (("Shop", "Women", "Jeans"), ("Shop", "Women", "Tops"), ("Shop", "Men"), ("Shop",))
PRICES = st.one_of(st.none(), st.integers(1, 40).map(float))
WORDS = st.lists(st.sampled_from(["blue", "denim", "soft", "raw", "slide"]), min_size=1, max_size=4)
GOODS = st.lists(st.tuples(st.sampled_from(PATHS), PRICES, WORDS), min_size=3, max_size=12)


def shop(goods) -> tuple[Catalogue, pd.DataFrame]:
    """The catalogue, and the same as a frame; titles differ, so that texts do."""
    items = tuple(
        Item(f"B{n}", f"Number{n}", {"category": path}, " ".join(words), price)
        for n, (path, price, words) in enumerate(goods)
    )
    rows = [
        {"id": item.id, "path": path, "price": price,
         "words": [item.title.lower(), *" ".join(path).lower().split(), *words]}
        for item, (path, price, words) in zip(items, goods, strict=True)
    ]  # fmt: skip
    return Catalogue(items, noun="product"), pd.DataFrame(rows)


def bm25(frame: pd.DataFrame, query: list[str]) -> pd.Series:
    """Lucene's BM25 (k1 1.5, b 0.75) of every row, for distinct words of the query."""
    counts = frame.words.map(Counter)
    lengths = frame.words.map(len)
    total = pd.Series(0.0, index=frame.index)
    for word in query:
        found = counts.map(lambda count, word=word: count[word])
        holding = int((found > 0).sum())
        if holding:
            idf = math.log(1 + (len(frame) - holding + 0.5) / (holding + 0.5))
            norm = 1.5 * (0.25 + 0.75 * lengths / lengths.mean())
            total += idf * found / (found + norm)
    return total


def narrowest(frame: pd.DataFrame, path: tuple[str, ...], allowed: pd.Series) -> pd.Series:
    """Rows of `allowed` in the longest beginning of `path` that has any."""
    for depth in range(len(path), 0, -1):
        inside = allowed & frame.path.map(lambda own, depth=depth: own[:depth] == path[:depth])
        if inside.any():
            return inside
    return allowed


def agent_of(catalogue: Catalogue, *, shown: int = 3, **artifacts: Any) -> CSI:
    options: Any = CSI.Options(**artifacts.pop("options", {}))
    return CSI(options, AgentContext(catalogue, VisibleCase("u1", ()), shown, artifacts))


@settings(max_examples=40, deadline=None)
@given(GOODS, st.integers(1, 40), st.sampled_from(PATHS), st.sets(st.integers(0, 2)))
def test_a_suggestion_has_the_best_unseen_items_in_budget_of_the_narrowest_category(
    goods, budget, path, seen
):
    catalogue, frame = shop(goods)
    before = [m for n in sorted(seen) for m in offered_of(catalogue, n)]
    given_ = replies(
        "item_suggestion", price_range=[0, budget], category_path=list(path),
        preference="blue denim",
    )  # fmt: skip
    turn, _ = answered(agent_of(catalogue), given_, OPENING, *before)
    within = frame.price.notna() & (frame.price <= budget)  # an unknown price may be above it
    allowed = within & ~frame.index.isin(list(seen))
    if not allowed.any():
        assert turn.shown == ()
        return
    # The tree has only paths that items are in.
    known = {own[:depth] for own in frame.path for depth in range(len(own) + 1)}
    spelt = max((path[:d] for d in range(len(path) + 1) if path[:d] in known), key=len)
    scores = bm25(frame, ["blue", "denim", *(name.lower() for name in spelt)])
    chosen = narrowest(frame, spelt, allowed)
    best = scores[chosen].round(4).sort_values(ascending=False, kind="stable").head(3)
    assert frame.id[chosen].isin(ids(turn.shown)).sum() == len(turn.shown) == len(best)
    assert [
        round(float(scores[catalogue.position[i]]), 4) for i in ids(turn.shown)
    ] == best.tolist()


def offered_of(catalogue: Catalogue, number: int) -> tuple[Message, Message]:
    """That an item was shown, and the user's answer."""
    shown = (catalogue.items[number],)
    return Message("recommender", "How about this?", shown), Message("user", "Tell me more.")


@settings(max_examples=40, deadline=None)
@given(GOODS, st.integers(1, 40))
def test_persuasion_is_of_the_most_similar_dearer_item_of_the_narrowest_category(goods, budget):
    catalogue, frame = shop([(PATHS[0], 1.0, ["blue"]), *goods])
    agent = agent_of(catalogue, shown=1)
    given_ = replies("item_suggestion", price_range=[0, budget], category_path=list(PATHS[0]))
    first, _ = answered(agent, given_)
    selected = catalogue.position[first.shown[0].id]
    given_ = replies("persuasion", price_range=[0, budget])
    turn, _ = answered(agent, given_, OPENING, *offered_of(catalogue, selected))
    dearer = frame.price.notna() & (frame.price > budget)
    if not dearer.any():
        assert turn.extra["candidate"] == frame.id[selected]
        assert turn.extra["fallback"] == ["none_dearer"]
        return
    words = frame.words[selected]
    scores = bm25(frame, list(dict.fromkeys(words)))
    # A word that the item has twice counts twice in the query.
    repeated = [word for word, count in Counter(words).items() if count > 1]
    if repeated:
        scores += bm25(frame, [w for w in repeated for _ in range(Counter(words)[w] - 1)])
    chosen = narrowest(frame, frame.path[selected], dearer)
    assert chosen[catalogue.position[turn.extra["candidate"]]]
    found = scores[catalogue.position[turn.extra["candidate"]]]
    assert found == pytest.approx(scores[chosen].max(), abs=1e-4)
    assert turn.extra["candidate_over_budget"]


@given(GOODS)
def test_the_category_explorer_counts_what_a_group_by_counts(goods):
    catalogue, frame = shop(goods)
    tree = CategoryTree.of(catalogue)
    for depth in range(3):
        deep = frame[frame.path.map(len) > depth]
        sizes = deep.groupby(
            [deep.path.map(lambda p, d=depth: p[:d]), deep.path.map(lambda p, d=depth: p[d])]
        ).size()
        for path in {own[:depth] for own in frame.path if len(own) >= depth}:
            expected = {name: n for (above, name), n in sizes.items() if above == path}
            found = tree.subcategories(path)
            assert {each.name: each.items for each in found} == expected
            assert [each.items for each in found] == sorted(expected.values(), reverse=True)
            assert tree.resolve(name.upper() for name in path) == path


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.lists(st.integers(-3, 3), min_size=2, max_size=2), min_size=1, max_size=8),
    st.integers(1, 4),
)
def test_dense_memory_recalls_the_k_of_least_squared_distance(vectors, k):
    """The keys are embeddings as they were recorded; the fake embeds a text as (length, 1)."""
    catalogue, _ = shop(
        [(PATHS[0], 1.0, ["blue"]), (PATHS[0], 30.0, ["blue"]), (PATHS[2], 2.0, ["raw"])]
    )
    keys = np.array(vectors, np.float32)
    entries = [
        {"profile": "x", "vector": base64.b64encode(key.tobytes()).decode(), "strategy": "framing",
         "utterance": f"utterance {n}"}
        for n, key in enumerate(keys)
    ]  # fmt: skip
    made = np.eye(3, 2, dtype=np.float32)
    options = {"retriever": "dense", "memory": {"kind": "online", "k": k}}
    agent = agent_of(catalogue, shown=1, options=options, **{MEMORY: entries, ITEM_VECTORS: made})
    asked: list[str] = []

    def reply(call: Any) -> Any:
        if isinstance(call, list):
            asked[:] = call
            return None
        return by_step(**replies("persuasion", price_range=[0, 10], preference="blue"))(call)

    first = replies("item_suggestion", price_range=[0, 10], preference="blue")

    def suggesting(call: Any) -> Any:
        return None if isinstance(call, list) else by_step(**first)(call)

    shown, _ = answered(agent, suggesting)
    turn, _ = answered(
        agent, reply, OPENING, *offered_of(catalogue, catalogue.position[shown.shown[0].id])
    )
    length = len(asked[0])
    vector = np.array([length, 1]) / math.hypot(length, 1)
    squared = pd.Series([float(((key - vector) ** 2).sum()) for key in keys.astype(float)]).round(5)
    assert turn.extra["recalled"] == squared.sort_values(kind="stable").index[:k].tolist()


STEPS = st.tuples(
    st.sampled_from(["persuade", "recommend", "ask"]),
    st.sets(st.sampled_from(["B1", "B2", "B3"]), max_size=2),
)


@given(
    st.lists(STEPS, max_size=6),
    st.sampled_from([None, "B1", "B2"]),
    st.sampled_from([True, False, None]),
)
def test_what_a_dialogue_leaves_in_the_memory_is_what_a_filter_of_its_turns_leaves(
    played, bought, over
):
    last = len(played) - 1
    turns = [
        LearnedTurn(
            f"words {n}", action, "framing", tuple(shown),
            {KEY: {"profile": f"profile {n}", "vector": None}} if action == "persuade" else {},
            bought if n == last else None, over if n == last and bought else None,
        )
        for n, (action, shown) in enumerate(played)
    ]  # fmt: skip
    frame = pd.DataFrame(
        [(n, action, bought in shown) for n, (action, shown) in enumerate(played)],
        columns=["n", "action", "holds"],
    )
    counted = frame[(frame.action == "persuade") & frame.holds.astype(bool)]
    kept = [entry["utterance"] for entry in SalesMemory(1).learn(turns)]
    sold = bool(bought) and over is True
    assert kept == ([f"words {counted.n.max()}"] if sold and len(counted) else [])


def test_lexical_keys_count_words_so_that_distance_is_that_of_their_cosine():
    texts = ["preference: blue denim", "preference: raw denim", "something else", "blue blue denim"]
    recall = Recall(
        [{"profile": t, "vector": None, "strategy": "s", "utterance": "u"} for t in texts],
        "lexical",
    )
    whole = {k: v for k, v in plan("persuasion").items() if k not in ("thoughts", "action")}
    ask = make_ask(FakeModel(lambda call: None), prompts_of("agents", "csi"))
    key, vector = asyncio.run(recall.key(Profile(**whole), ask))

    def counts(text: str) -> Counter[str]:
        return Counter(re.findall(r"\w+", text.lower()))

    def cosine(a: Counter[str], b: Counter[str]) -> float:
        inner = sum(a[word] * b[word] for word in a)
        return inner / math.sqrt(sum(n * n for n in a.values()) * sum(n * n for n in b.values()))

    near = [cosine(counts(key["profile"]), counts(text)) for text in texts]
    expected = sorted(range(4), key=lambda n: -near[n])
    assert recall.nearest(vector, 4) == expected
