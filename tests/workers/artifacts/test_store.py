"""The artifact store: whole or not there, one content a key, damage found."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as np_arrays

from agents.core.artifacts import Content
from agents.core.errors import StoreError
from workers.artifacts import store as module
from workers.artifacts.store import About, ArtifactDamaged, ArtifactDiffers, ArtifactStore

CONTENT = Content({"names": ["a", "b"]}, {"vectors": np.arange(6, dtype=np.float32).reshape(2, 3)})


def about(key="k1", **more):
    return About(key=key, digest="", arrays=[], title="knn on films, seed 0", **more)


def keys_in(store):
    return sorted(path.name for path in store.folder.iterdir())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=3), below),
    max_leaves=8,
)
ARRAYS = st.dictionaries(
    st.sampled_from(["a", "items", "vectors"]),
    np_arrays.arrays(
        st.sampled_from([np.float32, np.int64, np.bool_]),
        np_arrays.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=3),
    ),
)


@settings(max_examples=40)
@given(data=st.dictionaries(st.text(max_size=3), JSON), found=ARRAYS)
def test_any_content_comes_back_with_its_digest(tmp_path_factory, data, found):
    store = ArtifactStore(tmp_path_factory.mktemp("store"))
    kept, content = store.keep(about(), Content(data, found))
    assert kept.digest == Content(data, found).digest() == content.digest()
    assert {name: a.dtype for name, a in content.arrays.items()} == {
        name: a.dtype for name, a in found.items()
    }
    assert keys_in(store) == ["k1"]


def test_numbers_as_keys_and_tuples_read_as_json_has_them(tmp_path):
    store = ArtifactStore(tmp_path / "new" / "folder")
    _, content = store.keep(about(), Content({"of": {10: (1,), 9: (2,)}}))
    assert content.data == {"of": {"10": [1], "9": [2]}}
    assert store.find("k1") is not None


def test_arrays_are_mapped_and_cannot_be_changed(tmp_path):
    _, content = ArtifactStore(tmp_path).keep(about(), CONTENT)
    assert isinstance(content.arrays["vectors"], np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        content.arrays["vectors"][0, 0] = 1


def test_prompts_and_replies_can_be_read_with_what_they_made(tmp_path):
    row = {
        "attempt_id": "k1.1.0", "turn": 0, "role": "agent.tree", "step": "group", "draw": 0,
        "reask": 0, "model": "m", "request_key": "r", "seed": 1, "input_tokens": 2,
        "output_tokens": 3, "thinking_tokens": None, "finish_reason": "stop", "valid": True,
        "cached": False, "retries": 0, "error_class": None, "error": None, "started": 1.0,
        "seconds": 0.5, "prompt": "[]", "reply": "{}", "thinking": None, "fingerprint": None,
    }  # fmt: skip
    ArtifactStore(tmp_path).keep(about(), CONTENT, [row])
    [read] = pq.read_table(tmp_path / "k1" / "calls.parquet").to_pylist()
    assert {name: read[name] for name in row} == row


def test_of_two_that_make_the_same_at_once_the_first_wins_and_equal_ones_agree(tmp_path):
    first, second = ArtifactStore(tmp_path), ArtifactStore(tmp_path)
    kept, _ = first.keep(about(seconds=1.0), CONTENT)
    again, _ = second.keep(about(seconds=2.0), CONTENT)
    assert kept.seconds == again.seconds == 1.0
    other = Content({"names": ["a"]})
    with pytest.raises(ArtifactDiffers, match=rf"{CONTENT.digest()}, this one {other.digest()}"):
        second.keep(about(), other)
    assert keys_in(first) == ["k1"]
    found = first.find("k1")
    assert found is not None
    assert found[0].digest == CONTENT.digest()


@pytest.mark.parametrize(
    "harm",
    [
        lambda path: (path / "vectors.npy").unlink(),
        lambda path: (path / "data.json").write_text("{"),
        lambda path: (path / "data.json").write_text('{"names": ["a", "c"]}'),
        lambda path: (path / "artifact.json").unlink(),
        lambda path: (path / "artifact.json").write_text("{}"),
        lambda path: (path / "vectors.npy").write_bytes(b""),
        lambda path: (path / "vectors.npy").write_bytes(
            (path / "vectors.npy").read_bytes()[:-1] + b"x"
        ),
    ],
)
def test_damage_is_found_named_and_set_aside(tmp_path, harm):
    store = ArtifactStore(tmp_path)
    store.keep(about(), CONTENT)
    harm(tmp_path / "k1")
    with pytest.raises(ArtifactDamaged, match=r"k1 is damaged: "):
        store.find("k1")
    aside = store.set_aside("k1")
    assert store.find("k1") is None
    assert aside.is_dir()
    assert store.keep(about(), CONTENT)[0].digest == CONTENT.digest()


def test_another_format_is_refused_and_not_called_damaged(tmp_path):
    store = ArtifactStore(tmp_path)
    store.keep(about(), CONTENT)
    path = tmp_path / "k1" / "artifact.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 9}))
    with pytest.raises(StoreError, match="has format 9; this crsweep reads 1") as refused:
        store.find("k1")
    assert not isinstance(refused.value, ArtifactDamaged)


def test_the_latest_whole_state_is_found_and_states_go_in_the_end(tmp_path):
    store = ArtifactStore(tmp_path)
    assert store.state("k1") is None
    for epoch in range(3):
        store.save_state("k1", Content({"epoch": epoch}), seconds=epoch + 0.5)
    about, state = store.state("k1")
    assert (about.seconds, state) == (2.5, Content({"epoch": 2}, {}))
    [path] = (tmp_path / "k1.state").iterdir()
    (path.parent / "99999999999999999999").mkdir()
    assert store.state("k1") == (about, state)
    store.drop_states("k1")
    assert store.state("k1") is None
    assert store.find("k1") is None


def test_artifacts_of_one_recipe_and_data_are_found_whatever_their_seed(tmp_path):
    store = ArtifactStore(tmp_path)
    assert ArtifactStore(tmp_path / "missing").alike("fit", {}, "d") == []
    recipe = {"name": "r", "sizes": (1, 2)}
    same = {"kind": "fit", "recipe": {"name": "r", "sizes": [1, 2]}, "domain": "d"}
    store.keep(about("k1", seed=7, seconds=2.0, **same), CONTENT)
    store.keep(about("k2", seed=3, seconds=4.0, **same), CONTENT)
    store.keep(about("k3", **{**same, "recipe": {"name": "other"}}), CONTENT)
    store.keep(about("k4", **{**same, "domain": "e"}), CONTENT)
    store.keep(about("k5", seed=4, **same), CONTENT)
    (tmp_path / "k5" / "artifact.json").write_text("{")
    store.save_state("k6", CONTENT, seconds=1.0)
    found = store.alike("fit", recipe, "d")
    assert [(one.key, one.seed, one.seconds) for one in found] == [("k2", 3, 4.0), ("k1", 7, 2.0)]


def test_a_state_that_is_no_longer_needed_is_no_error(tmp_path, monkeypatch):
    store, other = ArtifactStore(tmp_path), ArtifactStore(tmp_path)
    rename = module._rename

    def meanwhile(aside, path):
        other.drop_states("k1")
        rename(aside, path)

    monkeypatch.setattr(module, "_rename", meanwhile)
    store.save_state("k1", CONTENT, seconds=0.0)
    assert store.state("k1") is None


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"file/k1 cannot be written: "):
        ArtifactStore(tmp_path / "file").keep(about(), CONTENT)


WRITE_FOR_EVER = """
import sys
from pathlib import Path
from tests.workers.artifacts.test_store import CONTENT, about
from workers.artifacts.store import ArtifactStore
store = ArtifactStore(Path(sys.argv[1]))
for n in range(100000):
    store.keep(about(f"k{n}"), CONTENT)
    print(n, flush=True)
"""


def test_after_sigkill_every_artifact_that_is_there_is_whole(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", WRITE_FOR_EVER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for _ in range(25):
        last = int(process.stdout.readline())
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    store = ArtifactStore(tmp_path)
    names = [name for name in keys_in(store) if not name.startswith(".")]
    assert {f"k{n}" for n in range(last + 1)} <= set(names)
    for name in names:
        assert store.find(name) is not None
