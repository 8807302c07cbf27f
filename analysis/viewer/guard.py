"""Which requests the viewer answers: those of its own pages on this machine, to read.

1. Only the host names that the viewer is known by here: a page elsewhere whose name is made to mean
   127.0.0.1 (DNS rebinding) asks with its own name.
2. No request that another site's page makes by script, frame or image. Its links may be followed.
3. Only GET and HEAD: nothing here changes anything.
4. Pages run the viewer's own scripts and styles from files, and nothing that is written in them.
"""

from __future__ import annotations

from collections.abc import Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Guard:
    """Middleware that refuses what the four points above do, and adds headers to every answer."""

    def __init__(self, app: ASGIApp, hosts: Collection[str]) -> None:
        """`hosts` as in the header Host: with the port, unless it is 80."""
        self._app = app
        self._hosts = frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
            await send(message)

        refused = self._refusal(scope)
        if scope["type"] != "http":
            return None  # nothing here speaks another protocol: the connection is closed
        if refused is None:
            return await self._app(scope, receive, with_headers)
        status, reason = refused
        return await PlainTextResponse(reason, status)(scope, receive, with_headers)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        headers = Headers(scope=scope)
        if headers.getlist("host") != [headers.get("host", "")] or (
            headers.get("host", "").lower() not in self._hosts
        ):
            return 403, "This viewer is used from its own machine: open the address it printed.\n"
        origin = headers.get("origin")
        if origin is not None and origin.lower() not in {f"http://{host}" for host in self._hosts}:
            return 403, "This viewer answers no other site.\n"
        site, mode = headers.get("sec-fetch-site"), headers.get("sec-fetch-mode")
        followed = mode == "navigate" and headers.get("sec-fetch-dest") == "document"
        if site not in (None, "none", "same-origin") and not followed:
            return 403, "This viewer answers no other site.\n"
        if scope.get("method") not in ("GET", "HEAD"):
            return 405, "This viewer only reads: GET or HEAD.\n"
        return None
