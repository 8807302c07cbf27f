"""Damage is not confused with a failing disk, and what it took along is no longer committed."""

from __future__ import annotations

import errno
import os

import pytest

from agents.core.errors import StoreError
from sweeps.storage import parts
from sweeps.storage.folder import LocalFolder
from tests.workers.results.test_bundles import TURN, episode, live
from tests.workers.results.test_compaction import Lease, rows_of
from workers.results import bundles
from workers.results.bundles import BundleWriter
from workers.results.compaction import compact, rewrite
from workers.results.repair import repair_folder


def bundle(folder, numbers, epoch=1, writer="w000"):
    """Episodes of one turn and no calls."""
    rows = [episode(n, driver_epoch=epoch, calls=0) for n in numbers]
    turns = [{**TURN, "attempt_id": r["attempt_id"], "turn": t} for r in rows for t in (0, 1)]
    BundleWriter(folder, epoch, writer).write({"turns": turns, "episodes": rows})


def flip_a_bit(path) -> None:
    """Of the first page that zstd has packed."""
    content = bytearray(path.read_bytes())
    content[content.index(b"\x28\xb5\x2f\xfd") + 12] ^= 1
    path.write_bytes(content)


def test_one_bit_in_a_page_is_seen_where_it_is_read_and_where_parts_are_merged(tmp_path):
    for number in range(3):
        bundle(tmp_path, [2 * number, 2 * number + 1], writer=f"w{number}")
    folder = LocalFolder(tmp_path)
    flip_a_bit(tmp_path / "episodes" / "000001-w0-000001.parquet")
    flip_a_bit(tmp_path / "turns" / "000001-w2-000001.parquet")
    assert repair_folder(folder, Lease()).damaged == []  # footers are whole
    with pytest.raises(parts.PartDamaged, match=r"w0-000001\.parquet is damaged") as e:
        bundles.committed(tmp_path)
    assert repair_folder(folder, Lease(), [e.value.name]).damaged == [
        "episodes/000001-w0-000001.parquet"
    ]
    assert bundles.committed(tmp_path) == {"e2", "e3", "e4", "e5"}
    before = rows_of(tmp_path, "episodes")
    with pytest.raises(parts.PartDamaged) as e:
        compact(folder, Lease())
    assert rows_of(tmp_path, "episodes") == before
    found = repair_folder(folder, Lease(), [e.value.name])
    assert found == (["turns/000001-w2-000001.parquet"], {"episode": 2})
    assert bundles.committed(tmp_path) == {"e2", "e3"}
    assert compact(folder, Lease()) > 0
    assert bundles.committed(tmp_path) == {"e2", "e3"}


@pytest.mark.parametrize("merged", [False, True])
def test_what_has_no_part_with_its_turns_any_more_is_no_longer_committed(tmp_path, merged):
    folder = LocalFolder(tmp_path)
    for epoch in (1, 2):
        for number in (1, 2):
            numbers = [10 * epoch + number, 10 * epoch + number + 5]
            bundle(tmp_path, numbers, epoch, writer=f"w{number}")
        if merged:
            for table in ("turns", "episodes"):
                group = [n for n in parts.live(folder, table) if not parts.is_compacted(n)]
                rewrite(folder, table, group, Lease(epoch))
    assert repair_folder(folder, Lease()) == ([], {})
    first = live(tmp_path, "turns")[0]
    first.unlink()
    lost = {"e11", "e12", "e16", "e17"} if merged else {"e11", "e16"}
    assert repair_folder(folder, Lease(3)) == ([], {"episode": len(lost)})
    everything = {f"e{10 * e + n + m}" for e in (1, 2) for n in (1, 2) for m in (0, 5)}
    assert bundles.committed(tmp_path) == everything - lost
    assert repair_folder(folder, Lease(3)) == ([], {})


@pytest.mark.parametrize("lasting", [True, False])
def test_a_disk_that_fails_is_no_damage(tmp_path, monkeypatch, lasting):
    bundle(tmp_path, [1])
    before = live(tmp_path, "episodes")
    real = LocalFolder.open

    def failing(folder, name):
        if not lasting:
            monkeypatch.setattr(LocalFolder, "open", real)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(LocalFolder, "open", failing)
    with pytest.raises(StoreError, match="cannot be read: Input/output error") as found:
        parts.footer_of(LocalFolder(tmp_path), f"episodes/{before[0].name}")
    assert not isinstance(found.value, parts.PartDamaged)
    monkeypatch.setattr(LocalFolder, "open", real)
    assert live(tmp_path, "episodes") == before
