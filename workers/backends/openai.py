"""Any server that speaks OpenAI's chat protocol: vLLM's, llama.cpp's, a provider's.

- One request is one try: the library's own retries are off, `workers.retry` owns them.
- An error names the server and what it said, never the key or credentials of the address.
- What does not get through (connection, 5xx) or is refused for now (429, 503) may be tried
  again; what the server would answer alike every time (401, 404, a bad request) may not.
"""

from __future__ import annotations

import asyncio
import base64
import os
import re
from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar
from urllib.parse import unquote, urlsplit

import numpy as np
from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from agents.core.calls import Call, Completion, Embedded, FinishReason
from agents.core.errors import (
    ContextOverflow,
    CrsweepError,
    EngineDead,
    EngineOverloaded,
    EngineRefused,
    Timeout,
    UsageError,
    near,
)
from agents.core.plugins import Options, operational
from workers.backends.core import Backend, BackendContext, Workload

if TYPE_CHECKING:
    import openai

__all__ = ["OpenAIBackend"]

_T = TypeVar("_T")
_M = TypeVar("_M", bound=BaseModel)

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_QUOTED = 300  # characters of a server's words that a message repeats
# The protocol has no one code for a prompt that is too long: these are the words of OpenAI,
# vLLM ("maximum model length", "max_model_len"), llama.cpp and SGLang.
_TOO_LONG = re.compile(
    r"context[ _](length|window|size)|maximum model length|max_model_len|prompt is too long", re.I
)
_FINISHED: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "content_filter": "content_filter",
}


class _Sampling(BaseModel):
    """How tokens are drawn. The seed comes with each call."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    temperature: Annotated[float, Field(ge=0, le=2)] = 0.7
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    max_tokens: Annotated[int, Field(ge=1)] = 512


_OWN = {"model", "messages", "seed", "response_format", "n", "stream", *_Sampling.model_fields}
_OWN |= {"input", "encoding_format"}


class _Options(Options):
    """Checked where a sweep is planned, so that a missing key is found before anything starts."""

    base_url: str = operational(...)
    """Up to and including the version: `http://127.0.0.1:8000/v1`."""
    model: str
    api_key_env: str | None = operational(None)
    """Name of the environment variable that holds the key; no key is sent without it."""
    timeout: float = operational(300.0, gt=0)
    """Seconds for one request, once it has a connection."""
    max_connections: int = operational(256, ge=1, le=1000)
    """Requests at once from one process; the library allows 1,000."""
    sampling: _Sampling = _Sampling()
    guided: Literal["json_schema", "none"] = "json_schema"
    """Whether the reply's schema is sent for guided decoding; without it the JSON is looked for
    in the reply. Replies are checked anyway."""
    extra_body: Annotated[dict[str, Any], Field(default_factory=dict)]
    """Further fields of the request, for what only this server knows. No place for secrets."""

    @field_validator("api_key_env")
    @classmethod
    def _is_set(cls, name: str | None) -> str | None:
        if name is not None and _NAME.fullmatch(name):
            _key(name)
        return name

    @field_validator("extra_body")
    @classmethod
    def _leaves_the_rest_alone(cls, body: dict[str, Any]) -> dict[str, Any]:
        taken = sorted(_OWN & body.keys())
        if taken:
            raise ValueError(f"{taken[0]!r} is set by other options or by the call itself")
        return body

    @model_validator(mode="after")
    def _hides_no_secret(self) -> _Options:
        # Here and not at the fields: the error of a field repeats its value, which may be secret.
        if self.api_key_env is not None and not _NAME.fullmatch(self.api_key_env):
            raise ValueError("api_key_env must be the name of an environment variable, not a key")
        if not _is_address(self.base_url):
            raise ValueError("base_url must look like http://host:port/v1, with nothing after it")
        return self


class _Message(BaseModel):
    content: str | None = None
    refusal: str | None = None
    # No part of the protocol: two names in use, and nothing says what else may be under them.
    thinking: Annotated[
        Any, Field(validation_alias=AliasChoices("reasoning_content", "reasoning"))
    ] = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Details(BaseModel):
    reasoning_tokens: int | None = None


class _Usage(BaseModel):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    completion_tokens_details: _Details | None = None


class _Answer(BaseModel):
    """What we read of a chat completion. The library itself checks no answer."""

    choices: Annotated[list[_Choice], Field(min_length=1)]
    usage: _Usage | None = None
    system_fingerprint: str | None = None


class _Vector(BaseModel):
    index: int
    embedding: list[float]


class _Vectors(BaseModel):
    """What we read of an answer to a request for embeddings."""

    data: list[_Vector]
    usage: _Usage | None = None


class _Listed(BaseModel):
    id: str


class _Models(BaseModel):
    data: list[_Listed]


class OpenAIBackend(Backend):
    """Sends calls to one server. `output_tokens` include thinking, as servers count them."""

    Options = _Options

    def __init__(self, options: _Options, context: BackendContext) -> None:
        import openai  # late: a second that every `--help` would pay

        self._openai = openai
        self._options = options
        self.guided = options.guided == "json_schema"
        self.greedy = options.sampling.temperature == 0
        try:
            key = _key(options.api_key_env) if options.api_key_env else None
        except ValueError as error:
            raise UsageError(f"model {context.name!r}: {error}") from None
        self._url, login = _without_login(options.base_url)
        basic = base64.b64encode(login.encode()).decode()
        self._secrets = _secrets(key, basic, options.base_url)
        self._slots = asyncio.Semaphore(options.max_connections)
        self._client = openai.AsyncOpenAI(
            base_url=self._url,
            # Without one the library would send OPENAI_API_KEY, which is not this server's.
            api_key=key or "none",
            default_headers={"Authorization": f"Basic {basic}"} if login else None,
            max_retries=0,
            timeout=None,  # `_send` holds the one deadline
        )

    async def complete(self, call: Call) -> Completion:
        async with self._slots:
            create = self._client.chat.completions.with_raw_response.create
            answer = await self._send(create(**self._request(call)))
        return self._completion(self._read(_Answer, answer.content))

    async def embed(self, texts: Sequence[str]) -> Embedded:
        async with self._slots:
            create = self._client.embeddings.with_raw_response.create
            answer = await self._send(
                create(
                    model=self._options.model,
                    input=list(texts),
                    encoding_format="float",  # base64, the library's choice, is not known to all
                    extra_body=self._options.extra_body or None,
                )
            )
        found = self._read(_Vectors, answer.content)
        rows = sorted(found.data, key=lambda row: row.index)
        lengths = {len(row.embedding) for row in rows}
        if [row.index for row in rows] != list(range(len(texts))) or len(lengths) != 1:
            raise EngineDead(f"{self._url}: not one embedding of one length for each text")
        vectors = np.array([row.embedding for row in rows], np.float32)
        return Embedded(vectors, (found.usage or _Usage()).prompt_tokens)

    async def check(self, work: Workload) -> str:
        """Which models the server lists; EngineRefused if the declared one is not among them."""
        answer = await self._send(self._client.models.with_raw_response.list())
        served = [listed.id for listed in self._read(_Models, answer.content).data]
        model = self._options.model
        known = f"{self._url} serves {', '.join(served) or 'no model'}"
        if model not in served:
            raise EngineRefused(self._plain(f"no model {model!r}{near(model, served)}; {known}"))
        return self._plain(known)

    async def close(self) -> None:
        await self._client.close()

    def _request(self, call: Call) -> dict[str, Any]:
        request = {
            "model": self._options.model,
            "messages": [message._asdict() for message in call.messages],
            "seed": call.seed,
            **self._options.sampling.model_dump(),
        }
        if self.guided and call.step.mode == "json":
            request["response_format"] = {
                "type": "json_schema",
                "json_schema": {
                    "name": call.step.name,
                    "schema": call.step.schema,
                    "strict": True,
                },
            }
        if self._options.extra_body:
            request["extra_body"] = self._options.extra_body
        return request

    async def _send(self, request: Awaitable[_T]) -> _T:
        """The answer; every error as one of ours. The causes are cut off: they hold the headers."""
        try:
            async with asyncio.timeout(self._options.timeout):
                return await request
        except (TimeoutError, self._openai.APITimeoutError):
            seconds = f"{self._options.timeout:g}"
            raise Timeout(f"{self._url}: no answer within {seconds} s") from None
        except self._openai.APIConnectionError as error:
            said = str(error.__cause__ or "") or error.message
            raise EngineDead(self._plain(f"{self._url}: {said}")) from None
        except self._openai.APIStatusError as error:
            raise self._refusal(error) from None
        except self._openai.OpenAIError as error:
            raise EngineRefused(self._plain(f"{self._url}: {error}")) from None

    def _refusal(self, error: openai.APIStatusError) -> CrsweepError:
        status = error.status_code
        message = self._plain(f"{self._url}: HTTP {status}: {_words(error.body) or error.message}")
        if status in (429, 503):
            return EngineOverloaded(message)
        if status >= 500:
            return EngineDead(message)
        if status == 408:
            return Timeout(message)
        if status in (400, 413, 422) and _TOO_LONG.search(error.response.text):
            return ContextOverflow(message)
        return EngineRefused(message)

    def _read(self, kind: type[_M], body: bytes) -> _M:
        """A good status with another body comes from a proxy, or a server that comes or goes."""
        try:
            return kind.model_validate_json(body)
        except ValidationError:
            said = body.decode(errors="replace")
            raise EngineDead(
                self._plain(f"{self._url}: the answer does not follow the protocol: {said}")
            ) from None

    def _completion(self, answer: _Answer) -> Completion:
        choice = answer.choices[0]
        reason = choice.finish_reason
        if reason is None or reason in ("abort", "error"):
            raise EngineDead(f"{self._url}: the server broke off ({reason or 'no'} finish_reason)")
        if reason not in _FINISHED:
            raise EngineRefused(
                self._plain(f"{self._url}: cannot use a reply that ends {reason!r}")
            )
        text = choice.message.content
        if text is None:
            text = choice.message.refusal  # the model's own words, to be judged as a reply
        if text is None and reason == "stop":
            # The same seed gives the same nothing: trying again would only cost.
            raise EngineRefused(f"{self._url}: a reply without content (a reasoning parser's?)")
        thinking = choice.message.thinking
        usage = answer.usage or _Usage()
        details = usage.completion_tokens_details or _Details()
        return Completion(
            text or "",
            _FINISHED[reason],
            usage.prompt_tokens,
            usage.completion_tokens,
            details.reasoning_tokens,
            thinking=thinking if isinstance(thinking, str) and thinking else None,
            fingerprint=answer.system_fingerprint,
        )

    def _plain(self, text: str) -> str:
        """`text` as one short line without secrets. They go first: a cut one would not be found."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return " ".join(text.split())[: len(self._url) + _QUOTED]


def _key(name: str) -> str:
    """The key in the environment variable `name`; ValueError without its value."""
    key = os.environ.get(name, "").strip()
    if not key:
        raise ValueError(f"the environment variable {name} is not set")
    if not (key.isascii() and key.isprintable()):
        # A header with it would be refused deep below, by an error that repeats the key.
        raise ValueError(f"the environment variable {name} holds characters that no key has")
    return key


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises where it is no number, with words that may hold a password
    except ValueError:
        return False
    bare = not parts.query and not parts.fragment
    return parts.scheme in ("http", "https") and bool(parts.hostname) and bare


def _without_login(url: str) -> tuple[str, str]:
    """The address without credentials, and `user:password` or nothing."""
    parts = urlsplit(url)
    login, _, host = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    plain = f"{parts.scheme}://{host}{parts.path}".rstrip("/")
    return plain, f"{unquote(user)}:{unquote(password)}" if login else ""


def _secrets(key: str | None, basic: str, url: str) -> list[str]:
    """What no message may hold, the longest first. A user's name is secret if it stands alone."""
    user, _, password = urlsplit(url).netloc.rpartition("@")[0].partition(":")
    secret = password or user
    return sorted({key or "", basic, secret, unquote(secret)} - {""}, key=len, reverse=True)


def _words(body: object) -> str:
    """The message of an error's body, as far as there is one."""
    if isinstance(body, dict):
        inner = body.get("error", body)
        body = inner.get("message", inner) if isinstance(inner, dict) else inner
    return str(body) if body else ""
