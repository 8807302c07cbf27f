"""Paging while a run commits, retries and compacts: each episode of the snapshot once."""

from __future__ import annotations

import random

import pytest

from analysis.results import Results
from analysis.viewer.stored import StoredTable
from sweeps.storage.folder import LocalFolder
from tests.analysis.builder import Built, grid_of
from tests.analysis.builder import _write as write_part
from tests.analysis.viewer.reading import Browser, all_attempts, attempts_on
from workers.results import compaction
from workers.results.lease import FolderLease


class Sweep:
    """A sweep whose bundles are written one by one, as workers write them."""

    def __init__(self, folder, cases: int = 60) -> None:
        self.built = Built(
            grid_of("a", "b", backbones=["s"]),
            seeds=[0, 1],
            case_ids=[f"u{n}" for n in range(cases)],
        )
        self.path = self.built.write(folder)
        self._written = 0
        self._lease = FolderLease.take(folder)

    def commit(self) -> None:
        """Writes what was added to `built` since the last time as one bundle."""
        self._written += 1
        name = f"{self._lease.epoch:06}-w000-{self._written:06}"
        for table, rows in self.built.rows.items():
            if rows:
                write_part(
                    self.path, table, f"{name}.parquet", [{**r, "bundle_id": name} for r in rows]
                )
                rows.clear()

    def compact(self) -> None:
        compaction.compact(LocalFolder(self.path), self._lease)

    def close(self) -> None:
        self._lease.release()


@pytest.fixture
def sweep(tmp_path):
    sweep = Sweep(tmp_path / "sweep")
    yield sweep
    sweep.close()


def current(path) -> set[str]:
    rows = Results.open(path).query("SELECT attempt_id FROM episodes").fetchall()
    return {attempt for (attempt,) in rows}


def test_a_list_stays_as_it_was_while_rows_come_fail_succeed_and_move(sweep):
    built, random_ = sweep.built, random.Random(5)
    episodes = [(c, u, s) for u in built.case_ids for c in built.cells for s in built.seeds]
    random_.shuffle(episodes)
    failed = []

    def bundle(count: int) -> None:
        """Some new episodes, of which some fail, and another try at some that had failed."""
        for _ in range(min(count, len(episodes))):
            cell, case, seed = episodes.pop()
            if random_.random() < 0.3:
                built.failed(cell, case, seed, "infrastructure")
                failed.append((cell, case, seed))
            else:
                built.episode(cell, case, seed, turns=[{"turn": 1, "agent_text": case}])
        for cell, case, seed in failed[:3]:
            built.episode(cell, case, seed, attempt=1)
        del failed[:3]
        sweep.commit()

    for _ in range(8):
        bundle(16)
    browser = Browser(sweep.path)
    expected = current(sweep.path)
    page = browser.get("/episodes", sort="newest first")
    first = page.rel["next"]
    found, step = attempts_on(page), 0
    while "next" in page.rel:
        bundle(6)
        if step % 2:
            sweep.compact()
        browser.get("/")  # a look, which reads what is new
        for attempt in attempts_on(page)[:2]:
            assert "turn 1" in browser.dialogue(attempt).text or "failed" in page.text
        page = browser.get(page.rel["next"])
        found += attempts_on(page)
        step += 1
    assert step >= 2
    assert len(found) == len(set(found))
    assert set(found) == expected
    sweep.compact()
    newer = browser.get("/newer", snapshot=first.partition("snapshot=")[2].partition("&")[0])
    latest = all_attempts(browser, browser.get(newer.links[0][1]))
    assert sorted(latest) == sorted(current(sweep.path))
    assert set(latest) != expected


def test_a_dialogue_is_found_in_the_file_that_compaction_moved_it_to(sweep):
    built = sweep.built
    rows = []
    for case in built.case_ids[:4]:
        turn = {"turn": 1, "agent_text": f"for {case}"}
        rows.append(built.episode(built.cells[0], case, 0, turns=[turn], calls=[{"reply": case}]))
        sweep.commit()
    browser = Browser(sweep.path)
    assert "for u0" in browser.dialogue(rows[0]["attempt_id"]).text
    sweep.compact()
    for row, case in zip(rows, built.case_ids, strict=False):
        assert f"for {case}" in browser.dialogue(row["attempt_id"]).text
        assert case in browser.get("/calls", attempt=row["attempt_id"], turn=1).text


def test_of_a_compacted_file_of_known_parts_only_the_footer_is_read(sweep, monkeypatch):
    built = sweep.built
    for case in built.case_ids[:3]:
        built.episode(built.cells[0], case, 0)
        sweep.commit()
    browser = Browser(sweep.path)
    number = browser.viewer.index.newest.number
    sweep.compact()
    read = []
    monkeypatch.setattr(StoredTable, "read", lambda self, name, columns: read.append(name))
    assert browser.viewer.look().number == number
    assert read == []
    monkeypatch.undo()
    built.episode(built.cells[0], built.case_ids[3], 0)
    sweep.commit()
    sweep.compact()  # a file with known rows and a new one
    assert browser.viewer.look().number == number + 1
    assert len(attempts_on(browser.get("/episodes"))) == 4


def test_a_changed_plan_starts_new_snapshots(sweep):
    built = sweep.built
    built.episode(built.cells[0], "u0", 0)
    sweep.commit()
    browser = Browser(sweep.path)
    old = browser.get("/episodes").rel.get("next") or browser.get("/episodes").hrefs("/dialogue")[0]
    built.cells += grid_of("c", backbones=["s"])
    built.write(sweep.path)
    built.episode(built.cells[2], "u0", 0)
    sweep.commit()
    assert len(attempts_on(browser.get("/episodes"))) == 2
    assert "open the list again" in browser.get(old, expected=404).text


def test_verdicts_that_come_later_are_seen_with_the_dialogue_at_once(sweep):
    built = sweep.built
    row = built.episode(built.cells[0], "u0", 0)
    judge = built.judge("clarity", "clear")
    built.write(sweep.path)
    built.rows["episodes"].clear()
    built.rows["turns"].clear()
    browser = Browser(sweep.path)
    assert "made up" not in browser.dialogue(row["attempt_id"]).text
    built.verdict(judge, row, "clear", 4, turn=None)
    sweep.commit()
    browser.get("/")
    assert "made up" in browser.dialogue(row["attempt_id"]).text
    assert "clarity clear 4.00" in browser.get("/").text
