"""References to recommenders, rankings and their metrics, and what every recommender keeps to."""

import pickle

import ir_measures
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError

from agents.core import plugins
from agents.core.agent import AgentOptions
from agents.recommenders.core import (
    RECOMMENDERS,
    RecommenderRef,
    best,
    histories,
    ndcg,
    positions,
    recall,
    target_ranks,
)
from simulators.domains.movielens import MovieLens
from simulators.domains.synthetic import Synthetic
from tests.agents.recommenders.data import SMALL, result_of, rounds, steps_of, trained
from tests.fakes import CATALOGUE, ITEMS
from tests.fixtures_movielens import START, Rating, films, write_ml100k

ALL = ["popularity", "item_knn", SMALL, {**SMALL, "name": "iclrec", "intents": 3}]
SCORES = arrays(np.float32, 8, elements=st.integers(-2, 2).map(float))


class _AgentOptions(AgentOptions):
    recommender: RecommenderRef = RecommenderRef.model_validate("item_knn")


def message(given) -> str:
    with pytest.raises(ValidationError) as caught:
        RecommenderRef.model_validate(given)
    return str(caught.value)


def test_a_recommender_is_named_alone_or_with_options():
    assert _AgentOptions().identity() == {}
    short = _AgentOptions.model_validate({"recommender": "sasrec"})
    assert short.identity() == {"recommender": {"name": "sasrec"}}
    long = _AgentOptions.model_validate({"recommender": {"name": "sasrec", "hidden": 32}})
    assert long.identity() == {"recommender": {"name": "sasrec", "hidden": 32}}
    assert RecommenderRef.model_validate(long.recommender.model_dump()) == long.recommender


def test_options_that_cannot_change_the_outcome_are_not_in_the_identity_of_what_uses_it():
    ref = RecommenderRef.model_validate({"name": "sasrec", "threads": 2})
    assert ref.recipe().identity() == {"recommender": {"name": "sasrec"}, "version": 2}
    assert _AgentOptions(recommender=ref).identity() == {"recommender": {"name": "sasrec"}}


def test_a_wrong_name_or_option_is_answered_with_a_near_one():
    assert "no recommender is called 'sasrek'; did you mean 'sasrec'?" in message("sasrek")
    assert "unknown option 'hiden'; did you mean 'hidden'?" in message(
        {"name": "sasrec", "hiden": 3}
    )
    assert "unknown option 'hidden' (known: none)" in message({"name": "popularity", "hidden": 3})
    assert "item_knn: neighbours: " in message({"name": "item_knn", "neighbours": 0})
    assert "sasrec: hidden 10 cannot be divided among heads 3" in message(
        {"name": "sasrec", "hidden": 10, "heads": 3}
    )
    for nothing in (None, 3, {}, {"name": 3}):
        assert "expected a recommender's name" in message(nothing)


@pytest.mark.parametrize("name", plugins.names(RECOMMENDERS))
def test_recipes_survive_pickling_and_have_a_stand_in(name):
    recipe = RecommenderRef.model_validate(name).recipe()
    again = pickle.loads(pickle.dumps(recipe))
    assert again == recipe
    assert again.identity() == recipe.identity()
    assert recipe.stand_in().identity()["recommender"] == {"name": "item_knn"}


def test_a_recipe_says_how_long_it_may_train_where_its_options_do():
    sasrec = RecommenderRef.model_validate({"name": "sasrec", "max_epochs": 7}).recipe()
    assert sasrec.size == "at most 7 epochs"
    assert RecommenderRef.model_validate("item_knn").recipe().size == ""


def test_every_recommender_that_ships_is_tested_here():
    assert sorted(g if isinstance(g, str) else g["name"] for g in ALL) == plugins.names(
        RECOMMENDERS
    )


@pytest.fixture(scope="module")
def recommenders():
    return {str(given): trained(given, rounds()) for given in ALL}


@pytest.mark.parametrize("given", ALL, ids=str)
def test_what_a_trained_recommender_gives_has_the_shapes_and_types_it_promises(given, recommenders):
    recommender = recommenders[str(given)]
    items, width = recommender.item_embeddings.shape
    assert items == 10
    for history in ([], [3], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]):
        assert recommender.user_embedding(history).shape == (width,)
        assert recommender.user_embedding(history).dtype == np.float32
        for values in (recommender.scores(history), recommender.similarities(history)):
            assert values.shape == (10,)
            assert values.dtype == np.float32
            assert np.isfinite(values).all()
        assert np.abs(recommender.similarities(history)).max() <= 1 + 1e-6


@pytest.mark.parametrize("given", ["item_knn", SMALL], ids=str)
def test_similarities_are_cosines_and_zero_for_a_user_without_history(given, recommenders):
    recommender = recommenders[str(given)]
    history = [1, 2, 3]
    user = recommender.user_embedding(history)
    for item, vector in enumerate(recommender.item_embeddings):
        cosine = user @ vector / (np.linalg.norm(user) * np.linalg.norm(vector))
        assert recommender.similarities(history)[item] == pytest.approx(cosine, abs=1e-5)
    assert not recommender.similarities([]).any()
    assert not recommender.scores([]).any()


@pytest.mark.parametrize("given", ALL, ids=str)
def test_asking_a_recommender_changes_nothing_in_it(given, recommenders):
    recommender = recommenders[str(given)]
    before = recommender.content.digest()
    recommender.scores([1, 2])[:] = -1
    recommender.similarities([1, 2])[:] = -1
    recommender.user_embedding([1, 2])[:] = -1
    assert recommender.content.digest() == before


@pytest.mark.parametrize("given", ALL, ids=str)
def test_equal_data_and_seeds_give_equal_contents(given):
    one, other = (result_of(steps_of(given, rounds(), seed=3)) for _ in range(2))
    assert one.digest() == other.digest()


@pytest.mark.parametrize("given", ["popularity", "item_knn"])
def test_where_nothing_is_drawn_the_seed_changes_nothing(given):
    digests = {result_of(steps_of(given, rounds(), seed)).digest() for seed in range(3)}
    assert len(digests) == 1


def films_of(tmp_path, name: str, shift: int) -> MovieLens:
    """Twelve users, whose last film is another with each `shift`, and one who saw all films."""
    rows = []
    for user in range(1, 13):
        seen = [1 + (user + step) % 10 for step in range(6)] + [11 + (user + shift) % 6]
        rows += [Rating(user, item, 5, START + place) for place, item in enumerate(seen)]
    rows += [Rating(13, item, 5, START + item) for item in range(1, 17)]
    folder = write_ml100k(tmp_path / name, rows=rows, catalogue=films(16))
    return MovieLens(plugins.build_options(MovieLens.Options, {"path": folder, "k_core": 0}))


def targets(domain) -> list[str]:
    return [
        domain.case("test", case_id).hidden.targets[0].id for case_id in domain.case_ids("test")
    ]


@pytest.mark.parametrize("given", ALL, ids=str)
def test_what_is_trained_does_not_depend_on_test_items(tmp_path, given):
    one, other = films_of(tmp_path, "one", 0), films_of(tmp_path, "other", 1)
    assert targets(one)[:-1] != targets(other)[:-1]
    assert one.catalogue.items == other.catalogue.items
    digests = {result_of(steps_of(given, d.training_data())).digest() for d in (one, other)}
    assert len(digests) == 1


def test_no_test_pair_and_no_validation_pair_is_in_training_data(tmp_path):
    synthetic = Synthetic(plugins.build_options(Synthetic.Options, {"users": 50, "items": 80}))
    for domain in (films_of(tmp_path, "films", 0), synthetic):
        data = domain.training_data()
        for user, (case_id, seen) in enumerate(
            zip(data.interactions.user_ids, histories(data), strict=True)
        ):
            case = domain.case("test", case_id)
            [target] = positions(case.hidden.targets, domain.catalogue)
            known = positions(case.visible.history, domain.catalogue)
            assert known == [*seen.tolist(), data.validation[user]]
            assert target not in known
            assert data.validation[user] not in seen


def test_positions_are_those_of_the_catalogue():
    assert positions([ITEMS[3], ITEMS[0]], CATALOGUE) == [3, 0]


@given(SCORES, st.integers(0, 10), st.none() | arrays(bool, 8))
def test_best_is_a_stable_sort_of_what_may_be_chosen(values, k, among):
    allowed = [place for place in range(8) if among is None or among[place]]
    expected = sorted(allowed, key=lambda place: (-values[place], place))[:k]
    assert best(values, k, among=among).tolist() == expected


@given(SCORES, st.integers(0, 7), st.sets(st.integers(0, 7)))
def test_a_targets_rank_is_its_place_in_the_ranking_of_what_was_not_seen(values, target, seen):
    among = np.array([place not in seen - {target} for place in range(8)])
    ranking = best(values, 8, among=among).tolist()
    [rank] = target_ranks(values[None], np.array([target]), [np.array(sorted(seen), int)])
    assert rank == ranking.index(target) + 1


@pytest.mark.parametrize("k", [1, 5, 10])
def test_metrics_agree_with_ir_measures(k):
    rng = np.random.default_rng(k)
    scores = rng.permuted(np.tile(np.arange(30.0), (40, 1)), axis=1)
    wanted = rng.integers(30, size=40)
    seen = [np.setdiff1d(rng.integers(30, size=8), wanted[user]) for user in range(40)]
    ranks = target_ranks(scores, wanted, seen)
    run = {
        f"u{user}": {f"i{i}": scores[user, i] for i in range(30) if i not in seen[user]}
        for user in range(40)
    }
    qrels = {f"u{user}": {f"i{wanted[user]}": 1} for user in range(40)}
    oracle = ir_measures.calc_aggregate([ir_measures.nDCG @ k, ir_measures.R @ k], qrels, run)
    assert ndcg(ranks, k) == pytest.approx(oracle[ir_measures.nDCG @ k])
    assert recall(ranks, k) == pytest.approx(oracle[ir_measures.R @ k])
    assert 0 < recall(ranks, k) < 1


def test_popularity_counts_and_knows_no_user():
    data = rounds(users=3, items=10, length=4)
    recommender = trained("popularity", data)
    counts = np.bincount(data.interactions.items, minlength=10)
    assert recommender.scores([]).tolist() == counts.tolist()
    assert recommender.scores([5, 6]).tolist() == counts.tolist()
    assert recommender.similarities([5]).tolist() == pytest.approx((counts / 3).tolist())
