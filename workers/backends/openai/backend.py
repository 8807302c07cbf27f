"""Any server with OpenAI's chat protocol: vLLM's, llama.cpp's, a provider's.

- One request is one attempt: the library's own retries are off; `workers.core.retry` does them.
- An error names the server and its message, but never the key or the credentials of the address.
- `refusals` decides what a refusal means, and `answers` reads a reply.
- Only what the sweep file specifies is sent: the library's own environment variables
  (OPENAI_API_KEY, OPENAI_ORG_ID, OPENAI_CUSTOM_HEADERS and others) belong to another server.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

from agents.core.calls import Call, Completion, Embedded
from agents.core.errors import (
    EngineDead,
    EngineOverloaded,
    EngineRefused,
    Timeout,
    UsageError,
)
from agents.core.text import repaired
from workers.backends.core.backend import Backend, BackendContext, Workload
from workers.backends.openai import answers, refusals
from workers.backends.openai.options import (
    MOST_CONNECTIONS,
    OpenAIOptions,
    is_versioned,
    secret,
    secrets_of,
    without_login,
)
from workers.backends.openai.probe import hint_of, probe
from workers.core.concurrency import Gate, Load
from workers.core.environment import Variables
from workers.core.retry import Throttle

if TYPE_CHECKING:
    import openai

log = logging.getLogger(__name__)

_T = TypeVar("_T")

_QUOTED = 300  # characters of a server's words that a message repeats
_AT_ONCE = nullcontext()
_CHAT, _EMBEDDINGS, _MODELS = "/chat/completions", "/embeddings", "/models"

# Of each event loop: all models of one server and name share the pause that it asks for.
_Throttles = dict[tuple[str, str, str, float], Throttle]
_THROTTLES: WeakKeyDictionary[asyncio.AbstractEventLoop, _Throttles] = WeakKeyDictionary()


class _Answered(Exception):
    """An answer that came as an error: a reply that was withheld, or found invalid."""

    def __init__(self, done: Completion, message: str) -> None:
        super().__init__(message)
        self.done = done


class OpenAIBackend(Backend):
    """Sends calls to one server. `output_tokens` includes thinking, as servers count it."""

    Options = OpenAIOptions

    @classmethod
    def is_greedy(cls, options: Any) -> bool:
        return options.sampling.temperature == 0

    def __init__(self, options: OpenAIOptions, context: BackendContext) -> None:
        import openai  # imported late: it takes a second, which every `--help` would pay

        self._openai = openai
        self._options = options
        self.guided = options.guided == "json_schema"
        self.greedy = self.is_greedy(options)
        self.max_wait = options.max_wait
        self._name = context.name
        try:
            key = secret(options.api_key_env) if options.api_key_env else None
            headers = {header: secret(name) for header, name in options.headers_env.items()}
        except ValueError as error:
            raise UsageError(f"model {context.name!r}: {error}") from None
        self._url, login = without_login(options.base_url)
        basic = base64.b64encode(login.encode()).decode()
        self._secrets = secrets_of([key or "", basic, *headers.values()], options.base_url)
        self._reading = asyncio.Lock()
        self._gate = Gate(options.max_connections, MOST_CONNECTIONS)
        self._clipping_logged = False
        self._waits = True  # as servers ask; `check` fails instead, and names the wait
        self._refused: refusals.Refusal | None = None  # the last, of which `check` says more
        authorization = f"Basic {basic}" if login else f"Bearer {key or 'none'}"
        self._client = _client_of(openai)(
            base_url=self._url,
            api_key="none",  # what is sent is in the headers
            default_headers={"Authorization": authorization, **headers},
            max_retries=0,
            timeout=None,  # `_answered` holds the one deadline
            # A redirect would take prompts and key to where the sweep file does not say.
            http_client=openai.DefaultAsyncHttpxClient(timeout=None, follow_redirects=False),
        )

    @classmethod
    def environment(cls, options: OpenAIOptions) -> Variables:
        return Variables(options.environment(), network=True)

    async def complete(self, call: Call) -> Completion:
        done = await self._chat(self._request(call))
        self._note_clipping(done)
        return done

    async def embed(self, texts: Sequence[str]) -> Embedded:
        request = {
            "model": self._options.model,
            "input": [repaired(text) for text in texts],
            "encoding_format": "float",  # base64, the library's choice, is not known to all
            "extra_body": self._options.extra_body or None,
        }
        try:
            return await self._answered(
                _EMBEDDINGS,
                lambda: self._client.embeddings.with_raw_response.create(**request),
                lambda body: answers.vectors(body, len(texts)),
                self._one_by_one(),
            )
        except _Answered as error:
            raise EngineRefused(str(error)) from None

    async def check(self, work: Workload) -> str:
        """Asks for the list of models and makes one call of `work`. Raises if that is refused."""
        self._waits = False
        try:
            return self._plain(await probe(self, self._options, self._url, work), 1000)
        except EngineOverloaded as error:
            asked = error.retry_after
            if asked is None:
                raise
            said = f"{error.message}; the server asks to wait {asked:,.0f} s: try again then"
            raise EngineOverloaded(said, retry_after=asked) from None
        finally:
            self._waits = True

    async def close(self) -> None:
        await self._client.close()

    def _request(self, call: Call) -> dict[str, Any]:
        request: dict[str, Any] = {
            "model": self._options.model,
            "messages": [{"role": m.role, "content": repaired(m.content)} for m in call.messages],
            **self._options.sampling.fields(call.seed),
        }
        if call.temperature is not None:
            request["temperature"] = call.temperature
        if self.guided and call.step.mode == "json":
            schema: dict[str, Any] = {"name": call.step.name, "schema": call.step.schema}
            if self._options.strict is not None:
                schema["strict"] = self._options.strict
            request["response_format"] = {"type": "json_schema", "json_schema": schema}
        if self._options.extra_body:
            request["extra_body"] = self._options.extra_body
        return request

    async def _chat(self, request: Mapping[str, Any]) -> Completion:
        try:
            return await self._answered(
                _CHAT,
                lambda: self._client.chat.completions.with_raw_response.create(**request),
                lambda body: answers.completion(body, self._options.sampling.longest),
            )
        except _Answered as answer:
            return answer.done

    async def listed(self) -> list[str]:
        """Ids of the models that the server lists."""
        return await self._answered(
            _MODELS, self._client.models.with_raw_response.list, answers.models
        )

    async def tried(
        self, call: Call, change: Callable[[dict[str, Any]], None]
    ) -> Completion | refusals.Refusal:
        """The answer to a modified call, or the reason why the server refuses it."""
        request = self._request(call)
        change(request)
        try:
            return await self._chat(request)
        except EngineRefused as error:
            if type(error) is not EngineRefused or self._refused is None:
                raise
            return self._refused

    @asynccontextmanager
    async def _one_by_one(self) -> AsyncIterator[None]:
        """Reads one answer at a time, so that each can be kept before the next is read.

        64 large vectors take 60 ms. Of several answers that arrive together, the first would be
        kept only after the last is read, and all would be paid again after a crash.
        """
        async with self._reading:
            await asyncio.sleep(0)
            yield

    async def _answered(
        self,
        path: str,
        request: Callable[[], Awaitable[Any]],
        read: Callable[[bytes], _T],
        reading: AbstractAsyncContextManager[None] = _AT_ONCE,
    ) -> _T:
        """What `read` finds in the answer, within `reading`. Every error becomes one of ours, or
        _Answered.

        Causes are cut off, because they hold the headers.
        """
        async with self._gate:
            await self.throttle.over()
            try:
                async with asyncio.timeout(self._options.timeout):
                    answer = await request()
            except (TimeoutError, self._openai.APITimeoutError):
                seconds = f"{self._options.timeout:g}"
                raise Timeout(f"{self._url}: no answer within {seconds} s") from None
            except self._openai.APIConnectionError as error:
                said = str(error.__cause__ or "") or error.message
                raise EngineDead(self._plain(f"{self._url}: {said}")) from None
            except self._openai.APIStatusError as error:
                response = error.response
                raise self._refusal(
                    path, response.status_code, response.content, response.headers
                ) from None
            except self._openai.OpenAIError as error:
                raise EngineRefused(self._plain(f"{self._url}: {error}")) from None
        try:
            async with reading:
                return read(answer.content)
        except answers.Unreadable as error:
            raise self._unreadable(path, error, answer.content, answer.headers) from None

    def _refusal(
        self, path: str, status: int, body: bytes, headers: Mapping[str, str]
    ) -> Exception:
        said = refusals.read(status, body, headers, datetime.now(UTC))
        words = said.message or "no reason given"
        if 300 <= status < 400:
            words = f"redirects to {headers.get('location')}, which is not followed; {words}"
        message = self._plain(f"{self._url}{path}: HTTP {status}: {words}")
        if status in (404, 405):
            message += self._hint()
        error = refusals.refusal_of(said, message)
        if type(error) is EngineRefused and path == _CHAT:
            error = EngineRefused(message + hint_of(said, self._options))
        if isinstance(error, Completion):
            return _Answered(error, message)
        if isinstance(error, EngineOverloaded):
            self._hold(error)
            self._gate.refused += 1
        self._refused = said
        return error

    def _unreadable(
        self, path: str, error: answers.Unreadable, body: bytes, headers: Mapping[str, str]
    ) -> Exception:
        """The error for an unreadable body with a good status: a proxy, or a server starting or
        stopping."""
        if error.error is not None:
            code = error.error.get("code") if isinstance(error.error, dict) else None
            status = code if isinstance(code, int) and 400 <= code < 600 else 200
            return self._refusal(path, status, json.dumps({"error": error.error}).encode(), headers)
        said = body[:4096].decode(errors="replace")
        return EngineDead(self._plain(f"{self._url}{path}: {error.why}: {said}") + self._hint())

    def _hint(self) -> str:
        """What is probably wrong with an address that does not answer as expected."""
        if is_versioned(self._url):
            return ""
        return f"; base_url names no version: try {self._plain(self._url)}/v1"

    @property
    def throttle(self) -> Throttle:  # type: ignore[override]  (it depends on the event loop)
        throttles = _THROTTLES.setdefault(asyncio.get_running_loop(), {})
        key = (self._url, self._options.model, self._options.api_key_env or "", self.max_wait)
        return throttles.setdefault(key, Throttle(self.max_wait))

    @property
    def load(self) -> tuple[str, Load]:
        gate = self._gate
        return f"{self._url} {self._name}", Load(gate.inside, gate.waiting, 0.0, 0, gate.refused)

    def _hold(self, error: EngineOverloaded) -> None:
        """Makes all calls of the model wait if its server asks for that."""
        asked = error.retry_after
        if self._waits and asked and asked <= self.max_wait and self.throttle.hold(asked):
            log.warning("model %s waits %.0f s: %s", self._name, asked, error)

    def _note_clipping(self, done: Completion) -> None:
        longest, used = self._options.sampling.longest, done.output_tokens
        if self._clipping_logged or done.finish_reason != "length" or not longest or not used:
            return
        if used < longest:
            self._clipping_logged = True
            log.warning(
                "model %s: a reply was cut off after %d tokens, although %d are allowed: %s has "
                "a lower limit, or its context was full",
                self._name, used, longest, self._url,
            )  # fmt: skip

    def _plain(self, text: str, most: int = _QUOTED) -> str:
        """`text` as one short line without secrets.

        Secrets are removed before cutting, because a cut one would not be found.
        """
        for hidden in self._secrets:
            text = text.replace(hidden, "***")
        return " ".join(repaired(text).split())[: len(self._url) + most]


def _client_of(library: Any) -> type[openai.AsyncOpenAI]:
    """The library's client, without the headers that it would take from the environment."""

    class Client(library.AsyncOpenAI):
        def __init__(self, *, default_headers: Mapping[str, str], **given: Any) -> None:
            self._named = dict(default_headers)
            super().__init__(default_headers=default_headers, **given)

        @property
        def default_headers(self) -> dict[str, Any]:
            return {
                "Accept": "application/json",
                "Content-Type": "application/json",
                "User-Agent": self.user_agent,
                **self._named,
            }

    return Client
