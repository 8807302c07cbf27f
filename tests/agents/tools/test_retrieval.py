"""Retrieval by words and by item: against plain formulas, and with hostile words."""

import asyncio
import math
import re

import numpy as np
import pytest

from agents.core.items import Catalogue, Item
from agents.tools.retrieval import Dense, ItemVectors, Lexical, retrieval_text, unit_vectors
from tests.agents.csi.harness import CATALOGUE, ITEMS
from tests.agents.playing import prompts_of
from tests.fakes import FakeModel, make_ask

ASK = make_ask(FakeModel(lambda texts: None), prompts_of("agents", "csi"))


def test_an_item_is_found_by_title_category_and_description_but_not_by_its_features():
    """B.3. Descriptions themselves have the word."""
    path = {"category": ("Clothing", "Jeans"), "store": ("S",)}
    one = Item("1", "Title", path, "Soft. Features: washed", 9.0, without_features="Soft.")
    assert retrieval_text(one) == "Title Clothing Jeans Soft."
    assert retrieval_text(Item("2", "Title", {"genre": ("A", "B")}, "Soft.")) == "Title A B Soft."


def by_query(retriever, query):
    return asyncio.run(retriever.by_query(query, ASK))


def bm25(query: str) -> list[float]:
    """Lucene's BM25 by its formula, k1 1.5 and b 0.75."""
    texts = [re.findall(r"\w\w+", retrieval_text(item).lower()) for item in ITEMS]
    texts = [[w for w in words if w not in ("the", "with", "for")] for words in texts]
    mean = sum(map(len, texts)) / len(texts)
    found = []
    for words in texts:
        total = 0.0
        for word in re.findall(r"\w\w+", query.lower()):
            holding = sum(word in other for other in texts)
            idf = math.log(1 + (len(texts) - holding + 0.5) / (holding + 0.5))
            times = words.count(word)
            total += idf * times / (times + 1.5 * (0.25 + 0.75 * len(words) / mean))
        found.append(total)
    return found


@pytest.mark.parametrize("query", ["blue denim", "Leather BEACH slide", "women jeans blue"])
def test_lexical_scores_are_bm25(query):
    assert by_query(Lexical.of(CATALOGUE), query) == pytest.approx(bm25(query), abs=1e-5)


@pytest.mark.parametrize(
    "query", ["", "!!!", "unheard of", "\u4e2d\u6587", "a" * 10_000, "' OR 1=1"]
)
def test_a_query_without_a_known_word_scores_zero(query):
    scores = by_query(Lexical.of(CATALOGUE), query)
    assert scores.shape == (8,)
    assert not scores.any()


def test_an_item_is_most_similar_to_itself():
    retriever = Lexical.of(CATALOGUE)
    assert Lexical.of(CATALOGUE) is retriever
    for place, one in enumerate(ITEMS):
        scores = asyncio.run(retriever.by_item(one))
        assert scores.argmax() == place


def test_a_catalogue_without_words_can_be_searched():
    retriever = Lexical(Catalogue([Item("1", "!"), Item("2", "?")], noun="thing"))
    assert by_query(retriever, "anything").tolist() == [0, 0]


def test_dense_scores_are_cosines():
    vectors = unit_vectors(np.array([[3, 1], [1, 1], [0, 2], [0, 0], *[[1, 0]] * 4], np.float32))
    retriever = Dense(CATALOGUE, vectors)
    asked = np.array([4, 1]) / math.hypot(4, 1)  # the fake embeds a text as (its length, 1)
    assert by_query(retriever, "four") == pytest.approx((vectors @ asked).tolist())
    assert asyncio.run(retriever.by_item(ITEMS[2])) == pytest.approx(
        (vectors @ vectors[2]).tolist()
    )


def test_vectors_of_items_are_embedded_in_parts_and_have_length_one(monkeypatch):
    monkeypatch.setattr("agents.tools.retrieval._AT_ONCE", 3)
    heard = []
    recipe = ItemVectors()
    ask = make_ask(
        FakeModel(lambda texts: None), prompts_of("agents", "csi"), role="agent.retriever"
    )
    content = asyncio.run(recipe.build(CATALOGUE, ask, lambda *done: heard.append(done)))
    vectors = recipe.load(content, CATALOGUE)
    lengths = [len(retrieval_text(item)) for item in ITEMS]
    assert vectors == pytest.approx(unit_vectors(np.array([[n, 1] for n in lengths], np.float32)))
    assert heard == [(0, 3), (1, 3), (2, 3)]
    assert [len(r.call.messages[0].content) > 0 for r in ask.journal.records] == [True] * 3
