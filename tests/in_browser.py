"""Fixtures of `make browser-test`: a real Chromium, and a page in it.

CHROMIUM names the browser; by default it is looked for on the PATH.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

PATIENT = 300_000.0  # milliseconds: far beyond what a busy machine takes


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    names = ("chromium", "chromium-browser", "google-chrome")
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    assert path, "no Chromium was found: install Debian's package chromium, or set CHROMIUM"
    # Without its sandbox: it cannot be used by root, and all pages are the viewer's own.
    options: dict = {"executable_path": path, "args": ["--no-sandbox"], "timeout": PATIENT}
    with sync_playwright() as playwright, playwright.chromium.launch(**options) as browser:
        yield browser


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    """A page; what its console complains of, such as its policy, is an error."""
    context = chromium.new_context()
    context.set_default_timeout(PATIENT)
    expect.set_options(timeout=PATIENT)
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    context.close()
    assert complaints == []
