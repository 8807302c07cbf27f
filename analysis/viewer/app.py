"""The viewer as a web application: routes and pages for the folder of one sweep.

It only reads: it takes no lease, writes no file in the folder, and no request changes anything.
Templates treat everything from a sweep as text, and escape it.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from agents.core.errors import CrsweepError, UsageError
from analysis import sandbox
from analysis.html import templates_in
from analysis.viewer import dialogue, filters, formats, queries
from analysis.viewer.filters import Filters, Mark
from analysis.viewer.guard import Guard
from analysis.viewer.index import Index, Snapshot
from sweeps import manifest as manifests
from sweeps.storage.folder import Folder

_HERE = Path(__file__).parent
_LOOK_EVERY = 2.0  # seconds between two looks at the folder, at least
Running = Callable[[], str | None]
TitlesOf = Callable[[str], Mapping[str, str]]


class NotInFolder(UsageError):
    """The requested object is not, or no longer, in the folder."""


class Viewer:
    """The state behind the pages: the index of the newest plan, and the time of the last check."""

    def __init__(
        self,
        folder: Folder,
        running: Running = lambda: None,
        *,
        titles: TitlesOf = lambda source: dialogue.NO_TITLES,
        look_every: float = _LOOK_EVERY,
        seconds: float = sandbox.SECONDS,
    ) -> None:
        """Reads all episodes of the folder.

        `running` returns who runs the sweep, or None; `titles` returns the item titles of a source
        that are known so far; `seconds` limits a free condition. Raises UsageError and StoreError.
        """
        self.folder = folder
        self.seconds = seconds
        self._running = running
        self._titles = titles
        self._looked = 0.0
        self._look_every = self._pause = look_every
        self._lock = threading.Lock()
        self.index = Index(folder)
        self.labels = queries.CellLabels(self.index)
        self._look()
        for table in ("turns", "calls"):  # so that the first dialogue opens as fast as the second
            self.index.stored[table].live()
        self._choices: tuple[Snapshot, dict[str, list[str]]] | None = None

    def look(self) -> Snapshot:
        """The newest snapshot; checks for new rows unless that was done a moment ago."""
        with self._lock:
            if time.monotonic() - self._looked > self._pause:
                self._look()
            return self.index.newest

    def _look(self) -> None:
        started = time.monotonic()
        manifest = manifests.read(self.folder)
        if manifest is not None and self.index.plan_differs(manifest):
            # Snapshots of an earlier plan end with it, because its rows may not belong to this one.
            self.index = Index(self.folder, first=self.index.newest.number + 1)
            self.labels = queries.CellLabels(self.index)
        elif manifest is not None:
            self.index.manifest = manifest
        self.index.refresh()
        self._looked = time.monotonic()
        # Checking a large folder takes long, so it may use at most a tenth of the time.
        took = self._looked - started
        self._pause = max(self._look_every, 10 * took) if self._look_every else 0.0

    def read(self, row: Mapping[str, Any]) -> dialogue.DialogueView:
        """The dialogue of a row of the index."""
        source = self.index.manifest.cells[row["cell"]].source_id
        return dialogue.read(self.index, row, self._titles(source))

    @property
    def running(self) -> str | None:
        return self._running()

    def choices(self) -> dict[str, list[str]]:
        newest = self.index.newest
        if self._choices is None or self._choices[0] != newest:
            self._choices = (newest, queries.choices_of(self.index))
        return self._choices[1]


def make_app(viewer: Viewer, hosts: Collection[str]) -> Starlette:
    """The application; `hosts` are the names that browsers on this machine use
    (`127.0.0.1:8765`)."""
    pages = _Pages(viewer)
    routes = [
        Route("/", pages.answering(pages.overview)),
        Route("/progress", pages.answering(pages.progress)),
        Route("/episodes", pages.answering(pages.episodes)),
        Route("/newer", pages.answering(pages.newer)),
        Route("/dialogue", pages.answering(pages.dialogue)),
        Route("/calls", pages.answering(pages.calls)),
        Route("/compare", pages.answering(pages.compare)),
        Mount("/static", StaticFiles(directory=_HERE / "static")),
    ]

    async def not_found(request: Request, error: Exception) -> Response:
        return pages.error_page(404, "There is no such page.")

    @asynccontextmanager
    async def lifespan(app: Starlette):
        yield

    return Starlette(
        routes=routes,
        middleware=[Middleware(Guard, hosts=hosts)],
        exception_handlers={404: not_found},
        lifespan=lifespan,
    )


class _Pages:
    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self._templates = templates_in(_HERE / "templates")
        self._templates.filters |= formats.FILTERS

    def answering(self, page: Callable[..., Response]) -> Callable[[Request], Any]:
        """Runs `page` in a thread and turns expected errors into pages. It notices when the browser
        leaves."""

        async def answer(request: Request) -> Response:
            left = threading.Event()

            async def watch() -> None:
                while (await request.receive())["type"] != "http.disconnect":
                    pass
                left.set()

            watching = asyncio.create_task(watch())
            try:
                return await asyncio.to_thread(self._answer, partial(page, request, left.is_set))
            finally:
                watching.cancel()

        return answer

    def _answer(self, page: Callable[[], Response]) -> Response:
        try:
            return page()
        except NotInFolder as error:
            return self.error_page(404, error.message)
        except UsageError as error:
            return self.error_page(400, error.message)
        except (CrsweepError, OSError) as error:
            reason = error.message if isinstance(error, CrsweepError) else str(error)
            return self.error_page(500, f"The results cannot be read: {reason}")

    def error_page(self, status: int, message: str) -> Response:
        return self._html("error.html", status=status, message=message, refresh=None)

    def overview(self, request: Request, left: Callable[[], bool]) -> Response:
        return self._html("overview.html", **self._overview(), refresh=self._refresh())

    def progress(self, request: Request, left: Callable[[], bool]) -> Response:
        return self._html("progress.html", **self._overview())

    def _overview(self) -> dict[str, Any]:
        viewer = self._viewer
        newest = viewer.look()
        index = viewer.index
        cells = queries.cells_of(index, newest)
        return {
            "cells": cells,
            "total": {k: sum(cell[k] for cell in cells) for k in ("planned", "done", "failed")},
            "endings": queries.endings_of(index, newest),
            "failures": queries.failures_of(index, newest),
            "verdicts": queries.verdict_means(index),
            "runs": index.manifest.runs,
            "taken": newest.taken,
            "poll": self._refresh(),
        }

    def _refresh(self) -> int:
        """Seconds until a page should be reloaded."""
        return 4 if self._viewer.running else 20

    def episodes(self, request: Request, left: Callable[[], bool]) -> Response:
        chosen = self._filters(request)
        status, problem = 200, None
        page = None
        try:
            listing = self._listing(chosen, left)
            page = listing.page(
                after=_mark(chosen, "after"),
                before=_mark(chosen, "before"),
                row=chosen.row(),
                last=chosen.given.get("page") == "last",
            )
        except NotInFolder:
            raise
        except UsageError as error:  # shown with the form, to be corrected
            status, problem = 400, error.message
        return self._html(
            "episodes.html",
            status=status,
            page=page,
            problem=problem,
            filters=chosen,
            sorts=list(filters.SORTS),
            outcomes=list(filters.OUTCOMES),
            choices=self._viewer.choices(),
            size=filters.PAGE,
            refresh=None,
        )

    def newer(self, request: Request, left: Callable[[], bool]) -> Response:
        chosen = self._filters(request)
        self._viewer.look()
        count = self._listing(chosen, left, plain=True).newer()
        return self._html("newer.html", filters=chosen, count=count, poll=self._refresh())

    def dialogue(self, request: Request, left: Callable[[], bool]) -> Response:
        chosen = self._filters(request)
        index = self._viewer.index
        row = self._row(chosen.given.get("attempt", ""))
        previous, following = self._listing(chosen, left).around(row)
        return self._html(
            "dialogue.html",
            view=self._viewer.read(row),
            filters=chosen,
            previous=previous,
            following=following,
            siblings=dialogue.siblings(index, row, chosen.snapshot or index.newest.number),
            refresh=None,
        )

    def calls(self, request: Request, left: Callable[[], bool]) -> Response:
        chosen = self._filters((k, v) for k, v in request.query_params.multi_items() if k != "turn")
        turn = request.query_params.get("turn", "")
        if not turn.isdecimal() or len(turn) > 5:
            raise UsageError(f"turn: expected a whole number, found {turn[:40]!r}")
        row = self._row(chosen.given.get("attempt", ""))
        partly = request.headers.get("hx-request") == "true"
        return self._html(
            "calls.html" if partly else "calls_page.html",
            calls=dialogue.calls_of(self._viewer.index, row, int(turn)),
            filters=chosen,
            row=row,
            turn=int(turn),
            refresh=None,
        )

    def compare(self, request: Request, left: Callable[[], bool]) -> Response:
        index = self._viewer.index
        given = request.query_params
        one, other = (self._row(given.get(key, "")) for key in ("a", "b"))
        views = [self._viewer.read(row) for row in (one, other)]
        return self._html(
            "compare.html",
            views=views,
            turns=dialogue.side_by_side(*views),
            siblings=dialogue.siblings(index, one, index.newest.number),
            filters=self._filters(()),
            refresh=None,
        )

    def _filters(self, given: Any) -> Filters:
        query = given.query_params.multi_items() if isinstance(given, Request) else given
        return Filters(query, self._viewer.labels.varying)

    def _listing(
        self, chosen: Filters, left: Callable[[], bool], *, plain: bool = False
    ) -> queries.Listing:
        if chosen.snapshot is None:
            chosen.snapshot = self._viewer.look().number
            chosen.given["snapshot"] = str(chosen.snapshot)
        index = self._viewer.index
        if not index.has(chosen.snapshot):
            raise NotInFolder(
                "This list was made for an earlier plan or viewer; open the list again."
            )
        return queries.Listing(
            index, chosen, self._viewer.labels, left, seconds=self._viewer.seconds, plain=plain
        )

    def _row(self, attempt: str) -> Mapping[str, Any]:
        if not attempt:
            raise UsageError("expected ?attempt= with the id of an attempt")
        row = dialogue.row_of(self._viewer.index, attempt)
        if row is None:
            self._viewer.look()
            row = dialogue.row_of(self._viewer.index, attempt)
        if row is None:
            raise NotInFolder(f"There is no attempt {attempt[:80]} of the plan in this folder.")
        return row

    def _html(self, template: str, *, status: int = 200, **values: Any) -> Response:
        viewer = self._viewer
        index = viewer.index
        text = self._templates.get_template(template).render(
            name=index.manifest.name,
            folder=str(viewer.folder),
            watermark=index.manifest.watermark,
            running=viewer.running,
            labels=viewer.labels,
            status=status,
            **values,
        )
        return HTMLResponse(text, status)


def _mark(chosen: Filters, key: str) -> Mark | None:
    return Mark.read(chosen.given[key]) if key in chosen.given else None
