"""Online memory that grows: a stream of 60 dialogues is the same however it is run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from sweeps.streams import Chain
from tests.fixtures_amazon_2023 import (
    path_of,
    price_of,
    product,
    profiles_of,
    rows,
    write_amazon_2023,
    write_profiles,
)
from tests.runner.processes import kill, run_for_several, wait_for
from tests.runner.reading import outcomes, prompts, raw, words
from tests.sweep_files import plan_of, write_sweep

USERS = 60
USER = "tests.persuadable_user"


def sweep(folder: Path, *, batch: int = 1, **changes: Any) -> Path:
    folder.mkdir()
    data = folder.parent / "data"
    if not data.exists():
        reviews = rows(users=USERS)
        items = sorted({row.item for row in reviews})
        # The rules persuade where titles say what the user asks for.
        products = [product(item, title=f"{path_of(item)[-1]} No. {item[1:]}") for item in items]
        write_amazon_2023(data, reviews, products)
        users = sorted({row.user for row in reviews})
        write_profiles(data / "profiles.jsonl", profiles_of(users))
    given: dict[str, Any] = {
        "domain": {
            "name": "amazon_2023",
            "path": str(data),
            "profiles": str(data / "profiles.jsonl"),
            "train_users": 0,
        },
        "cases": {},
        "simulator": USER,
        "models": {"m": {"backend": "rules"}},
        "roles": {"agent": "m"},
        "limits": {"max_turns": 4, "shown_items": 3},
        "grid": {"agent": [{"name": "csi", "memory": {"kind": "online"}, "memory_batch": batch}]},
        "metrics": ["swr"],
        "run": {"executor": "local", "concurrency": 32},
        **changes,
    }
    return write_sweep(folder, **given)


def chain_of(path: Path) -> Chain:
    [chain] = plan_of(path).chains()
    return chain


def same(out: Path, other: Path) -> None:
    """All that was said, bought, recorded and asked, and the memory of every dialogue."""
    assert digests(out) == digests(other)
    assert outcomes(out) == outcomes(other)
    assert words(out) == words(other)
    assert prompts(out) == prompts(other)


def digests(out: Path) -> dict[str, str]:
    """Episode -> digest of the memory that it was played with."""
    episodes = raw(out, "episodes")
    assert set(episodes.status) == {"done"} and len(episodes) == USERS
    return {
        episode: artifacts["memory"]
        for episode, artifacts in zip(episodes.episode_id, episodes.artifacts, strict=True)
    }


def entries_before(out: Path, batches: Sequence[Sequence[Any]]) -> dict[str, int]:
    """Episode -> how many sales above the budget the batches before its own made, by pandas."""
    turns = raw(out, "turns").merge(raw(out, "episodes")[["attempt_id", "episode_id"]])
    sold = turns[turns.user_extra.fillna("").str.contains('"over_budget":true')]
    argued = turns[turns.action == "persuade"]
    assert set(sold.episode_id) <= set(argued.episode_id)
    found, known = {}, 0
    for batch in batches:
        ids = [link.episode_id for link in batch]
        found |= dict.fromkeys(ids, known)
        known += int(sold.episode_id.isin(ids).sum())
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory, fork_server) -> Path:
    """The sweep file of a stream that was run at once. Its folder is not to be changed."""
    path = sweep(tmp_path_factory.mktemp("csi") / "whole")
    run_for_several(fork_server, path)
    return path


def test_the_memory_grows_with_each_sale_above_the_budget_and_is_used(whole):
    out = whole.parent / "out"
    order = [link for [link] in chain_of(whole).batches]
    known, digest = entries_before(out, [[link] for link in order]), digests(out)
    assert 20 < known[order[-1].episode_id] < USERS  # it has grown, but not in every dialogue
    grown = pd.Series([known[link.episode_id] for link in order])
    # A digest is another one exactly where an entry came.
    kept = pd.Series([digest[link.episode_id] for link in order])
    assert (kept.ne(kept.shift())[1:] == grown.diff().gt(0)[1:]).all()
    turns = raw(out, "turns").merge(raw(out, "episodes")[["attempt_id", "episode_id"]])
    recalled = 0
    for turn in turns[turns.action == "persuade"].itertuples():
        places = json.loads(turn.extra)["recalled"]
        assert len(places) == min(3, known[turn.episode_id])
        recalled += len(places)
        assert all(place < known[turn.episode_id] for place in places)
    assert recalled > 0
    bought = turns[turns.user_extra.fillna("").str.contains('"over_budget":true')]
    assert all(price_of(item) > 19.99 for item in bought.accepted_item)


@pytest.mark.ray
def test_ray_and_another_hash_seed_give_the_same_stream(whole, crsweep):
    run = {"executor": "ray", "episode_workers": 2, "concurrency": 8}
    path = sweep(whole.parent.parent / "ray", run=run)
    crsweep("run", path, PYTHONHASHSEED="77")
    same(path.parent / "out", whole.parent / "out")


def test_another_hash_seed_gives_the_same_stream(whole, crsweep):
    path = sweep(whole.parent.parent / "hash")
    crsweep("run", path, PYTHONHASHSEED="1")
    same(path.parent / "out", whole.parent / "out")


def test_a_run_that_is_killed_in_mid_chain_continues_with_the_same_memory(whole, crsweep, start):
    order = [link for [link] in chain_of(whole).batches]
    half = USERS // 2
    stopping = {"name": USER, "stops_in": order[half].case_id}
    path = sweep(whole.parent.parent / "killed", simulator=stopping)
    out = path.parent / "out"
    process = start(path)
    wait_for(lambda: len(list((out / "episodes").glob("*.parquet"))) >= half, process, "half of it")
    kill(process)
    before = outcomes(out)
    assert set(before) == {link.episode_id for link in order[:half]}
    known = entries_before(whole.parent / "out", [[link] for link in order])
    assert known[order[half].episode_id] > 5  # which the resumed run reads from stored dialogues
    crsweep("run", path, "simulator.stops_in=''", "--wait-for-lease", "60", PYTHONHASHSEED="2")
    same(out, whole.parent / "out")
    assert before.items() <= outcomes(out).items()


def test_batches_of_ten_need_a_fifth_of_the_time_that_models_take(whole, crsweep):
    """With a fixed latency a batch takes as long as its dialogue of most calls."""
    path = sweep(whole.parent.parent / "batches", batch=10)
    crsweep("run", path)
    out = path.parent / "out"
    batches = chain_of(path).batches
    assert [len(batch) for batch in batches] == [10] * 6
    known, digest = entries_before(out, batches), digests(out)
    assert len({digest[link.episode_id] for link in batches[0]}) == 1
    assert len({digest[batch[0].episode_id] for batch in batches}) == 6
    assert known[batches[-1][0].episode_id] > 10
    calls = {row.episode_id: row.calls for row in raw(out, "episodes").itertuples()}
    one_by_one = sum(row.calls for row in raw(whole.parent / "out", "episodes").itertuples())
    at_once = sum(max(calls[link.episode_id] for link in batch) for batch in batches)
    assert one_by_one >= 5 * at_once
