"""Titles of items come from the data of the run, and from no others."""

from __future__ import annotations

from analysis.results import Results
from runner.core.titles import TitlesInBackground, all_titles
from sweeps.origins import Origins
from sweeps.schema import PluginRef
from sweeps.sources import make_domain
from tests.analysis.builder import Built, Cell
from tests.conftest import LAST_GUARD_SECONDS

DOMAIN = {"name": "synthetic", "items": 60, "users": 10}


def manifest(folder, domain=DOMAIN, fingerprint=None):
    cells = [Cell("c", {"agent": "a"}, settings={"domain": domain})]
    built = Built(cells).write(folder)
    found = Results.open(built).manifest
    made = make_domain(PluginRef.model_validate(DOMAIN), Origins())
    (source,) = found.sources
    given = made.fingerprint() if fingerprint is None else fingerprint
    return found.model_copy(update={"sources": [source.model_copy(update={"fingerprint": given})]})


def test_each_item_of_the_domain_has_its_title(tmp_path):
    found, problems = all_titles(manifest(tmp_path))
    assert (len(found["source"]), problems) == (60, [])
    background = TitlesInBackground(manifest(tmp_path))
    background.reading.join(LAST_GUARD_SECONDS)
    assert background("source") == found["source"]
    assert background("another") == {}


def test_other_data_and_data_that_are_not_here_give_ids(tmp_path):
    found, (problem,) = all_titles(manifest(tmp_path, fingerprint="x"))
    assert found == {}
    assert problem.endswith("the data set synthetic has changed since the run")
    elsewhere = {"name": "movielens", "path": "${oc.env:NOT_SET_ANYWHERE}/ml"}
    found, (problem,) = all_titles(manifest(tmp_path, elsewhere))
    assert found == {}
    assert "NOT_SET_ANYWHERE" in problem
