"""A server for the openai backend within its own process: no sockets, any answer at once."""

from __future__ import annotations

import importlib
import json
import ssl
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from unittest import mock

import openai

from sweeps.schema import ModelSpec
from tests.workers.backends.calls import context
from workers.models import BoundModel

# The package that the installed version of the library is built on.
_HTTP = importlib.import_module(openai.DefaultAsyncHttpxClient.__mro__[1].__module__.split(".")[0])


# No connection is made. To read the machine's certificates takes longer than all else that a call
# does here.
_NO_CERTIFICATES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class _Client(openai.DefaultAsyncHttpxClient):
    def __init__(self, **given: Any) -> None:
        super().__init__(verify=_NO_CERTIFICATES, **given)


class Sent(NamedTuple):
    """An answer as it is sent."""

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = {}

    @property
    def content(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


Server = Callable[[dict[str, Any]], Sent]


def bound(server: Server, transient: int = 0, **options: Any) -> BoundModel:
    """The model `m`, whose every request is answered by `server`, which gets its body."""

    async def handle(request: Any) -> Any:
        sent = server(json.loads(request.content or b"{}"))
        headers = [(name.encode(), value.encode("latin-1")) for name, value in sent.headers.items()]
        return _HTTP.Response(sent.status, content=sent.content, headers=headers)

    given = {"backend": "openai", "base_url": "http://host/v1", "model": "qwen", **options}
    with mock.patch.object(openai, "DefaultAsyncHttpxClient", _Client):
        model = BoundModel("m", ModelSpec.model_validate(given), context(), transient)
    attach(model._backend, handle)
    return model


def attach(backend: Any, handle: Callable[[Any], Any]) -> None:
    """Has `handle` answer what `backend` sends."""
    http = openai.DefaultAsyncHttpxClient(
        transport=_HTTP.MockTransport(handle), follow_redirects=False
    )
    backend._client = backend._client.with_options(http_client=http)
    # The library asks for it in a thread, which a loop with virtual time does not wait for.
    backend._client._platform = "Linux"
