"""What a manifest says of the cells."""

from __future__ import annotations

from runner.driver.manifest import make_manifest
from tests.fixtures_movielens import write_ml1m
from tests.sweep_files import plan_of, write_sweep


def test_the_manifest_says_what_each_cell_ran_with_and_no_secret(tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET_ROOT", str(write_ml1m(tmp_path / "ml-1m").parent))
    domain = {"name": "movielens", "path": "${oc.env:SECRET_ROOT}/ml-1m", "k_core": 5}
    sweep = write_sweep(tmp_path, domain=domain, grid={"agent": ["react"], "seed": [0, 1]},
                        roles={"user": "strong", "agent": "weak"})  # fmt: skip
    manifest = make_manifest(plan_of(sweep), 1, None)
    assert [source.dataset for source in manifest.sources] == ["ML-1M"]
    (cell,) = manifest.cells
    found = cell.settings
    assert found["agent"]["name"] == "react"
    assert found["agent"]["max_thoughts"] == 2  # a default
    assert found["simulator"]["decides"] == "model"
    assert found["domain"]["path"] == "${oc.env:SECRET_ROOT}/ml-1m"
    assert (found["domain"]["min_rating"], found["domain"]["k_core"]) == (3, 5)
    assert (found["limits"]["max_turns"], found["cases"]["split"]) == (5, "test")
    assert found["success"] == {"name": "user_accepts"}
    assert {role: model["skill"] for role, model in found["models"].items()} == {
        "agent": 0.5,
        "user": 0.9,
    }
    assert str(tmp_path) not in "".join(c.model_dump_json() for c in manifest.cells)


def test_a_generated_domain_is_no_data_set(tmp_path):
    manifest = make_manifest(plan_of(write_sweep(tmp_path)), 1, None)
    assert {source.dataset for source in manifest.sources} == {""}
