"""A foreign recommender that answers as scripted, well or badly."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Sent(NamedTuple):
    """One answer. Bytes are sent as they are; `drop` ends the connection after them."""

    body: Any = None
    status: int = 200
    drop: bool = False
    wait: threading.Event | None = None
    """Waited for before anything is sent."""
    endless: bool = False
    """More of the same for as long as somebody reads."""


class Foreign:
    """Serves on a free port of 127.0.0.1 from `with` on."""

    def __init__(self, reply: Callable[[dict[str, Any]], Any]) -> None:
        self.reply, self.asked = reply, []
        self.headers: list[dict[str, str]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/respond"

    def __enter__(self) -> Foreign:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def _handler_of(foreign: Foreign) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            request = json.loads(self.rfile.read(length))
            foreign.asked.append(request)
            foreign.headers.append({key.lower(): value for key, value in self.headers.items()})
            sent = foreign.reply(request)
            sent = sent if isinstance(sent, Sent) else Sent(sent)
            if sent.wait is not None:
                sent.wait.wait()
            body = sent.body if isinstance(sent.body, bytes) else json.dumps(sent.body).encode()
            if sent.drop:
                self.wfile.write(body)
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            self.send_response(sent.status)
            if not sent.endless:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            try:
                self.wfile.write(body)
                while sent.endless:
                    self.wfile.write(body)
            except OSError:  # the reader has closed
                self.close_connection = True

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing: a test says what it needs to say."""

    return Handler
