"""A shard of a run's cache: what it recovers, what it seals, and which files go when."""

import asyncio

import psutil
import pytest

from agents.core.calls import Completion
from agents.core.errors import StoreError
from tests.workers.cache.test_segments import damage
from workers.cache import journal, segments
from workers.cache.client import CallCache, in_process
from workers.cache.entries import KEY, Damage, encode
from workers.cache.owner import CallOwner
from workers.cache.store import CallStore, Places, settle, tidy


def places(folder, mode="readwrite", epoch=1, shards=1):
    shared = None if mode == "off" else folder / "shared"
    return Places(folder / "sweep", shared, mode == "readwrite", epoch, shards)


def key(number):
    return number.to_bytes(KEY, "little")


def entry(number, text=""):
    return key(number), encode(Completion(text or f"reply {number}", "stop"))


def keep(store, *entries):
    store.write(entries)
    store.index(entries)


def found(store, numbers=range(100)):
    return store.find([key(n) for n in numbers])


def all_of(*numbers):
    return dict(map(entry, numbers))


@pytest.mark.parametrize("mode", ["readwrite", "read", "off"])
def test_what_was_written_is_found_again_after_a_kill_in_any_mode(tmp_path, mode):
    store = CallStore(places(tmp_path, mode), 0)
    keep(store, entry(1), entry(2))
    keep(store, entry(3))
    again = CallStore(places(tmp_path, mode, epoch=2), 0)  # the first one was never closed
    assert found(again) == all_of(1, 2, 3)
    assert again.recovered == 3


def test_every_shard_recovers_its_own_whatever_the_number_of_shards_was(tmp_path):
    for shard in range(2):
        store = CallStore(places(tmp_path, shards=2), shard)
        keep(store, *(entry(n) for n in range(20) if n % 2 == shard))
    stores = [CallStore(places(tmp_path, shards=3), shard) for shard in range(3)]
    assert [set(found(store)) for store in stores] == [
        {key(n) for n in range(20) if n % 3 == shard} for shard in range(3)
    ]


def test_the_later_of_two_entries_counts_also_after_a_restart(tmp_path):
    for text in ("first", "second", "third"):
        keep(CallStore(places(tmp_path), 0), entry(1, text))
    assert found(CallStore(places(tmp_path), 0)) == dict([entry(1, "third")])


def test_what_is_sealed_is_shared_and_journals_stay_until_the_sweep_is_complete(tmp_path):
    here_, there = places(tmp_path), places(tmp_path / "other")
    there = Places(there.folder, here_.shared, True, 1, 1)
    store = CallStore(here_, 0)
    keep(store, entry(1))
    store.seal()
    keep(store, entry(2))
    assert found(store) == all_of(1, 2)
    assert found(CallStore(there, 0)) == all_of(1)
    store.close()
    tidy(here_, complete=False)
    assert journal.files(here_.folder)
    tidy(here_, complete=True)
    assert not journal.files(here_.folder)


def test_a_resumed_run_does_not_seal_again_what_is_sealed(tmp_path):
    store = CallStore(places(tmp_path), 0)
    keep(store, entry(1), entry(2))
    store.seal()
    again = CallStore(places(tmp_path, epoch=2), 0)
    assert again.recovered == 0
    keep(again, entry(3))
    again.seal()
    sizes = [health.entries for health in segments.verify(tmp_path / "shared")]
    assert sorted(sizes) == [1, 2]
    again.seal()
    assert len(segments.paths(tmp_path / "shared")) == 2


@pytest.mark.parametrize("mode", ["read", "off"])
def test_only_readwrite_adds_to_what_is_shared(tmp_path, mode):
    store = CallStore(places(tmp_path), 0)
    keep(store, entry(1))
    store.seal()
    other = Places(tmp_path / "b", places(tmp_path, mode).shared, False, 1, 1)
    store = CallStore(other, 0)
    assert found(store) == (all_of(1) if mode == "read" else {})
    keep(store, entry(2))
    store.seal()
    assert len(segments.paths(tmp_path / "shared")) == 1


def test_a_damaged_sealed_entry_is_recovered_from_the_journal(tmp_path):
    store = CallStore(places(tmp_path), 0)
    keep(store, entry(1), entry(2))
    store.seal()
    (path,) = segments.paths(tmp_path / "shared")
    damage(path, b"reply 1")
    assert found(CallStore(places(tmp_path, epoch=2), 0)) == all_of(1, 2)


def test_what_is_damaged_is_counted_once_it_is_paid_again(tmp_path):
    store = CallStore(places(tmp_path), 0)
    keep(store, *map(entry, range(5)))
    store.seal()
    (path,) = segments.paths(tmp_path / "shared")
    damage(path, b"reply 1")
    damage(path, b"reply 2")
    (tmp_path / "shared" / "0.segment").write_bytes(b"nonsense" * 100)
    other = CallStore(Places(tmp_path / "b", tmp_path / "shared", True, 1, 1), 0)
    assert other.damage() == Damage(0, frozenset([str(tmp_path / "shared" / "0.segment")]))
    assert not found(other, [1, 2])
    keep(other, entry(1), entry(7))
    assert other.damage().calls == 1
    recovered = CallStore(places(tmp_path, epoch=2), 0)  # its journal still has them
    assert found(recovered) == all_of(*range(5))
    assert not recovered.damage().calls


def test_a_damaged_journal_is_named_and_one_that_a_crash_cut_off_is_not(tmp_path):
    keep(CallStore(places(tmp_path), 0), entry(1), entry(2))
    (path,) = journal.files(tmp_path / "sweep")
    whole = path.read_bytes()
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        assert not journal_damage(path)
    for place in (len(whole) - 1, len(whole) // 2 - 1, 1):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert journal_damage(path) == {path}
    assert CallStore(places(tmp_path, epoch=2), 0).damage() == Damage(0, frozenset([str(path)]))


def journal_damage(path):
    damaged = set()
    for _ in journal.read(path, damaged):
        pass
    return damaged


def test_a_finished_sweep_whose_run_was_killed_before_it_sealed_is_settled(tmp_path):
    for shard in range(2):
        keep(CallStore(places(tmp_path, shards=2), shard), entry(shard))
    settle(places(tmp_path, epoch=2, shards=2))
    assert not journal.files(tmp_path / "sweep")
    assert [health[1:] for health in segments.verify(tmp_path / "shared")] == [(2, 0, "")]


def test_nothing_of_an_index_is_left_behind_by_a_kill(tmp_path, monkeypatch):
    monkeypatch.setenv("SQLITE_TMPDIR", str(tmp_path))
    store = CallStore(places(tmp_path / "run"), 0)
    for start in range(0, 20_000, 1000):  # more than fits its memory
        keep(store, *(entry(n, "x" * 2000) for n in range(start, start + 1000)))
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert len(found(store, range(20_000))) == 20_000


def test_a_journal_that_cannot_be_read_is_named(tmp_path):
    folder = tmp_path / "sweep" / "journal" / "1.calls"
    folder.mkdir(parents=True)
    with pytest.raises(StoreError, match=r"cannot read .*1\.calls"):
        CallStore(places(tmp_path), 0)


def test_calls_that_seal_and_search_at_once_lose_nothing(tmp_path):
    """Searched on the event loop, sealed in a thread."""

    async def go():
        owner = CallOwner(CallStore(places(tmp_path), 0))
        cache = CallCache([in_process(owner)])

        async def call(number):
            async def make():
                return Completion(f"reply {number}", "stop")

            return await cache.reply(key(number), None, make)

        for start in range(0, 2000, 200):
            tasks = [call(n) for n in range(max(0, start - 200), start + 200)]
            sealing = asyncio.create_task(owner.seal())
            replies = await asyncio.gather(*tasks)
            await sealing
            assert sum(reply.cached for reply in replies) == (200 if start else 0)
        await owner.seal()
        cache.close()
        owner.close()

    asyncio.run(go())
    healths = list(segments.verify(tmp_path / "shared"))
    assert sum(health.entries for health in healths) == 2000
    assert not any(health.damaged or health.fault for health in healths)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "sweep").touch()
    with pytest.raises(StoreError, match="cannot write"):
        CallStore(places(tmp_path), 0)


def test_files_are_closed(tmp_path):
    before = psutil.Process().num_fds()
    for epoch in range(20):
        store = CallStore(places(tmp_path, epoch=epoch), 0)
        keep(store, entry(epoch))
        store.seal()
        store.close()
        tidy(places(tmp_path), complete=True)
    assert psutil.Process().num_fds() <= before
