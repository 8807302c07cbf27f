"""Which weights a model has: content of folders, commits of the Hub."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from agents.core.errors import UsageError
from tests.conftest import ROOT
from workers.backends.core import weights
from workers.backends.core.weights import resolve

pytestmark = pytest.mark.usefixtures("own_cache")

MODEL = "meta-llama/Llama-3.1-8B-Instruct"
COMMIT = "0123456789abcdef" * 2 + "01234567"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "model"
    path.mkdir()
    for name in ("config.json", "tokenizer.json", "model.safetensors", "chat_template.jinja"):
        (path / name).write_text(name)
    settle(path)
    return path


def settle(path: Path) -> None:
    """Makes files old enough for their digests to be kept."""
    for file in path.rglob("*"):
        os.utime(file, (1_000_000, 1_000_000))


def version(path: Path) -> str:
    weights._known.clear()
    return resolve(str(path)).version


def test_a_folder_is_its_content_wherever_it_is(folder, tmp_path):
    copy = tmp_path / "elsewhere" / "copy"
    shutil.copytree(folder, copy)
    one, other = resolve(str(folder)), resolve(str(copy))
    assert one.identity() == other.identity() == {"content": one.version}
    assert len(one.version) == 32
    assert one.revision is None
    assert one.path == folder


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "chat_template.jinja"])
def test_what_matters_changes_it(folder, name):
    before = version(folder)
    (folder / name).write_text("other")
    assert version(folder) != before


def test_a_renamed_or_new_file_changes_it(folder):
    seen = {version(folder)}
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    seen.add(version(folder))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text("{}")
    seen.add(version(folder))
    assert len(seen) == 3


@pytest.mark.parametrize(
    "name",
    [
        "README.md",
        "LICENSE.txt",
        ".git/config.json",
        ".cache/x.json",
        "optimizer.pt",
        "scheduler.pt",
        "rng_state.pth",
        "training_args.bin",
        "trainer_state.json",
        "checkpoint-500/model.safetensors",
        "original/consolidated.00.pth",
    ],
)
def test_files_that_are_not_weights_do_not_change_the_digest(folder, name):
    before = version(folder)
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("anything")
    assert version(folder) == before


def test_links_are_followed_as_the_hubs_cache_needs_it(folder, tmp_path):
    linked = tmp_path / "snapshot"
    linked.mkdir()
    for file in folder.iterdir():
        (linked / file.name).symlink_to(file)
    assert version(linked) == version(folder)
    (linked / "gone.safetensors").symlink_to(tmp_path / "missing")
    with pytest.raises(UsageError, match=r"gone\.safetensors cannot be read"):
        version(linked)


def test_a_file_is_hashed_once_between_processes(folder, monkeypatch):
    hashed = []
    real = weights._hash
    monkeypatch.setattr(weights, "_hash", lambda path: hashed.append(path.name) or real(path))
    before = version(folder)
    assert len(hashed) == 4
    assert version(folder) == before
    assert len(hashed) == 4
    (folder / "tokenizer.json").write_text("other")
    os.utime(folder / "tokenizer.json", (2_000_000, 2_000_000))
    assert version(folder) != before
    assert hashed[4:] == ["tokenizer.json"]


def test_a_file_that_has_just_changed_is_not_trusted(folder, own_cache):
    (folder / "config.json").write_text("new")
    version(folder)
    (kept,) = (own_cache / "crsweep" / "weights").iterdir()
    assert not any(name.endswith("config.json") for name in json.loads(kept.read_text()))


@pytest.mark.parametrize("text", ["", "[]", "{", '{"x": 1}'])
def test_a_broken_cache_is_made_again(folder, own_cache, text):
    before = version(folder)
    (kept,) = (own_cache / "crsweep" / "weights").iterdir()
    kept.write_text(text)
    assert version(folder) == before
    assert len(json.loads(kept.read_text())) == 4


def test_without_a_cache_folder_it_only_takes_longer(folder, tmp_path, monkeypatch):
    before = version(folder)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert version(folder) == before


def test_one_process_looks_once(folder):
    found = resolve(str(folder))
    (folder / "config.json").write_text("other")
    assert resolve(str(folder)) is found


def test_another_processes_answer_is_taken(no_hub):
    remember_ref(no_hub, "main", COMMIT)
    found = resolve(MODEL)
    heard = weights.known()
    weights._known.clear()
    remember_ref(no_hub, "main", "f" * 40)  # the branch has moved meanwhile
    weights.take(heard)
    assert resolve(MODEL) == found


@pytest.mark.parametrize("model", ["./missing", "/missing", "~/missing", "a/b/c"])
def test_a_path_that_does_not_exist(model):
    with pytest.raises(UsageError, match="no such folder"):
        resolve(model)


def test_folders_that_are_no_models(folder):
    with pytest.raises(UsageError, match=r"is a file: a folder with config\.json is needed"):
        resolve(str(folder / "config.json"))
    with pytest.raises(UsageError, match="has no revision 'v2'"):
        resolve(str(folder), "v2")
    (folder / "config.json").unlink()
    with pytest.raises(UsageError, match=r"no config\.json in"):
        resolve(str(folder))
    assert resolve(str(folder), file="").kind == "local"


def test_a_commit_needs_no_network(no_hub):
    found = resolve(MODEL, COMMIT.upper())
    assert found == weights.Resolved("hub", MODEL, COMMIT, None)
    assert found.identity() == {"hub": MODEL, "commit": COMMIT}
    assert found.revision == COMMIT
    snapshot = no_hub / "models--meta-llama--Llama-3.1-8B-Instruct" / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    weights._known.clear()
    assert resolve(MODEL, COMMIT).path == snapshot


def remember_ref(hub: Path, revision: str, text: str) -> None:
    file = hub / "models--meta-llama--Llama-3.1-8B-Instruct" / "refs" / revision
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_offline_the_cache_knows_the_branch(no_hub):
    with pytest.raises(UsageError, match=r"offline.*give a folder, or the commit as `revision`"):
        resolve(MODEL)
    remember_ref(no_hub, "main", COMMIT + "\n")
    assert resolve(MODEL).version == COMMIT
    remember_ref(no_hub, "main", "broken")
    weights._known.clear()
    with pytest.raises(UsageError, match="the Hub's commit of 'main' is unknown"):
        resolve(MODEL)


@pytest.mark.parametrize("model", ["not a model", "a--b", "x/-y"])
def test_what_is_neither_a_folder_nor_an_id(model, no_hub):
    with pytest.raises(UsageError, match="neither a folder nor an id"):
        resolve(model)


class FakeHub:
    """Stands for the Hub's client: answers with a commit, or raises."""

    answer: str | Exception = COMMIT
    asked = 0

    def model_info(self, model, revision, timeout):
        FakeHub.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return type("Info", (), {"sha": self.answer})


@pytest.fixture
def hub(no_hub, monkeypatch):
    import huggingface_hub
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "HfApi", FakeHub)
    monkeypatch.setattr(FakeHub, "asked", 0)
    return no_hub


def test_online_the_hub_is_asked_once(hub):
    assert resolve(MODEL, "v1").version == COMMIT
    assert resolve(MODEL, "v1").version == COMMIT
    assert FakeHub.asked == 1


def test_a_hub_out_of_reach_leaves_the_cache(hub, monkeypatch):
    monkeypatch.setattr(FakeHub, "answer", ConnectionError("no route"))
    with pytest.raises(UsageError, match=r"cannot be reached \(ConnectionError\)"):
        resolve(MODEL)
    remember_ref(hub, "main", COMMIT)
    assert resolve(MODEL).version == COMMIT


@pytest.mark.parametrize(
    ("kind", "message"),
    [("RepositoryNotFoundError", "the Hub has no model"), ("RevisionNotFoundError", "no revision")],
)
def test_what_the_hub_does_not_have(hub, monkeypatch, kind, message):
    from huggingface_hub import errors

    error = getattr(errors, kind).__new__(getattr(errors, kind))
    monkeypatch.setattr(FakeHub, "answer", error)
    remember_ref(hub, "main", COMMIT)  # an old copy must not hide a mistake
    with pytest.raises(UsageError, match=message):
        resolve(MODEL)


def test_vllm_is_not_imported():
    program = (
        "import sys; from workers.backends.core.weights import resolve; "
        f"resolve({MODEL!r}, {COMMIT!r}); sys.exit('vllm' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0
