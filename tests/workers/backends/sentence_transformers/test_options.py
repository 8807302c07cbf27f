"""What a model of the backend is, and what it is refused for, without the library."""

import json
from dataclasses import replace

import pytest
from pydantic import ValidationError

from agents.core.errors import UsageError
from tests.sweep_files import plan_of, write_sweep
from tests.workers.backends.calls import context
from workers.backends.sentence_transformers import backend as module
from workers.backends.sentence_transformers import options as options_module
from workers.backends.sentence_transformers.backend import SentenceTransformersBackend
from workers.backends.sentence_transformers.options import SentenceTransformersOptions

pytestmark = pytest.mark.usefixtures("own_cache")

COMMIT = "0123456789abcdef" * 2 + "01234567"
MODEL = "sentence-transformers/sentence-t5-base"


@pytest.fixture
def folder(tmp_path):
    """The files of a model whose weights are not real."""
    path = tmp_path / "model"
    (path / "2_Dense").mkdir(parents=True)
    (path / "modules.json").write_text(json.dumps([{"path": "", "type": "a.b.Transformer"}]))
    (path / "2_Dense" / "model.safetensors").write_text("weights")
    return path


def options(model, **given):
    return SentenceTransformersOptions(model=str(model), **given)


def test_only_the_weights_and_the_version_of_the_library_are_identity(folder, monkeypatch):
    plain = options(folder)
    fast = options(folder, device="cuda", gpus_per_replica=0.1, max_batch=256, replicas=3)
    assert plain.identity() == fast.identity() == {"weights": plain.weights().identity()}
    monkeypatch.setattr(module, "installed_version", lambda: "6.2.0")
    assert SentenceTransformersBackend.engine_version() == "6.2.0"


def test_every_module_of_a_folder_counts(folder, tmp_path):
    before = options(folder).identity()
    other = tmp_path / "other"
    (other / "2_Dense").mkdir(parents=True)
    (other / "modules.json").write_bytes((folder / "modules.json").read_bytes())
    (other / "2_Dense" / "model.safetensors").write_text("other weights")
    assert options(other).identity() != before


def test_a_commit_of_the_hub_needs_no_network_to_be_planned(no_hub):
    found = options(MODEL, revision=COMMIT).identity()
    assert found == {"weights": {"hub": MODEL, "commit": COMMIT}}


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("./absent", "no such folder"),
        ("a b", "neither a folder nor an id of the Hub"),
        (MODEL, "offline, and it is not in the Hub's cache"),
    ],
)
def test_a_model_that_is_not_there_is_refused_in_one_line(no_hub, model, message):
    with pytest.raises(UsageError, match=message) as refused:
        options(model).identity()
    assert "\n" not in refused.value.message


def test_a_folder_that_the_library_did_not_save_is_refused(tmp_path, no_hub):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UsageError, match=r"no modules\.json in"):
        options(tmp_path).identity()


@pytest.mark.parametrize(
    "given",
    [
        {"device": "tpu"},
        {"max_batch": 0},
        {"gpus_per_replica": 2},
        {"device": "cpu", "gpus_per_replica": 0.5},
        {"sampling": {}},
    ],
)
def test_options_that_make_no_sense_are_refused(given):
    with pytest.raises(ValidationError):
        options("m", **given)


@pytest.mark.parametrize(
    ("device", "cpu", "computes_on", "gpus"),
    [
        ("auto", True, "cpu", 0.25),
        ("auto", False, "cuda", 0.25),
        ("cuda", True, "cuda", 0.25),
        ("cpu", False, "cpu", 0.0),
    ],
)
def test_the_engine_takes_a_gpu_only_where_it_may(folder, device, cpu, computes_on, gpus):
    share = {} if device == "cpu" else {"gpus_per_replica": 0.25}
    found = options(folder, device=device, max_batch=8, **share)
    spec = SentenceTransformersBackend.engine(found, "t5", cpu)
    assert (spec.arguments["device"], spec.gpus) == (computes_on, gpus)
    # Every process computes the same key for the engine, wherever it is.
    assert replace(spec, arguments={}) == replace(
        SentenceTransformersBackend.engine(found, "t5", not cpu), arguments={}
    )


def test_without_the_package_one_line_names_the_extra(folder, monkeypatch):
    monkeypatch.setattr(options_module, "installed_version", lambda: None)
    with pytest.raises(UsageError) as refused:
        SentenceTransformersBackend(options(folder), context())
    assert refused.value.message == (
        "model 'm' needs the package sentence-transformers, which is not installed; it comes with "
        "the extra crsweep[sentence-transformers]"
    )


def test_a_role_that_speaks_is_refused_when_the_sweep_is_planned(folder, tmp_path):
    rules = {"backend": "rules"}
    t5 = {"backend": "sentence_transformers", "model": str(folder)}
    given = {
        "models": {"rules": rules, "t5": t5},
        "grid": {"agent": [{"name": "pc_crs", "retriever": "dense"}], "seed": [0]},
    }
    spoken = {"user": "rules", "agent": "rules", "agent.retriever": "t5"}
    [cell] = plan_of(write_sweep(tmp_path, roles=spoken, **given)).cells
    assert cell.roles["agent.retriever"] == "t5"
    for role in ("user", "agent", "agent.critic"):
        path = write_sweep(tmp_path, roles={**spoken, role: "t5"}, **given)
        with pytest.raises(UsageError) as refused:
            plan_of(path)
        assert refused.value.message.endswith(
            f"roles.{role}: {role} speaks, and the model 't5' (backend 'sentence_transformers') "
            "only embeds; expected one that completes calls"
        )


def test_a_role_that_embeds_is_refused_a_model_that_cannot(tmp_path):
    path = write_sweep(
        tmp_path,
        models={"slow": {"backend": "latency"}},
        roles={"user": "slow", "agent": "slow"},
        grid={"agent": [{"name": "csi", "retriever": "dense"}], "seed": [0]},
    )
    with pytest.raises(UsageError) as refused:
        plan_of(path)
    assert refused.value.message.endswith(
        "roles.agent: agent.retriever embeds texts, which the model 'slow' (backend 'latency') "
        "cannot; give 'agent.retriever' a model that does"
    )
    assert plan_of(path, "grid.agent=[csi]").cells[0].roles == {"agent": "slow", "user": "slow"}
