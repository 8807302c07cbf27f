"""Pages of the viewer, fetched by Starlette's client and read as a browser would."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from starlette.testclient import TestClient

from analysis.viewer.app import Viewer, make_app
from sweeps.storage.folder import folder_at

HOST = "127.0.0.1:8765"
SLOW = 600.0
"""Seconds for a free condition: no test depends on how fast this machine is."""


class Page(HTMLParser):
    """The links of a page by their words and by `rel`, its text, and elements with an id."""

    def __init__(self, response: Any) -> None:
        super().__init__()
        self.status, self.source = response.status_code, response.text
        self.links: list[tuple[str, str]] = []
        self.rel: dict[str, str] = {}
        self.ids: list[str] = []
        self.options: dict[str, list[str]] = {}
        self.tags: list[str] = []
        self.handlers: list[str] = []
        self._words: list[str] = []
        self._href: str | None = None
        self._select = ""
        self.feed(response.text)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self._words).split())

    def link(self, words: str) -> str:
        return next(href for said, href in self.links if said == words)

    def hrefs(self, path: str) -> list[str]:
        return [href for _, href in self.links if urlsplit(href).path == path]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {key: value or "" for key, value in attrs}
        self.tags.append(tag)
        self.handlers += [key for key in given if key.startswith("on") or key == "style"]
        self.ids += [given["id"]] if "id" in given else []
        if tag == "a":
            self._href = given["href"]
            self.links.append(("", self._href))
            if "rel" in given:
                self.rel[given["rel"]] = self._href
        if tag == "select":
            self._select = given["name"]
        if tag == "option":
            self.options.setdefault(self._select, []).append(given["value"])

    def handle_endtag(self, tag: str) -> None:
        if tag == "a":
            self._href = None

    def handle_data(self, data: str) -> None:
        self._words.append(data)
        if self._href is not None:
            said, href = self.links[-1]
            self.links[-1] = (" ".join(f"{said} {data}".split()), href)


class Browser:
    """A client of the viewer over one folder. No look at the folder is left out."""

    def __init__(self, folder: Path, **options: Any) -> None:
        options = {"look_every": 0.0, "seconds": SLOW, **options}
        self.viewer = Viewer(folder_at(folder), **options)
        self.client = TestClient(make_app(self.viewer, [HOST]), base_url=f"http://{HOST}")

    def get(self, path: str, expected: int = 200, **params: Any) -> Page:
        response = self.client.get(path, params=params or None)
        assert response.status_code == expected, response.text
        return Page(response)

    def dialogue(self, attempt: str) -> Page:
        return self.get("/dialogue", attempt=attempt)


def attempts_on(page: Page) -> list[str]:
    return [parse_qs(urlsplit(href).query)["attempt"][0] for href in page.hrefs("/dialogue")]


def all_attempts(browser: Browser, page: Page, rel: str = "next") -> list[str]:
    """What the list that starts on `page` shows, page by page."""
    found = attempts_on(page)
    while rel in page.rel:
        page = browser.get(page.rel[rel])
        found = [*found, *attempts_on(page)] if rel == "next" else [*attempts_on(page), *found]
    return found
