"""What recommenders are trained on: no test pair is in it, in any domain."""

import re

import pytest

from agents.core import plugins
from agents.core.errors import DataError
from agents.core.items import Catalogue, Item
from simulators.domains.lastfm import LastFM
from simulators.domains.movielens import MovieLens
from simulators.domains.steam import Steam
from simulators.domains.synthetic import Synthetic
from simulators.domains.yelp import Yelp
from tests.fixtures_movielens import write_ml1m
from tests.fixtures_reviews import write_steam
from tests.fixtures_scpr import write_lastfm, write_yelp


def synthetic(folder):
    return Synthetic(Synthetic.Options(items=80, users=40, history=9))


def movielens(folder):
    return MovieLens(plugins.build_options(MovieLens.Options, {"path": write_ml1m(folder)}))


def steam(folder):
    return Steam(plugins.build_options(Steam.Options, {"path": write_steam(folder)}))


def lastfm(folder):
    return LastFM(plugins.build_options(LastFM.Options, {"path": write_lastfm(folder)}))


def yelp(folder):
    return Yelp(plugins.build_options(Yelp.Options, {"path": write_yelp(folder)}))


def test_a_catalogue_of_other_items_than_the_histories_is_refused(tmp_path):
    class Unfiltered(MovieLens):
        def load(self):
            loaded = super().load()
            items = [*loaded.catalogue.items, Item("x", "Nobody's Film")]
            return loaded._replace(catalogue=Catalogue(items, noun="movie"))

    path = write_ml1m(tmp_path / "data")
    domain = Unfiltered(plugins.build_options(MovieLens.Options, {"path": path}))
    kept = len(MovieLens(domain.options).catalogue)
    expected = f"the catalogue has {kept + 1} items, the histories {kept}: give it the items"
    with pytest.raises(DataError, match=re.escape(f"{path}: {expected}")):
        domain.statistics()


@pytest.mark.parametrize("make", [synthetic, movielens, steam])
def test_training_data_holds_no_test_pair_and_validation_is_what_comes_next(tmp_path, make):
    domain = make(tmp_path / "data")
    data = domain.training_data()
    place = domain.catalogue.position
    seen: dict[int, list[int]] = {}
    for user, item in zip(data.interactions.users, data.interactions.items, strict=True):
        seen.setdefault(int(user), []).append(int(item))
    assert len(data.interactions.user_ids) == len(domain.case_ids("test")) > 5
    for user, case_id in enumerate(domain.case_ids("test")):
        case = domain.case("test", case_id)
        [target] = (place[item.id] for item in case.hidden.targets)
        history = [place[item.id] for item in case.visible.history]
        assert [*seen[user], int(data.validation[user])] == history
        assert target not in history


@pytest.mark.parametrize("make", [lastfm, yelp])
@pytest.mark.parametrize("split", ["test", "validation"])
def test_a_published_split_keeps_held_out_pairs_out_of_training(tmp_path, make, split):
    domain = make(tmp_path / "data")
    data = domain.training_data()
    place, ids = domain.catalogue.position, data.interactions.user_ids
    pairs = zip(data.interactions.users.tolist(), data.interactions.items.tolist(), strict=True)
    seen: dict[str, list[int]] = {}
    for user, item in pairs:
        seen.setdefault(ids[user], []).append(item)
    assert len(domain.case_ids(split)) > 50
    for case_id in domain.case_ids(split):
        case = domain.case(split, case_id)
        user = case_id.split("-")[0]
        assert [place[item.id] for item in case.visible.history] == seen[user]
        assert not any(target in case.visible.history for target in case.hidden.targets)
        if split == "test":
            assert data.validation[ids.index(user)] not in seen[user]
