"""What sweeps share: merged, pruned, damaged and half-written files never give a wrong reply."""

import contextlib
import errno
import os
import sqlite3
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.core.calls import Completion
from agents.core.errors import StoreError
from workers.cache import segments
from workers.cache.entries import KEY, checksum, encode
from workers.cache.segments import (
    MOST,
    SegmentRow,
    SegmentTable,
    merge,
    open_all,
    paths,
    prune,
    verify,
    write,
)


def key(number):
    return number.to_bytes(KEY, "big")


def row(number, text="", stored=1000):
    data = encode(Completion(text or f"reply {number}", "stop"))
    return SegmentRow(key(number), data, checksum(key(number), data), stored)


def rows_of(folder):
    """Every entry that a lookup can find."""
    found = {}
    for table in reversed(open_all(folder)):
        found.update({each.key: each for each in table.rows()})
        table.close()
    return found


def sealed(folder, *rows):
    path = write(folder, sorted(rows))
    assert path is not None
    return path


def damage(path, what):
    """Overwrites bytes of the file where `what` is."""
    data = path.read_bytes()
    assert data.count(what) == 1
    path.write_bytes(data.replace(what, what[:-1] + bytes([what[-1] ^ 1])))


def test_what_was_sealed_is_found_and_the_rest_is_not(tmp_path):
    sealed(tmp_path, *map(row, range(0, 3000, 2)))
    (table,) = open_all(tmp_path)
    found = table.find([key(n) for n in range(3000)])
    assert found == {row(n).key: row(n).value for n in range(0, 3000, 2)}
    assert [p.suffix for p in tmp_path.iterdir()] == [".segment"]


def test_nothing_to_seal_leaves_no_file(tmp_path):
    assert write(tmp_path, []) is None
    assert list(tmp_path.iterdir()) == []


def test_a_segment_is_opened_without_locks_and_never_changes(tmp_path):
    path = sealed(tmp_path, row(1))
    path.chmod(0o400)
    before = path.stat()
    (table,) = open_all(tmp_path)
    assert table.find([key(1)])
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        table.add([row(2)])
    table.close()
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert list(tmp_path.iterdir()) == [path]


def test_a_damaged_entry_is_a_miss_with_a_warning(tmp_path, caplog):
    path = sealed(tmp_path, row(1), row(2), row(3))
    damage(path, b"reply 2")
    (table,) = open_all(tmp_path)
    assert set(table.find([key(1), key(2), key(3)])) == {key(1), key(3)}
    assert f"{path}: the entry {key(2).hex()} is damaged" in caplog.text


@pytest.mark.parametrize("data", [b"", b"nonsense" * 1000, b"SQLite format 3\0"])
def test_a_file_of_another_kind_is_reported_and_left_out(tmp_path, caplog, data):
    sealed(tmp_path, row(1))
    (tmp_path / "00000000000000000009-aaaaaaaa.segment").write_bytes(data)
    assert len(open_all(tmp_path)) == 1
    assert "9-aaaaaaaa.segment is not a segment of the call cache" in caplog.text


def test_a_segment_of_another_format_is_left_out_and_survives_merges(tmp_path, caplog):
    other = sealed(tmp_path, row(0))
    with sqlite3.connect(other) as db:
        db.execute("PRAGMA user_version = 99")
    for number in range(1, MOST + 2):
        sealed(tmp_path, *(row(n) for n in range(number, 3 * number)))
    merge(tmp_path)
    assert other in paths(tmp_path)
    assert "entries of format 99, not 1" in caplog.text


def test_merging_keeps_every_entry_the_newest_of_each_key_and_the_large_files(tmp_path):
    large = [sealed(tmp_path, *(row(1000 * i + n) for n in range(500))) for i in range(1, 5)]
    for number in range(MOST):
        sealed(tmp_path, row(number), row(77, f"of {number}"))
    before = rows_of(tmp_path)
    merge(tmp_path)
    after = paths(tmp_path)
    assert len(after) == MOST // 2 + 1
    assert set(large) <= set(after)
    assert rows_of(tmp_path) == before
    assert rows_of(tmp_path)[key(77)] == row(77, f"of {MOST - 1}")


def test_a_few_segments_are_not_merged(tmp_path):
    for number in range(MOST):
        sealed(tmp_path, row(number))
    before = paths(tmp_path)
    merge(tmp_path)
    assert paths(tmp_path) == before


def test_a_merge_leaves_a_file_that_it_cannot_read_to_its_end_where_it_is(tmp_path, caplog):
    broken = sealed(tmp_path, *(row(n, "x" * 500) for n in range(200)))
    data = bytearray(broken.read_bytes())
    data[4096 * 10 : 4096 * 12] = b"\xff" * 8192
    broken.write_bytes(data)
    for number in range(MOST):
        sealed(tmp_path, *(row(1000 + 100 * number + n, "y" * 500) for n in range(5)))
        time.sleep(0.001)
    for _ in range(MOST // 2):  # larger ones, so that the broken one is among those to be merged
        sealed(tmp_path, *(row(5000 + n, "z" * 500) for n in range(300)))
    merge(tmp_path)
    assert broken in paths(tmp_path)
    assert f"{broken} is damaged, and stays as it is" in caplog.text
    assert len(rows_of_whole(tmp_path)) >= 8 * 5 + 300


def rows_of_whole(folder):
    found = {}
    for table in open_all(folder):
        try:
            found.update({each.key: each for each in table.rows()})
        except sqlite3.Error:
            continue
        finally:
            table.close()
    return found


def test_a_segment_that_is_merged_away_while_one_opens_all_is_found_in_its_new_place(
    tmp_path, monkeypatch
):
    for number in range(3):
        sealed(tmp_path, row(number))
    listed = segments.paths
    old = listed(tmp_path)

    def list_and_lose(folder):
        monkeypatch.setattr(segments, "paths", listed)
        segments._rewrite(folder, old[1:], lambda row: True)
        return old

    monkeypatch.setattr(segments, "paths", list_and_lose)
    tables = open_all(tmp_path)
    assert {k for t in tables for k in t.find([key(0), key(1), key(2)])} == {
        key(0), key(1), key(2)
    }  # fmt: skip


def test_an_open_segment_can_be_read_after_a_merge(tmp_path):
    for number in range(MOST + 1):
        sealed(tmp_path, row(number))
    tables = open_all(tmp_path)
    merge(tmp_path)
    assert len({k for t in tables for k in t.find([key(n) for n in range(MOST + 1)])}) == MOST + 1


def test_prune_drops_what_is_old_and_leaves_files_without_any_alone(tmp_path):
    new = sealed(tmp_path, row(1, stored=500), row(2, stored=900))
    sealed(tmp_path, row(3, stored=100), row(4, stored=500), row(5, stored=499))
    old = sealed(tmp_path, row(6, stored=1))
    assert prune(tmp_path, 500) == 3
    assert set(rows_of(tmp_path)) == {key(1), key(2), key(4)}
    assert rows_of(tmp_path)[key(4)].stored == 500
    assert new in paths(tmp_path)
    assert old not in paths(tmp_path)
    assert prune(tmp_path, 500) == 0


def test_prune_of_all_that_is_old_writes_nothing(tmp_path, monkeypatch):
    """On a full disk nothing could be written."""
    for number in range(3):
        sealed(tmp_path, row(number, stored=100), row(number + 10, stored=200))
    sealed(tmp_path, row(50, stored=100), row(51, stored=900))

    def full(*_):
        raise StoreError("database or disk is full")

    monkeypatch.setattr(segments, "write", full)
    with pytest.raises(StoreError, match="disk is full"):
        prune(tmp_path, 500)
    assert set(rows_of(tmp_path)) == {key(50), key(51)}
    monkeypatch.undo()
    assert prune(tmp_path, 500) == 1
    assert set(rows_of(tmp_path)) == {key(51)}


@pytest.mark.parametrize(
    ("before", "words"),
    [(500, "cannot write .*: unable to open"), (1000, "cannot remove .*: Read-only file system")],
)
def test_a_folder_that_is_read_only_is_one_clear_message(tmp_path, monkeypatch, before, words):
    path = sealed(tmp_path, row(1, stored=100), row(2, stored=900))

    def read_only(self, missing_ok=False):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self))

    def no_file(*_):
        raise sqlite3.OperationalError("unable to open database file")

    monkeypatch.setattr(type(path), "unlink", read_only)
    monkeypatch.setattr(SegmentTable, "add", no_file)
    with pytest.raises(StoreError, match=words):
        prune(tmp_path, before)


def test_prune_removes_what_a_dead_writer_left_and_leaves_a_living_ones(tmp_path):
    dead, living = tmp_path / ".1-a.segment.tmp", tmp_path / ".2-b.segment.tmp"
    other = tmp_path / ".notes.txt"
    for path in (dead, living, other):
        path.touch()
        os.utime(path, (time.time() - 3600,) * 2)
    os.utime(dead, (time.time() - 25 * 3600,) * 2)
    prune(tmp_path, 0)
    assert sorted(tmp_path.iterdir()) == [living, other]


def test_prune_leaves_what_it_cannot_read(tmp_path):
    (tmp_path / "1.segment").write_bytes(b"no database at all")
    assert prune(tmp_path, time.time()) == 0
    assert (tmp_path / "1.segment").exists()


def test_verify_counts_entries_and_names_what_is_damaged(tmp_path):
    good = sealed(tmp_path, row(1), row(2))
    bad = sealed(tmp_path, row(3), row(4))
    damage(bad, b"reply 4")
    (tmp_path / "0.segment").write_bytes(b"nonsense" * 100)
    found = {health.path: health[1:] for health in verify(tmp_path)}
    assert found[good] == (2, 0, "")
    assert found[bad] == (2, 1, "")
    assert "not a database" in found[tmp_path / "0.segment"][2]


@settings(max_examples=300)
@given(st.data())
def test_no_damage_ever_gives_a_wrong_reply(tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp() / "wrong-reply"
    if not (folder / "whole").exists():
        folder.mkdir(exist_ok=True)
        (folder / "whole").write_bytes(sealed(folder / "a", *map(row, range(60))).read_bytes())
    whole = bytearray((folder / "whole").read_bytes())
    for _ in range(data.draw(st.integers(1, 5))):
        at = data.draw(st.integers(0, len(whole) - 1))
        some = data.draw(st.binary(min_size=1, max_size=8))
        whole[at : at + len(some)] = some
    del whole[data.draw(st.integers(0, len(whole))) if data.draw(st.booleans()) else len(whole) :]
    path = folder / "damaged.segment"
    path.write_bytes(whole)
    try:
        table = SegmentTable(path, sealed=True)
    except sqlite3.Error:
        return
    try:
        for found, value in table.find([key(n) for n in range(60)]).items():
            assert value == row(int.from_bytes(found, "big")).value
    except sqlite3.Error:
        pass  # reported by the search
    finally:
        table.close()


def test_an_entry_whose_key_is_damaged_is_a_miss(tmp_path, caplog):
    whole = bytearray(sealed(tmp_path / "a", *map(row, range(60))).read_bytes())
    whole[7568] = 0  # the type of a key: no longer bytes, though SQLite still finds the row
    path = tmp_path / "damaged.segment"
    path.write_bytes(whole)
    table = SegmentTable(path, sealed=True)
    with contextlib.suppress(sqlite3.Error):
        for found, value in table.find([key(n) for n in range(60)]).items():
            assert value == row(int.from_bytes(found, "big")).value
    table.close()
    assert "is damaged" in caplog.text


def test_every_command_survives_any_damaged_byte_of_a_segment(tmp_path):
    rows = [row(n) for n in (1, 2, 3)]
    whole = sealed(tmp_path, *rows).read_bytes()
    replies = {each.key: each.value for each in rows}
    folder = tmp_path / "damaged"
    folder.mkdir()
    places = [place for place in range(len(whole)) if whole[place] or place < 200]
    for place in places:
        for flip in (1, 0x80):
            path = folder / f"{place:05d}.segment"
            path.write_bytes(whole[:place] + bytes([whole[place] ^ flip]) + whole[place + 1 :])
            for table in open_all(folder):
                with contextlib.suppress(sqlite3.Error):
                    assert table.find(list(replies)).items() <= replies.items()
                table.close()
            assert sum(1 for _ in verify(folder)) == 1
            segments._rewrite(folder, [path], lambda each: each.whole)
            prune(folder, 2000)
            for left in folder.iterdir():
                left.unlink()
