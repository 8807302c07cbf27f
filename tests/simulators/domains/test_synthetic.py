"""The synthetic domain: the same everywhere, on demand, and worth learning from."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from pydantic import ValidationError
from rapidfuzz import fuzz, process

from agents.core import plugins
from agents.core.errors import DataError
from agents.core.grounding import normalise
from simulators.domains.synthetic import Synthetic


def domain(**options) -> Synthetic:
    return Synthetic(plugins.build_options(Synthetic.Options, options))


def test_the_plugin_lookup_finds_the_domain():
    assert plugins.load("simulators.domains", "synthetic", "domain") is Synthetic


def test_two_instances_agree_on_everything():
    one, other = domain(users=50), domain(users=50)
    assert one.catalogue.items == other.catalogue.items
    assert one.fingerprint() == other.fingerprint()
    assert list(one.case_ids("test")) == list(other.case_ids("test"))
    assert all(one.case("test", u) == other.case("test", u) for u in one.case_ids("test"))
    mine, theirs = one.interactions(), other.interactions()
    assert np.array_equal(mine.items, theirs.items)
    assert np.array_equal(mine.times, theirs.times)


def test_another_process_with_another_hash_seed_draws_the_same():
    script = (
        "from simulators.domains.synthetic import Synthetic as S;"
        "d = S(S.Options(items=60, users=9));"
        "print(d.fingerprint(), d.catalogue.items, [d.case('test', u) for u in d.case_ids('test')])"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1


def test_the_world_stays_as_it_was():
    # Another numpy or platform that drew other users would silently mix two worlds in one sweep.
    made = domain(items=60, users=9)
    assert [item.id for item in made.case("test", "u8").visible.history[:5]] == [
        "i16",
        "i6",
        "i36",
        "i10",
        "i2",
    ]
    assert made.catalogue["i7"].title == "Quilt of Hesashfum"


def test_cases_and_interactions_tell_the_same_story():
    # More users than one chunk, so that the seam between chunks is crossed.
    made = domain(users=4100, history=6)
    events = made.interactions()
    assert len(events) == 4100 * 4
    for user in (0, 4095, 4096, 4099):
        case_id = events.user_ids[user]
        mine = [made.catalogue.items[i] for i in events.items[events.users == user]]
        validation, test = made.case("validation", case_id), made.case("test", case_id)
        assert list(validation.visible.history) == mine
        assert list(test.visible.history) == [*mine, *validation.hidden.targets]
        train = made.case("train", case_id)
        assert [*train.visible.history, *train.hidden.targets] == mine


@pytest.mark.parametrize("items", [40, 100, 500])
def test_no_user_meets_an_item_twice(items):
    made = domain(items=items, users=100)
    for case_id in made.case_ids("test"):
        case = made.case("test", case_id)
        ids = {item.id for item in (*case.visible.history, *case.hidden.targets)}
        assert len(ids) == made.options.history


def test_times_rise_within_a_user():
    events = domain(users=30).interactions()
    same_user = np.diff(events.users) == 0
    assert (np.diff(events.times)[same_user] > 0).all()


def test_a_million_cases_cost_nothing_until_asked_for():
    made = domain(items=3000, users=1_000_000)
    made.case("test", "u0")
    tracemalloc.start()
    ids = made.case_ids("test")
    for user in range(0, 1_000_000, 2_000):
        made.case("test", ids[user])
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(ids) == 1_000_000
    assert ids[-1] == "u999999"
    assert grown < 1_000_000
    assert len(pickle.dumps(ids)) < 1_000


def test_case_ids_behave_as_a_sequence():
    ids = domain(users=12).case_ids("test")
    assert list(ids[9:]) == ["u9", "u10", "u11"]
    assert "u11" in ids
    for absent in ("u12", "u-1", "u01", "u", "", "x3", "u\u0663"):
        assert absent not in ids
    with pytest.raises(IndexError):
        ids[12]


def test_an_unknown_case_is_a_data_error():
    with pytest.raises(DataError, match="no case 'u200'"):
        domain().case("test", "u200")


def test_neighbours_find_what_popularity_does_not():
    made = domain(users=500)
    events = made.interactions()
    seen = np.zeros((500, len(made.catalogue)), dtype=np.float32)
    seen[events.users, events.items] = 1
    together = seen.T @ seen
    popularity = np.diag(together).copy()
    np.fill_diagonal(together, 0)
    cosine = together / np.sqrt(np.outer(popularity + 1, popularity + 1))
    targets = [
        made.catalogue.position[made.case("validation", user).hidden.targets[0].id]
        for user in events.user_ids
    ]

    def hit_at_10(scores: np.ndarray) -> float:
        top = np.argsort(-np.where(seen > 0, -1, scores), axis=1, kind="stable")[:, :10]
        return float((top == np.array(targets)[:, None]).any(axis=1).mean())

    assert hit_at_10(seen @ cosine) > 2 * hit_at_10(np.tile(popularity, (500, 1)))


@pytest.mark.parametrize("seed", [0, 7])
def test_titles_are_distinct_and_rarely_alike(seed):
    titles = [normalise(item.title) for item in domain(items=2000, seed=seed).catalogue.items]
    assert len(set(titles)) == 2000
    scores = process.cdist(titles, titles, scorer=fuzz.ratio, score_cutoff=90, dtype=np.uint8)
    np.fill_diagonal(scores, 0)
    assert (scores.max(axis=1) > 0).mean() < 0.01


def test_the_largest_catalogue_has_distinct_titles():
    titles = {normalise(item.title) for item in domain(items=100_000).catalogue.items}
    assert len(titles) == 100_000


@pytest.mark.parametrize("items", [40, 500, 3000])
def test_themes_lie_in_one_subgenre_and_subgenres_in_one_genre(items):
    parents: dict[str, str] = {}
    for item in domain(items=items).catalogue.items:
        theme, subgenre = item.attributes["theme"][0], item.attributes["subgenre"][0]
        assert parents.setdefault(theme, subgenre) == subgenre
        assert (
            parents.setdefault(subgenre, item.attributes["genre"][0]) == item.attributes["genre"][0]
        )
        assert all(len(set(values)) == len(values) > 0 for values in item.attributes.values())
        assert item.price is not None
        assert 0 < item.price < 100
        assert item.title not in item.description


def test_the_fingerprint_knows_every_option_and_no_default():
    given = {"seed": 1, "items": 400, "users": 10, "history": 5, "taste": 0.5}
    prints = {domain(**{name: value}).fingerprint() for name, value in given.items()}
    assert len(prints | {domain().fingerprint()}) == 6
    assert domain(items=500, taste=0.9).fingerprint() == domain().fingerprint()


def test_statistics_count_the_held_out_interactions():
    made = domain(users=30, history=7)
    assert made.statistics() == {"users": 30, "items": 500, "interactions": 210}
    assert len(made.interactions()) == 150


@pytest.mark.parametrize(
    "options",
    [{"items": 19}, {"items": 100_001}, {"users": 0}, {"history": 2}, {"taste": 1.1}, {"seed": -1}],
)
def test_impossible_sizes_are_refused(options):
    with pytest.raises(ValidationError):
        domain(**options)


def test_a_history_longer_than_half_the_catalogue_is_refused():
    with pytest.raises(ValidationError, match="history must be at most half of items"):
        domain(items=30)


def test_the_validation_items_are_the_targets_of_the_validation_split():
    made = domain(users=30)
    targets = [made.case("validation", u).hidden.targets[0].id for u in made.case_ids("test")]
    items = made.catalogue.items
    data = made.training_data()
    assert [items[place].id for place in data.validation] == targets
    assert len(data.interactions.user_ids) == len(data.validation)
