"""The agent: what is embedded, how each variant orders items, options, recipes."""

import asyncio
from itertools import pairwise

import numpy as np
import pytest
from pydantic import ValidationError

from agents.chat_rec import ChatRec
from agents.core.agent import AgentContext
from agents.core.ask import Ask, CallLog
from agents.core.dialogue import Dialogue, Message
from agents.core.errors import DataError
from agents.core.items import Catalogue, Item, VisibleCase
from agents.latentcrs import LatentCRS
from agents.latentcrs.pipeline import Windows, histories_of, on_disk, sentence
from tests.agents.in_place import in_place
from tests.agents.playing import prompts_of, rules
from tests.agents.recommenders.data import rounds, training_data

GENRES = [("Comedy",), ("Drama",), ("Comedy", "War"), ("War",), ("Drama",), ("Comedy",)]
ITEMS = [Item(f"i{n}", f"Film {n}", {"genre": genres}) for n, genres in enumerate(GENRES)]
CATALOGUE = Catalogue(ITEMS, noun="movie")


class Ranker:
    """Likes items from the last to the first, and keeps what it is given."""

    def scores(self, history, words):
        self.seen = history, words
        return np.arange(len(ITEMS), dtype=np.float32)


class Domain:
    catalogue = CATALOGUE


def turn_of(said="I want a Comedy.", history=(5,), cls=LatentCRS, name="latentcrs", **options):
    ranker, log = Ranker(), CallLog(turn=1)
    case = VisibleCase("c", tuple(ITEMS[place] for place in history))
    artifacts = {"recommender": in_place(len(ITEMS)), "em": ranker}
    agent = cls(cls.Options(**options), AgentContext(CATALOGUE, case, 2, artifacts))
    model = rules(Domain())
    ask = Ask("agent", "c", 0, prompts_of("agents", name), lambda role: model, log)
    dialogue = Dialogue([Message("user", said)])
    turn = asyncio.run(agent.respond(dialogue, ask))
    return turn, ranker, [record.call for record in log.records]


def ids(items):
    return [int(item.id[1:]) for item in items]


def test_basic_ranks_the_catalogue_by_one_embedding_and_no_generated_word():
    turn, ranker, calls = turn_of()
    assert ids(turn.ranking) == [4, 3, 2, 1, 0]  # without the history
    assert ids(turn.shown) == [4, 3]
    assert turn.text == "How about Film 4; Film 3?"
    assert [(call.role, call.step.name) for call in calls] == [("agent.encoder", "embed")]
    assert calls[0].messages[0].content == sentence("I want a Comedy.")
    assert sentence("x") == "This sentence: 'x' means in one word:"
    assert ranker.seen[0] == pytest.approx(in_place(6).user_embedding([5]))
    assert ranker.seen[1].dtype == np.float16
    assert ids(turn_of(repeat=True)[0].ranking) == [5, 4, 3, 2, 1, 0]


def test_only_variants_that_generate_words_need_a_model_that_speaks():
    def roles(variant):
        return LatentCRS.roles_of(LatentCRS.Options(variant=variant))

    assert roles("basic") == ("agent.encoder",)
    assert roles("filter") == roles("rerank") == ("agent", "agent.encoder")


def test_filter_keeps_what_meets_all_requirements():
    turn, _, calls = turn_of(variant="filter")
    assert [call.step.name for call in calls] == ["embed", "require"]
    assert ids(turn.ranking) == [2, 0]
    assert turn.extra["requirements"] == ["comedy"]
    assert turn.extra["kept"] == 2
    both = turn_of("A Comedy, also War.", variant="filter")[0]
    assert ids(both.ranking) == [2]


def test_where_nothing_meets_the_requirements_an_option_decides():
    said = "A Drama and a War film and a Comedy."
    every, _, _ = turn_of(said, variant="filter")
    assert ids(every.ranking) == [4, 3, 2, 1, 0]
    assert every.extra["met"] == 0
    most, _, _ = turn_of(said, variant="filter", when_none_meets="keep_most")
    assert ids(most.ranking) == [2]
    none, _, _ = turn_of("Something nice.", variant="filter")
    assert ids(none.ranking) == [4, 3, 2, 1, 0]


def test_rerank_orders_the_first_and_the_others_follow():
    turn, _, calls = turn_of(variant="rerank", reranked=3)
    assert [call.step.name for call in calls] == ["embed", "rerank"]
    assert [item.id for item in calls[1].fields["items"]] == ["i4", "i3", "i2"]
    assert ids(turn.ranking) == [2, 4, 3, 1, 0]


def test_chat_rec_picks_from_the_recommenders_candidates():
    turn, _, calls = turn_of(cls=ChatRec, name="chat_rec", candidates=4, listed=3)
    assert [call.step.name for call in calls] == ["pick", "respond"]
    assert ids(turn.candidates) == [0, 1, 2, 3]
    assert ids(turn.ranking) == [0, 2, 1]
    assert ids(turn.shown) == [0, 2]


@pytest.mark.parametrize(
    ("options", "variant"),
    [
        ({}, "whole"),
        ({"inference_model": False}, "no_inference"),
        ({"direct_kl": True}, "direct_kl"),
        ({"rec_loss": False}, "no_rec"),
    ],
)
def test_the_options_of_table_5(options, variant):
    assert LatentCRS.Options(**options).settings()["variant"] == variant


def test_two_ablations_at_once_are_refused():
    with pytest.raises(ValidationError, match="exclude each other"):
        LatentCRS.Options(direct_kl=True, rec_loss=False)


def test_what_depends_on_what_is_in_the_recipes():
    needs = LatentCRS.needs(LatentCRS.Options())
    em = needs["em"]
    assert list(em.inputs()) == ["recommender", "windows", "anchors", "vectors"]
    assert list(em.inputs()["vectors"].inputs()["words"].inputs()) == ["windows"]
    other = LatentCRS.needs(LatentCRS.Options(device="cuda", threads=2))["em"]
    assert other.identity() == em.identity()
    assert LatentCRS.needs(LatentCRS.Options(g="independent"))["em"].identity() != em.identity()


def test_windows_are_pieces_of_histories_and_validation_items_follow_whole_ones():
    data = rounds(users=6, items=9, length=7)
    [step] = Windows(4, 5, 3, 5, None).fit(data, 1)
    found = step.result
    past, targets = histories_of(found), found.arrays["targets"]
    assert found.arrays["validation"].tolist() == [False] * 20 + [True] * 3
    for history, target in zip(past, targets, strict=True):
        walk = [*history.tolist(), int(target)]
        assert all((b - a) % 9 == 1 for a, b in pairwise(walk))
        assert 1 <= len(history) <= 5
    assert all(len(history) == 5 for history in past[20:])
    [again] = Windows(4, 5, 3, 5, None).fit(data, 1)
    assert again.result.digest() == found.digest()
    [other] = Windows(4, 5, 3, 5, None).fit(data, 2)
    assert other.result.digest() != found.digest()
    fixed = [next(Windows(4, 5, 3, 5, 7).fit(data, seed)).result.digest() for seed in (1, 2)]
    assert fixed[0] == fixed[1] not in (found.digest(), other.result.digest())


def test_windows_need_a_user_with_two_items_and_a_validation_item():
    with pytest.raises(DataError, match="cannot be trained"):
        list(Windows(1, None, 5, 5, None).fit(training_data([[1], [2]], 4, [0, 0]), 0))


def test_embeddings_lie_on_disk_until_they_are_stored():
    found = on_disk((4, 3))
    found[1:3] = [[1, 2, 3], [4, 5, 6]]
    assert isinstance(found, np.memmap)
    assert found.dtype == np.float16
    assert found.tolist() == [[0, 0, 0], [1, 2, 3], [4, 5, 6], [0, 0, 0]]
