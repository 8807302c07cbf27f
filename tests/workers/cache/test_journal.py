"""Whatever happens to a journal, its whole entries are read, and damage is reported."""

import errno
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.core.errors import StoreError
from workers.cache import journal
from workers.cache.entries import KEY
from workers.cache.journal import Journal, files, read

MARK = journal._MARK
ENTRIES = [
    (b"a" * KEY, b"first"),
    (b"b" * KEY, b""),
    (b"c" * KEY, MARK + b"a record seems to begin here" + MARK),
    (b"a" * KEY, b"the first again"),
    (b"d" * KEY, bytes(range(256))),
]


def written(folder, entries=ENTRIES):
    """A file of entries, and where in it each begins; the end comes last."""
    path = folder / "journal" / f"{len(files(folder)):06d}.calls"
    mine = Journal(path)
    starts = []
    for entry in entries:
        starts.append(path.stat().st_size)
        mine.append([entry])
    mine.close()
    return path, [*starts, path.stat().st_size]


def test_what_was_appended_is_read_in_its_order(tmp_path, caplog):
    path, _ = written(tmp_path)
    assert list(read(path)) == ENTRIES
    assert files(tmp_path) == [path]
    assert journal.size(tmp_path) == (1, path.stat().st_size)
    assert not caplog.records


def test_an_empty_journal_holds_nothing(tmp_path, caplog):
    path, _ = written(tmp_path, [])
    assert list(read(path)) == []
    assert not caplog.records


def test_cut_off_anywhere_all_entries_before_are_read_and_the_rest_is_reported(tmp_path, caplog):
    path, starts = written(tmp_path)
    whole = path.read_bytes()
    for end in range(len(whole)):
        caplog.clear()
        path.write_bytes(whole[:end])
        count = sum(start <= end for start in starts[1:])
        assert list(read(path)) == ENTRIES[:count]
        assert bool(caplog.records) == (end not in starts)
        if caplog.records:
            left = end - starts[count]
            assert f"the {left} bytes at byte {starts[count]} are not" in caplog.text


def test_any_byte_damaged_costs_one_entry_and_is_reported(tmp_path, caplog):
    path, starts = written(tmp_path)
    whole = path.read_bytes()
    for place in range(len(whole)):
        for flip in (1, 0x80, 0xFF):
            caplog.clear()
            path.write_bytes(whole[:place] + bytes([whole[place] ^ flip]) + whole[place + 1 :])
            hit = sum(start <= place for start in starts) - 1
            assert list(read(path)) == ENTRIES[:hit] + ENTRIES[hit + 1 :]
            size = starts[hit + 1] - starts[hit]
            assert f"the {size} bytes at byte {starts[hit]} are not" in caplog.text


@given(st.data())
def test_of_a_damaged_file_every_entry_is_one_that_was_written(tmp_path, data):
    path, _ = written(tmp_path)
    whole = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(whole)))
        until = min(len(whole), at + data.draw(st.integers(0, 50)))
        whole[at:until] = data.draw(st.binary(max_size=50))
    path.write_bytes(whole)
    assert set(read(path)) <= set(ENTRIES)


def test_entries_are_found_behind_damage_of_any_size(tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "_CHUNK", 64)
    path, _ = written(tmp_path)
    whole = path.read_bytes()
    for size in range(200):
        path.write_bytes(b"x" * size + whole)
        assert list(read(path)) == ENTRIES


def test_no_other_writers_file_is_touched(tmp_path):
    path, _ = written(tmp_path)
    with pytest.raises(StoreError, match="cannot write"):
        Journal(path)
    assert list(read(path)) == ENTRIES


@pytest.mark.parametrize("call", ["write", "fdatasync"])
def test_after_a_write_that_failed_nothing_counts_as_kept_any_more(tmp_path, monkeypatch, call):
    mine = Journal(tmp_path / "journal" / "1.calls")
    mine.append(ENTRIES[:1])

    def fails(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fails)
        with pytest.raises(StoreError, match="No space left on device"):
            mine.append(ENTRIES[1:2])
    with pytest.raises(StoreError, match="No space left on device"):
        mine.append(ENTRIES[2:])
    mine.close()


def test_a_short_write_is_completed(tmp_path, monkeypatch):
    mine = Journal(tmp_path / "journal" / "1.calls")
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, data: write(file, bytes(data)[:7]))
    mine.append(ENTRIES)
    mine.close()
    assert list(read(tmp_path / "journal" / "1.calls")) == ENTRIES


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "journal").touch()
    with pytest.raises(StoreError, match=r"journal/1\.calls"):
        Journal(tmp_path / "journal" / "1.calls")
