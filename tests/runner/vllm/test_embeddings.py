"""CSI with dense retrieval by a tiny sentence-T5, from the command line to the stored rows."""

from __future__ import annotations

import json
from importlib import metadata

import numpy as np
import pytest

from agents.tools.retrieval import retrieval_text
from tests.fixtures_amazon_2023 import profiles_of, rows, write_amazon_2023, write_profiles
from tests.runner.reading import raw
from tests.sweep_files import plan_of, write_sweep
from tests.tiny_models import make_sentence_t5

pytestmark = pytest.mark.vllm


@pytest.fixture(scope="module")
def tiny_t5(tmp_path_factory):
    return make_sentence_t5(tmp_path_factory.mktemp("models"))


def sweep(folder, model, *, executor="local", **changes):
    data = folder / "data"
    if not data.exists():
        write_amazon_2023(data, rows(users=20, items=20, each=14))
        write_profiles(folder / "profiles.json", profiles_of([f"AE{n:04d}" for n in range(20)]))
    domain = {"name": "amazon_2023", "path": str(data), "profiles": str(folder / "profiles.json")}
    given = {
        "domain": domain,
        "simulator": "csuser",
        "cases": {"sample": 3},
        "models": {
            "m": {"backend": "rules", "skill": 0.5},
            "t5": {"backend": "sentence_transformers", "model": str(model), "device": "cpu"},
        },
        "roles": {"user": "m", "agent": "m", "agent.retriever": "t5"},
        "limits": {"max_turns": 4, "shown_items": 3},
        "grid": {"agent": [{"name": "csi", "retriever": "dense"}], "seed": [0]},
        "artifacts": {"path": str(folder / "store")},
        "cache": {"path": str(folder / "cache")},
        "run": {"executor": executor, "episode_workers": 1, "concurrency": 8},
        **changes,
    }
    return write_sweep(folder, **given)


def check_results(folder, model, path):
    """What a finished run has stored, against the library itself."""
    from sentence_transformers import SentenceTransformer

    library = SentenceTransformer(str(model), device="cpu")
    plan = plan_of(path)
    items = plan.sources[0].domain.catalogue.items
    [stored] = (folder / "store").glob("*/vectors.npy")
    known = library.encode([retrieval_text(item) for item in items])
    assert np.load(stored) == pytest.approx(known, abs=1e-5)
    episodes, calls = raw(folder / "out", "episodes"), raw(folder / "out", "calls")
    assert set(episodes.status) == {"done"}
    queries = calls[(calls.step == "embed") & calls.attempt_id.isin(episodes.attempt_id)]
    assert len(queries) and set(queries.role) == {"agent.retriever"}
    assert set(queries.model) == {"t5"} and queries.input_tokens.min() > 0
    assert queries.error_class.isna().all()


def test_a_dense_retriever_searches_with_the_vectors_of_the_library(tmp_path, tiny_t5, crsweep):
    path = sweep(tmp_path, tiny_t5)
    doctor = crsweep("doctor", path).stdout
    assert "model t5: sentence_transformers, weights: " in doctor
    assert "modules: Transformer, Pooling, Dense, Normalize" in doctor
    said = crsweep("run", path)
    assert "Loading weights" not in said.stdout + said.stderr  # the library's own bars
    check_results(tmp_path, tiny_t5, path)
    recorded = json.loads((tmp_path / "out" / "manifest.json").read_text())["versions"]
    assert recorded["sentence_transformers"] == metadata.version("sentence-transformers")
    # The size of a batch changes no identity.
    assert "nothing to do" in crsweep("run", path, "models.t5.max_batch=2").stdout


@pytest.mark.ray
def test_on_ray_its_replica_takes_no_gpu_and_serves_all_dialogues(tmp_path, tiny_t5, crsweep):
    path = sweep(tmp_path, tiny_t5, executor="ray")
    assert "load t5: 1 replica on" in crsweep("plan", path).stdout
    crsweep("run", path)
    check_results(tmp_path, tiny_t5, path)


def test_mistakes_are_one_line_each(tmp_path, tiny_t5, crsweep):
    path = sweep(tmp_path, tiny_t5)
    for override, message in (
        ("roles.agent=t5", "agent speaks, and the model 't5' (backend 'sentence_transformers')"),
        ("models.t5.model=./absent", "models.t5: model './absent': no such folder"),
        (f"models.t5.model={tmp_path}", f"model '{tmp_path}': no modules.json in {tmp_path}"),
        ("models.t5.sampling={}", "models.t5.sampling: unknown key 'sampling'"),
    ):
        done = crsweep("plan", path, override, check=2)
        assert message in done.stderr.replace("\n", " "), done.stderr
