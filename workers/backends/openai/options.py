"""Options of the backend `openai`, checked when a sweep is planned."""

from __future__ import annotations

import os
import re
from typing import Annotated, Any, Literal, Self
from urllib.parse import unquote, urlsplit

from pydantic import BeforeValidator, Field, field_validator, model_validator

from agents.core.plugins import Options, operational

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_HEADER = re.compile(r"[A-Za-z0-9-]+")
_VERSIONED = re.compile(r"/v\d")
MOST_CONNECTIONS = 1000
"""The library's limit."""
_CALLED = ("/chat/completions", "/completions", "/embeddings", "/models")


class OpenAISampling(Options):
    """Sampling options. `null` leaves a field out, for servers that refuse it."""

    temperature: Annotated[float, Field(ge=0, le=2)] | None = 0.7
    top_p: Annotated[float, Field(gt=0, le=1)] | None = 1.0
    max_tokens: Annotated[int, Field(ge=1)] | None = 512
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    """Sent instead of `max_tokens`, which newer models of OpenAI refuse."""
    seed: Literal["call"] | None = "call"
    """Each call has its own seed, which cannot be set here; `null` sends none."""

    @model_validator(mode="after")
    def _bounds_once(self) -> Self:
        if self.max_completion_tokens and self.max_tokens and "max_tokens" in self.model_fields_set:
            raise ValueError("max_completion_tokens replaces max_tokens: give only one of them")
        return self

    def fields(self, seed: int) -> dict[str, Any]:
        """The request fields."""
        given = self.model_dump(exclude={"seed"}, exclude_none=True)
        if self.max_completion_tokens is not None:
            given.pop("max_tokens", None)
        return given if self.seed is None else {"seed": seed, **given}

    @property
    def longest(self) -> int | None:
        """The token limit of a reply, if one is sent."""
        return self.max_completion_tokens or self.max_tokens


_OWN = {"model", "messages", "response_format", "n", "stream", *OpenAISampling.model_fields}
_OWN |= {"input", "encoding_format"}


def _number_or_auto(value: Any) -> Any:
    if value == "auto" or (type(value) is int and 1 <= value <= MOST_CONNECTIONS):
        return value
    raise ValueError(
        f"expected auto, or a whole number from 1 to {MOST_CONNECTIONS:,}, found {value!r}"
    )


class OpenAIOptions(Options):
    """Checked when a sweep is planned, so that a missing key is found before anything starts."""

    base_url: str = operational(...)
    """The address up to and including the version: `http://127.0.0.1:8000/v1`."""
    model: str
    api_key_env: str | None = operational(None)
    """Name of the environment variable with the key; without it, no key is sent."""
    headers_env: dict[str, str] = operational({})
    """Header -> environment variable with its value: `OpenAI-Organization: OPENAI_ORG_ID`."""
    timeout: float = operational(300.0, gt=0)
    """Seconds for one request, once it has a connection."""
    max_connections: Annotated[
        Annotated[int, Field(ge=1, le=MOST_CONNECTIONS)] | Literal["auto"],
        BeforeValidator(_number_or_auto),
    ] = operational(256)
    """Concurrent requests from one process, 1,000 at most. `auto` begins with 64, adds more as long
    as the server answers, and removes some when it refuses (HTTP 429)."""
    max_wait: float = operational(600.0, ge=0)
    """Total seconds that a call waits because the server asks for it (`Retry-After`)."""
    sampling: OpenAISampling = OpenAISampling()
    guided: Literal["json_schema", "none"] = "json_schema"
    """Whether the reply's schema is sent for guided decoding; otherwise the JSON is looked for in
    the reply. Replies are validated in any case."""
    strict: bool | None = True
    """The field `strict` that is sent with the schema; `null` leaves it out."""
    extra_body: Annotated[dict[str, Any], Field(default_factory=dict)]
    """Additional request fields that only this server knows. Do not put secrets here."""

    @field_validator("extra_body")
    @classmethod
    def _leaves_the_rest_alone(cls, body: dict[str, Any]) -> dict[str, Any]:
        taken = sorted(_OWN & body.keys())
        if taken:
            raise ValueError(f"{taken[0]!r} is set by other options or by the call itself")
        return body

    @model_validator(mode="after")
    def _no_secret_in_headers(self) -> Self:
        # Here and not at the fields: the error of a field repeats its value, which may be secret.
        if self.api_key_env is not None and not _NAME.fullmatch(self.api_key_env):
            raise ValueError("api_key_env must be the name of an environment variable, not a key")
        for header, name in self.headers_env.items():
            if not _HEADER.fullmatch(header):
                raise ValueError("headers_env: the name of a header has letters, digits and '-'")
            if not _NAME.fullmatch(name):
                raise ValueError(
                    "headers_env maps headers to names of environment variables, not to values"
                )
        if not _is_address(self.base_url):
            raise ValueError("base_url must look like http://host:port/v1, with nothing after it")
        called = next((end for end in _CALLED if urlsplit(self.base_url).path.endswith(end)), None)
        if called is not None:
            raise ValueError(f"base_url: leave out {called}, which is added for each request")
        for field, name in (("api_key_env", self.api_key_env), *self._headers()):
            if name is not None:
                try:
                    secret(name)
                except ValueError as error:
                    raise ValueError(f"{field}: {error}") from None
        return self

    def environment(self) -> list[str]:
        """Names of the environment variables whose values are sent to the server."""
        return [name for name in (self.api_key_env, *self.headers_env.values()) if name]

    def _headers(self) -> list[tuple[str, str]]:
        return [("headers_env", name) for name in self.headers_env.values()]


def secret(name: str) -> str:
    """The value of the environment variable `name`. Raises ValueError if it has none."""
    value = os.environ.get(name, "").strip()
    if not value:
        raise ValueError(f"the environment variable {name} is not set")
    if not (value.isascii() and value.isprintable()):
        # The client would refuse such a header later, with an error that repeats the value.
        raise ValueError(
            f"the environment variable {name} contains characters not allowed in headers"
        )
    return value


def without_login(url: str) -> tuple[str, str]:
    """The address without credentials, and `user:password` or an empty string."""
    parts = urlsplit(url)
    login, _, host = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    plain = f"{parts.scheme}://{host}{parts.path}".rstrip("/")
    return plain, f"{unquote(user)}:{unquote(password)}" if login else ""


def secrets_of(values: list[str], url: str) -> list[str]:
    """What no message may contain, longest first. A user name without a password counts
    as secret."""
    user, _, password = urlsplit(url).netloc.rpartition("@")[0].partition(":")
    login = password or user
    return sorted({*values, login, unquote(login)} - {""}, key=len, reverse=True)


def is_versioned(url: str) -> bool:
    """Whether an address contains a version of the API, such as `/v1`."""
    return _VERSIONED.search(urlsplit(url).path) is not None


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises if it is not a number; its message may contain a password
    except ValueError:
        return False
    bare = not parts.query and not parts.fragment
    return parts.scheme in ("http", "https") and bool(parts.hostname) and bare
