"""`make browser-test`: forms for people, filled in by keyboard in a real Chromium, and imported."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from runner.annotation.export import Exported, write_form
from runner.annotation.importing import import_files
from runner.driver.loading import load_plan_of
from tests.runner.annotation.forms import SALES, SWEEP, play
from tests.runner.reading import raw

pytest_plugins = ("tests.in_browser",)
FORMS = {
    "decisions": {"decisions": True, "pairs": None, "judge": None},
    "pairs": {"pairs": "agent=csi,chatcrs_sales", "judge": "proactiveness"},
    "parts": {"pairs": None, "judge": "intention"},
}
KEYS = {"decisions": "123", "pairs": "abt"}
VALUES = {"1": "accept recommendation", "2": "accept persuasion", "3": "reject"}
VALUES |= {"a": "A", "b": "B", "t": "tie"}


@pytest.fixture(scope="module", autouse=True)
def sold(tmp_path_factory) -> Path:
    """Played before the browser opens: no loop of asyncio can start next to that of Playwright."""
    return play(tmp_path_factory.mktemp("sold"), {**SALES, "limits": {"max_turns": 8}})


@pytest.fixture(scope="module", autouse=True)
def judged(tmp_path_factory) -> Path:
    return play(tmp_path_factory.mktemp("judged"), SWEEP)


def exported(sweep: Path, out: Path, form: str) -> Exported:
    given = {"where": None, "cases": 2, "seed": 0, "out": out, **FORMS[form]}
    return write_form(load_plan_of(str(sweep), []), **given)


def saved(page: Page, to: Path) -> Path:
    with page.expect_download() as download:
        page.keyboard.press("s")
    download.value.save_as(to)
    return to


def keys_of(form: str) -> Iterator[str]:
    while True:
        yield from KEYS[form]


@pytest.mark.parametrize("form", ["decisions", "pairs"])
def test_a_form_is_filled_in_by_keyboard_saved_and_imported(page, sold, tmp_path, form):
    found = exported(sold, tmp_path, form)
    page.goto(f"file://{found.form}")
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
    status, keys, given = page.locator("#status"), keys_of(form), []
    for number, item in enumerate(found.key.items.values(), start=1):
        expect(page.locator(".item:visible h2")).to_contain_text(f"Item {number} of ")
        expect(status).to_have_text("")
        for _ in found.key.asked(item):
            key = next(keys)
            given.append(VALUES[key])
            page.keyboard.press(key)
        expect(status).to_have_text("This item is done. Press n for the next one.")
        if number == 1:
            first = saved(page, tmp_path / "first.csv")
            expect(status).to_contain_text("Saved 1 item as")
        page.keyboard.press("n")
        expect(page.locator("#instructions")).not_to_have_attribute("open", "")
    chosen = page.locator("input:checked").evaluate_all("all => all.map(one => one.value)")
    assert chosen == given
    file = saved(page, tmp_path / "all.csv")
    assert import_files(str(sold), [first], "ann").new == len(found.key.questions)
    assert import_files(str(sold), [file], "ann").new == len(given) - len(found.key.questions)
    labels = raw(sold, "judgements").query(f"judge == '{found.key.judge}'")
    assert len(labels) == len(given)
    if form == "decisions":
        known = {1: "accept recommendation", 2: "accept persuasion", 0: "reject"}
        assert Counter(labels.value.map(known)) == Counter(given)


def test_a_saved_file_is_continued_from_and_answers_can_be_changed(page, sold, tmp_path):
    found = exported(sold, tmp_path, "decisions")
    page.goto(f"file://{found.form}")
    page.keyboard.press("1")
    page.keyboard.press("3")
    file = saved(page, tmp_path / "first.csv")
    page.reload()
    page.set_input_files("#load", file)
    expect(page.locator("#status")).to_have_text("Loaded 1 answer.")
    expect(page.locator(".item:visible h2")).to_contain_text("Item 2 of ")
    page.keyboard.press("p")
    assert page.locator(".item:visible input:checked").input_value() == "reject"


def test_a_part_opens_when_the_one_before_is_complete_and_locks_it(page, judged, tmp_path):
    found = exported(judged, tmp_path, "parts")
    page.goto(f"file://{found.form}")
    first = page.locator(".item[data-part='1']").count()
    for number in range(first):
        if number == first - 1:
            page.keyboard.press("n")
            expect(page.locator("#status")).to_contain_text("The next part opens when every")
        page.keyboard.press("1")
        page.keyboard.press("n")
    expect(page.locator(".item:visible h2")).to_contain_text("part 2")
    page.keyboard.press("p")
    expect(page.locator(".item:visible input:checked")).to_be_disabled()
    page.keyboard.press("2")
    assert page.locator(".item:visible input:checked").input_value() == "1"
