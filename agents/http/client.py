"""Calls an external recommender over HTTP, and assigns blame if it gives no turn.

- Infrastructure, so that the episode is retried: no connection, a lost connection, HTTP 429 or 5xx
  without an error object.
- The agent: no complete answer within the timeout; too many bytes, no JSON, an answer that violates
  the protocol, HTTP 3xx or 4xx.
- As an error object says, whatever its status: `{"error": ..., "blame": ...}`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

from agents.core.errors import AgentError, EngineDead, EngineOverloaded
from agents.http.protocol import BadAnswer, ErrorAnswer, TurnAnswer, answer_of


class AgentServer(NamedTuple):
    """The address of a recommender, and the limits of its answers."""

    url: str
    timeout: float
    """Seconds for one complete answer."""
    most_bytes: int
    headers: Mapping[str, str] = {}

    @property
    def name(self) -> str:
        """The address without a login, for messages."""
        parts = urlsplit(self.url)
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


async def ask_server(server: AgentServer, body: Mapping[str, Any]) -> TurnAnswer:
    """The recommender's turn. AgentError, EngineDead and EngineOverloaded name the server."""
    import httpx  # late: it is slow to import

    try:
        async with asyncio.timeout(server.timeout):
            status, content = await _posted(httpx, server, json.dumps(body).encode())
    except TimeoutError:
        raise AgentError(
            f"{server.name}: no complete answer within {server.timeout:g} s (`timeout`)"
        ) from None
    except httpx.HTTPError as error:
        why = str(error) or type(error).__name__
        raise EngineDead(f"{server.name}: {why}") from None
    except httpx.InvalidURL as error:
        raise AgentError(f"{server.name}: {error}") from None
    return _read(server, status, content)


async def _posted(httpx: Any, server: AgentServer, body: bytes) -> tuple[int, bytes]:
    """Status and body. Raises AgentError if the body is larger than allowed."""
    # No compression: a few bytes could decompress to any size.
    plain = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
    headers = {**plain, **server.headers}
    # The environment (a proxy, .netrc) must not influence where dialogues are sent.
    async with (
        httpx.AsyncClient(timeout=None, follow_redirects=False, trust_env=False) as client,
        client.stream("POST", server.url, content=body, headers=headers) as answer,
    ):
        content = b""
        async for part in answer.aiter_raw():
            content += part
            if len(content) > server.most_bytes:
                raise AgentError(
                    f"{server.name}: an answer of more than {server.most_bytes:,} bytes "
                    "(`most_bytes`)"
                )
        return answer.status_code, content


def _read(server: AgentServer, status: int, content: bytes) -> TurnAnswer:
    try:
        found = answer_of(content)
    except BadAnswer as error:
        if status == 429:
            raise EngineOverloaded(f"{server.name}: HTTP 429") from None
        if status >= 500:
            raise EngineDead(f"{server.name}: HTTP {status}") from None
        shown = "" if status == 200 else f"HTTP {status}: "
        raise AgentError(f"{server.name}: {shown}{error}") from None
    if isinstance(found, ErrorAnswer):
        kind = EngineDead if found.blame == "infrastructure" else AgentError
        raise kind(f"{server.name}: {found.error[:500]}")
    if status != 200:
        raise AgentError(f"{server.name}: HTTP {status} with an answer, expected HTTP 200")
    return found
