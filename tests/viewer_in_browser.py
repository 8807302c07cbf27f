"""`make browser-test`: the viewer in a real Chromium, against a real server over real parts."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.analysis.builder import Built, Row, grid_of
from tests.analysis.builder import _write as write_part
from tests.conftest import LAST_GUARD_SECONDS, ROOT
from workers.results.lease import FolderLease

HOSTILE = "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'>\"' \u202eمرحبا"
LONG = "long " * 10_000
pytest_plugins = ("tests.in_browser",)


def sweep() -> Built:
    built = Built(
        grid_of("a", "b", backbones=["s"]), seeds=[0], case_ids=[f"u{n}" for n in range(60)]
    )
    for number, case in enumerate(built.case_ids[:-1]):
        for cell in built.cells:
            if number % 7 == 6:
                built.failed(cell, case, 0, "agent")
                continue
            said = [
                {"turn": 1, "agent_text": "Which genre?", "user_text": "Jazz.", "action": "ask"},
                {"turn": 2, "agent_text": f"Try one, says {cell.cell_id}.", "shown": ["i1", "i0"]},
            ]
            words = json.dumps([{"role": "system", "content": f"Prompt for {case}."}])
            calls = [{"turn": 1, "prompt": words, "reply": "Which genre?"}]
            built.episode(cell, case, 0, success_turn=2, turns=said, calls=calls)
    return built


def hostile(built: Built) -> Row:
    turn = {"turn": 1, "agent_text": HOSTILE + LONG, "user_text": HOSTILE, "shown": [HOSTILE]}
    call = {"prompt": json.dumps([{"role": "user", "content": HOSTILE}]), "reply": HOSTILE}
    row = built.episode(built.cells[0], HOSTILE, 0, turns=[turn], calls=[call], targets=[HOSTILE])
    built.case_ids.append(HOSTILE)
    built.verdict(built.judge("clarity", HOSTILE), row, HOSTILE, 1, reason=HOSTILE)
    return row


class Served:
    """`crsweep view` in a process of its own."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-m", "runner", "view", str(folder), "--no-browser"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        self.url = next(word for word in line.split() if word.startswith("http://")).rstrip("/")

    def end(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(LAST_GUARD_SECONDS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    built = sweep()
    hostile(built)
    return built.write(tmp_path_factory.mktemp("browser") / "sweep")


@pytest.fixture(scope="module")
def served(folder) -> Iterator[Served]:
    server = Served(folder)
    yield server
    server.end()


def test_open_filter_page_read_and_compare(page, served):
    page.goto(served.url)
    expect(page.get_by_role("heading", name="Cells")).to_be_visible()
    page.get_by_role("link", name="b", exact=True).click()
    page.get_by_role("navigation", name="Pages", exact=True).get_by_role(
        "link", name="Dialogues"
    ).click()
    page.get_by_text("Filters", exact=True).click()
    page.get_by_label("outcome").select_option("success")
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_text("1–50 of 102 dialogues").first).to_be_visible()
    page.get_by_role("link", name="Next").first.click()
    expect(page.get_by_text("51–100 of 102 dialogues").first).to_be_visible()
    page.get_by_role("link", name="u30").first.click()
    expect(page.get_by_text("Jazz.")).to_be_visible()
    page.get_by_text("1 call, 15 tokens").click()
    page.locator(".call summary").click()
    expect(page.get_by_text("Prompt for u30.")).to_be_visible()
    assert page.url.startswith(f"{served.url}/dialogue")  # it opened in its place
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_text("They first differ in turn 2")).to_be_visible()
    expect(page.locator("#first-difference")).to_be_visible()


def test_hostile_words_are_seen_and_do_nothing(page, served):
    page.goto(f"{served.url}/episodes?page=last")
    page.locator("table.list").get_by_text("<script>window.hacked").click()
    expect(page.locator("#turn-1-user .text")).to_have_text(HOSTILE)
    assert page.locator("#turn-1-agent .text").inner_text().startswith(HOSTILE)
    assert page.locator("#turn-1-agent .text").inner_text().count("long") == 10_000
    for details in page.locator("details").all():
        if not details.evaluate("one => one.open"):
            details.locator("summary").first.click()
    expect(page.locator(".call pre").first).to_have_text(HOSTILE)
    assert page.evaluate("window.hacked") is None
    assert page.locator("main script, main img").count() == 0


def test_keys_move_through_lists_and_dialogues(page, served):
    page.goto(f"{served.url}/episodes")
    for key in "jjk":
        page.keyboard.press(key)
    assert page.evaluate("document.activeElement.textContent") == "u0"
    page.keyboard.press("Enter")
    page.wait_for_url("**/dialogue?**")
    first = page.url
    page.keyboard.press("n")
    page.wait_for_url(lambda url: "/dialogue?" in url and url != first)
    page.keyboard.press("u")
    page.wait_for_url("**/episodes?**")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.tagName") == "SELECT"


def test_pages_work_without_scripts(chromium, served):
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{served.url}/episodes?case=u3")
    page.get_by_role("link", name="u3").first.click()
    page.get_by_text("1 call, 15 tokens").click()
    page.get_by_role("link", name="Open the calls of this turn").click()
    page.locator(".call summary").click()
    expect(page.get_by_text("Prompt for u3.")).to_be_visible()
    context.close()


def test_a_running_sweep_is_followed(page, tmp_path):
    built = sweep()
    path = built.write(tmp_path / "live")
    lease = FolderLease.take(path)
    server = Served(path)
    try:
        page.goto(f"{server.url}/episodes")
        other = page.context.new_page()
        other.goto(server.url)
        expect(other.get_by_text("running", exact=True)).to_be_visible()
        expect(other.locator(".numbers")).to_contain_text("102")
        for rows in built.rows.values():
            rows.clear()
        built.episode(built.cells[0], "u59", 0, turns=[{"turn": 1}])
        for table in ("turns", "episodes"):
            write_part(path, table, "000001-w000-000009.parquet", built.rows[table])
        expect(other.locator(".numbers")).to_contain_text("103")
        page.get_by_role("link", name="Show 1 new row").click()
        expect(page.get_by_text("1–50 of 119 dialogues").first).to_be_visible()
        other.close()  # or it would ask a server that has ended
        page.goto("about:blank")
    finally:
        lease.release()
        assert server.end() == 0
