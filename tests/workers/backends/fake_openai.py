"""A server that speaks the chat protocol over real HTTP and answers as scripted."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Asked:
    path: str
    headers: dict[str, str]
    body: dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """One scripted answer. `drop` closes the connection instead; `cut` sends half the body.

    `hold` is called, in the thread of its connection, before the answer is given.
    """

    status: int = 200
    body: Any = None
    delay: float = 0.0
    drop: bool = False
    cut: bool = False
    hold: Callable[[], object] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


def completion(content: str | None = "{}", finish_reason: str | None = "stop", **message: Any):
    """A body as a server sends it."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "qwen",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": content, **message},
                "finish_reason": finish_reason,
            }
        ],
        "usage": {"prompt_tokens": 11, "completion_tokens": 5, "total_tokens": 16},
    }


def refusal(message: str, code: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": "error", "param": None, "code": code}}


class FakeOpenAI:
    """Serves on a free port of 127.0.0.1 from `with` on. Unscripted requests get `{}`."""

    def __init__(self, *answers: Answer, models: tuple[str, ...] = ("qwen",)) -> None:
        self.answers = deque(answers)
        self.models = models
        self.asked: list[Asked] = []
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _handler_of(self))
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> FakeOpenAI:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, asked: Asked) -> Answer:
        with self._lock:
            self.asked.append(asked)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            answer = self._next(asked.path)
        time.sleep(answer.delay)
        if answer.hold is not None:
            answer.hold()
        with self._lock:
            self._at_once -= 1
        return answer

    def _next(self, path: str) -> Answer:
        if self.answers:
            return self.answers.popleft()
        if path == "/v1/models":
            return Answer(
                body={"object": "list", "data": [{"id": m, "object": "model"} for m in self.models]}
            )
        if path == "/v1/chat/completions":
            return Answer(body=completion())
        return Answer(404, refusal(f"no {path} here"))


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has left is what some tests are about."""


def _handler_of(fake: FakeOpenAI) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self._serve(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def do_GET(self) -> None:
            self._serve({})

        def _serve(self, body: dict[str, Any]) -> None:
            answer = fake.answer(
                Asked(self.path, {k.lower(): v for k, v in self.headers.items()}, body)
            )
            if answer.drop:
                self.close_connection = True
                return
            given = answer.body
            sent = given.encode() if isinstance(given, str) else json.dumps(given).encode()
            self.send_response(answer.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(sent)))
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(sent[: len(sent) // 2] if answer.cut else sent)
            self.close_connection = answer.cut

        def log_message(self, format: str, *args: Any) -> None:
            """Silent."""

    return Handler
