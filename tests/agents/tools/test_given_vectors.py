"""Dense retrieval with the items' vectors from a file."""

import asyncio
import hashlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.chatcrs_sales import ChatCRSSales
from agents.core.agent import Agent
from agents.core.errors import DataError, ModelUnavailable
from agents.core.items import Catalogue, Interactions, TrainingData
from agents.core.memory import MEMORY
from agents.core.vector_files import VectorFile
from agents.csi import CSI
from agents.intercrs import InterCRS
from agents.macrs import MACRS
from agents.pc_crs import PCCRS
from agents.recommenders.core import best
from agents.rso import RSO
from agents.tools.retrieval import ITEM_VECTORS, Dense, GivenItemVectors
from runner.rehearsal.dialogues import rehearse
from simulators.domains.synthetic import Synthetic
from sweeps.schema import PluginRef
from tests.agents.csi.harness import CATALOGUE, ITEMS
from tests.agents.playing import prompts_of
from tests.fakes import FakeModel, make_ask
from tests.sweep_files import plan_of, write_sweep
from workers.artifacts.fits import FitSpec, fit_steps

IDS = [item.id for item in ITEMS]
DENSE: list[tuple[type[Agent], dict[str, Any]]] = [
    (CSI, {}),
    (ChatCRSSales, {}),
    (PCCRS, {}),
    (RSO, {}),
    (InterCRS, {}),
    (MACRS, {"sales": True}),
]


def ask():
    return make_ask(FakeModel(lambda texts: None), prompts_of("agents", "csi"))


def data_of(catalogue: Catalogue) -> TrainingData:
    none = np.zeros(0, np.int32)
    interactions = Interactions((), none, none, np.zeros(0, np.int64))
    return TrainingData(len(catalogue), interactions, none, catalogue)


def file_of(path: Path, sha256: str | None = None, **changed: Any) -> VectorFile:
    """A file of vectors (12, 2) of other lengths than 1: four are of no item, the rest reversed."""
    rng = np.random.default_rng(3)
    arrays: dict[str, Any] = {
        "item_ids": np.array([*IDS, "w", "x", "y", "z"][::-1]),
        "items": rng.standard_normal((12, 2)) * 5,
        "models": np.array(["t5"]),
        **changed,
    }
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return VectorFile(path=path, sha256=sha256 or hashlib.sha256(path.read_bytes()).hexdigest())


def read(file: VectorFile) -> np.ndarray:
    recipe = GivenItemVectors(file)
    [step] = recipe.fit(data_of(CATALOGUE), seed=0)
    assert step.result is not None
    return recipe.load(step.result, CATALOGUE)


def test_found_items_are_those_of_a_product_with_the_file(tmp_path):
    file = file_of(tmp_path / "v.npz")
    with np.load(file.path) as arrays:
        given = dict(zip(arrays["item_ids"].tolist(), arrays["items"], strict=True))
    retriever = Dense(CATALOGUE, read(file))
    for query in ("", "a", "blue denim", "a leather slide for the beach"):
        asked = np.array([len(query), 1.0])  # as the fake embeds it
        cosines = {
            name: given[name] @ asked / np.linalg.norm(given[name]) / np.linalg.norm(asked)
            for name in IDS
        }
        scores = asyncio.run(retriever.by_query(query, ask()))
        assert scores == pytest.approx([cosines[name] for name in IDS], abs=1e-6)
        found = [IDS[place] for place in best(scores, 8, among=np.ones(8, bool))]
        assert found == sorted(IDS, key=lambda name: -cosines[name])
    scores = asyncio.run(retriever.by_item(ITEMS[3]))
    own = given[IDS[3]] / np.linalg.norm(given[IDS[3]])
    assert scores == pytest.approx(
        [own @ given[name] / np.linalg.norm(given[name]) for name in IDS], abs=1e-6
    )


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"sha256": "0" * 64}, r"found a file with the SHA-256 \w+, expected 0000"),
        ({"items": None}, "items is not a file in the archive; expected items, item_ids"),
        ({"item_ids": np.array(list("abcdefghijkl"))}, "8 of 8 items have no vector, the first is"),
        ({"item_ids": np.array([*IDS, "w", "x", "y", "y"])}, "strings without duplicates"),
        ({"items": np.ones((7, 2))}, r"items has the shape \(7, 2\)"),
        ({"items": np.ones(12)}, r"items has the shape \(12,\)"),
        ({"items": np.ones((12, 2), np.int64)}, "the type int64, expected floats"),
        ({"items": np.full((12, 2), np.inf)}, "not finite"),
        ({"items": np.full((12, 2), 1e300)}, "not finite in float32"),
        ({"items": np.array([object()] * 12)}, "without pickled objects"),
        ({"item_ids": np.array([*IDS, *"wxyz"], object)}, "without pickled objects"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_in_one_line(tmp_path, changed, message):
    with pytest.raises(DataError, match=message) as error:
        read(file_of(tmp_path / "v.npz", **changed))
    assert str(tmp_path / "v.npz") in error.value.message
    assert "\n" not in error.value.message


@pytest.mark.parametrize("content", [b"", b"not a zip", None])
def test_a_file_of_another_kind_is_refused(tmp_path, content):
    path = tmp_path / "v.npz"
    if content is not None:
        path.write_bytes(content)
    sha256 = hashlib.sha256(content or b"").hexdigest()
    with pytest.raises(DataError, match=r"v\.npz is not an \.npz file without pickled objects"):
        read(VectorFile(path=path, sha256=sha256))


def test_a_query_of_another_width_stops_the_run_with_one_line(tmp_path):
    file = file_of(tmp_path / "v.npz", items=np.ones((12, 3)))
    retriever = Dense(CATALOGUE, read(file))
    expected = r"'agent\.retriever' embeds queries in 2 dimensions, the vectors of the items have 3"
    with pytest.raises(ModelUnavailable, match=expected):
        asyncio.run(retriever.by_query("blue denim", ask()))


@pytest.mark.parametrize(("agent", "others"), DENSE)
def test_the_digest_identifies_the_file_and_its_path_does_not(tmp_path, agent, others):
    def options(**file: Any):
        return agent.Options(**others, retriever="dense", vectors=file)

    here = options(path=tmp_path / "v.npz", sha256="a" * 64)
    moved = options(path=tmp_path / "w.npz", sha256="a" * 64)
    other = options(path=tmp_path / "v.npz", sha256="b" * 64)
    assert here.identity()["vectors"] == {"sha256": "a" * 64}
    assert here.identity() == moved.identity() != other.identity()
    recipe = agent.needs(here)[ITEM_VECTORS]
    assert recipe.identity() == agent.needs(moved)[ITEM_VECTORS].identity()
    assert recipe.identity() != agent.needs(other)[ITEM_VECTORS].identity()
    assert "agent.retriever" in agent.roles_of(here)  # it embeds the queries
    assert pickle.loads(pickle.dumps(recipe)) == recipe


@pytest.mark.parametrize(("agent", "others"), DENSE)
def test_a_file_needs_dense_retrieval(tmp_path, agent, others):
    file = {"path": tmp_path / "v.npz", "sha256": "a" * 64}
    with pytest.raises(ValueError, match="`vectors` needs `retriever: dense`, found 'lexical'"):
        agent.Options(**others, retriever="lexical", vectors=file)
    for wrong in ({"path": "v.npz"}, {"sha256": "a" * 64}, {**file, "sha256": "A" * 64}):
        with pytest.raises(ValueError, match=r"vectors\.(path|sha256)"):
            agent.Options(**others, retriever="dense", vectors=wrong)


def test_macrs_without_sales_takes_no_file(tmp_path):
    file = {"path": tmp_path / "v.npz", "sha256": "a" * 64}
    with pytest.raises(ValueError, match="`vectors` needs `sales: true`"):
        MACRS.Options(retriever="dense", vectors=file)


def test_a_sweep_is_rehearsed_without_the_file_and_does_not_depend_on_its_path(tmp_path):
    def planned(path: str):
        agent = {
            "name": "csi",
            "retriever": "dense",
            "vectors": {"path": path, "sha256": "a" * 64},
            "memory": {"kind": "offline", "size": 1},
        }
        return plan_of(
            write_sweep(
                tmp_path,
                simulator="csuser",
                roles={"user": "strong", "agent": "strong"},
                grid={"agent": [agent], "seed": [0]},
                limits={"max_turns": 3, "shown_items": 3, "episode_tokens": 10**6},
            )
        )

    plan, moved = planned("one.npz"), planned("/elsewhere/two.npz")
    assert list(plan.artifacts) == list(moved.artifacts)
    assert [cell.cell_id for cell in plan.cells] == [cell.cell_id for cell in moved.cells]
    assert {artifact.name for artifact in plan.artifacts.values()} == {ITEM_VECTORS, MEMORY}
    attempts = list(rehearse(plan, [0], 2))
    assert [attempt.error for attempt in attempts] == [None, None]
    roles = [record.call.role for attempt in attempts for record in attempt.journal.records]
    assert "agent.retriever" in roles


def test_the_file_is_read_for_the_catalogue_of_a_domain(tmp_path):
    options = {"items": 20, "users": 6, "history": 5}
    domain = Synthetic(Synthetic.Options(**options))
    ids = [item.id for item in domain.catalogue.items]
    vectors = np.random.default_rng(0).standard_normal((20, 4)).astype(np.float32)
    file = file_of(tmp_path / "v.npz", item_ids=np.array(ids[::-1]), items=vectors[::-1])
    spec = FitSpec(GivenItemVectors(file), PluginRef(name="synthetic", **options), 0, 60)
    *_, last = fit_steps(spec, None)
    assert last.result is not None
    found = last.result.arrays["vectors"]
    assert found == pytest.approx(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
