"""What a manifest says of the cells."""

from __future__ import annotations

import json

import pytest

from runner.driver.manifest import make_manifest
from tests.fixtures_movielens import write_ml1m
from tests.sweep_files import plan_of, write_sweep


def test_the_manifest_says_what_each_cell_ran_with_and_no_secret(tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET_ROOT", str(write_ml1m(tmp_path / "ml-1m").parent))
    domain = {"name": "movielens", "path": "${oc.env:SECRET_ROOT}/ml-1m", "k_core": 5}
    sweep = write_sweep(tmp_path, domain=domain, grid={"agent": ["react"], "seed": [0, 1]},
                        roles={"user": "strong", "agent": "weak"})  # fmt: skip
    manifest = make_manifest(plan_of(sweep), 1, None, "")
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


def test_cells_whose_agent_speaks_in_fixed_sentences_are_marked(tmp_path):
    path = write_sweep(tmp_path, grid={"agent": ["zero_shot", "max_entropy"], "seed": [0]},
                       roles={"user": "strong", "agent": "strong"})  # fmt: skip
    cells = make_manifest(plan_of(path), 1, None, "").cells
    assert [cell.fixed_sentences for cell in cells] == [False, True]


def test_a_generated_domain_is_no_data_set(tmp_path):
    manifest = make_manifest(plan_of(write_sweep(tmp_path)), 1, None, "")
    assert {source.dataset for source in manifest.sources} == {""}


@pytest.mark.parametrize(
    ("backend", "marked"), [("rules", True), ("latency", True), ("openai", False)]
)
def test_backends_that_are_no_language_models_are_recorded_as_a_watermark(
    tmp_path, backend, marked
):
    spoken = {"rules": {}, "latency": {}, "openai": {"base_url": "http://x", "model": "m"}}
    path = write_sweep(
        tmp_path,
        models={"one": {"backend": backend, **spoken[backend]}, "unused": {"backend": "rules"}},
        roles={"user": "one", "agent": "one"},
        grid={"agent": ["zero_shot"], "seed": [0]},
    )
    assert make_manifest(plan_of(path), 1, None, "").watermark == [backend] * marked


def test_a_table_of_a_folder_from_before_watermarks_were_recorded_shows_one_where_it_must(
    tmp_path, crsweep
):
    crsweep("run", write_sweep(tmp_path, grid={"agent": ["zero_shot"]}, cases={"sample": 1},
                               roles={"user": "strong", "agent": "weak"}))  # fmt: skip
    file = tmp_path / "out" / "manifest.json"
    manifest = json.loads(file.read_text())
    assert manifest.pop("watermark") == ["rules"]
    for backend, lines in (("rules", 1), ("vllm", 0)):
        for cell in manifest["cells"]:
            cell["backends"] = dict.fromkeys(cell["backends"], backend)
        file.write_text(json.dumps(manifest))
        table = crsweep("table", tmp_path / "out").stdout
        assert table.count("WATERMARK: these numbers are made with the rules backend") == lines
        assert table.count("WATERMARK") == lines


@pytest.mark.parametrize(
    ("seeds", "varied"),
    [
        ([{"sampling": 1}], "nothing"),
        ([{"sampling": 1}, {"sampling": 2}], "sampling"),
        ([{"sampling": 1}, {"sampling": 2, "order": 1}], "sampling and order"),
    ],
)
def test_what_varies_between_seeds_is_named(tmp_path, seeds, varied):
    path = write_sweep(tmp_path, grid={"agent": ["tests.remembering_agent"], "seeds": seeds},
                       roles={"user": "weak", "agent": "weak"})  # fmt: skip
    assert make_manifest(plan_of(path), 1, None, "").seed_varies == varied


def test_three_things_that_vary_are_a_list(tmp_path):
    grid = {"agent": ["tests.prepared_agent", "tests.remembering_agent"], "seed": [0, 1]}
    roles = {"user": "weak", "agent": "weak"}
    path = write_sweep(tmp_path, grid=grid, roles=roles, seeds={"order": "seed"})
    varied = make_manifest(plan_of(path), 1, None, "").seed_varies
    assert varied == "sampling, training and order"
