"""What a server's refusal means. Servers word the same fault differently; here it gets one class.

- `read` collects what an error says: its message, its codes, all of its text, and how long to wait.
- `refusal_of` decides. The order matters: content filters and context overflows concern this one
  prompt; everything after them is infrastructure.
- Only the server's own text is searched, not the parts that echo the request.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

from agents.core.calls import Completion
from agents.core.errors import (
    ContextOverflow,
    CrsweepError,
    EngineDead,
    EngineOverloaded,
    EngineRefused,
    ModelUnavailable,
    Timeout,
)
from agents.core.text import repaired

_DEEPEST = 8  # levels of an error's body that are read
_MOST_STRINGS = 200
_MOST_WORDS = 20_000  # characters of an error that are searched

# Keys under which servers repeat prompts and replies, which may hold any words.
_ECHOES = frozenset(
    {"input", "messages", "request", "prompt", "body", "url", "ctx", "flagged_input",
     "failed_generation"}
)  # fmt: skip
_CODES = frozenset({"code", "type", "status", "reason", "error_code", "errorcode", "error_type"})

# A prompt that is too long, as it is worded by OpenAI, Azure, Anthropic, Gemini, Bedrock, Mistral,
# Cohere, xAI, Groq, Together, Fireworks, OpenRouter, DeepSeek, Kimi, MiniMax, DashScope,
# SiliconFlow, Cerebras, watsonx, vLLM, SGLang, TGI, TensorRT-LLM, llama.cpp, LM Studio, Ollama.
# tests/workers/backends/openai/test_refusals.py has a sentence of each.
_INPUT = r"(prompt|inputs?|messages?|request(ed)?|query|conversation|text|sequence)"
_TOO_LONG = re.compile(
    "|".join(
        (
            r"(maximum|max\.?) (allowed )?(context|prompt|input|sequence) "
            r"(length|size|window|limit)\b(?! (must|should|is not))",
            r"context[ _-]?(length|window|size|limit)[ _-]?(is |was )?exceeded",
            r"exceed_context_size|contextwindowexceeded|context the overflows",
            r"exceed\w*\b[^.]{0,60}\bcontext[ _-]?(length|window|size|limit)",
            r"exceed\w*\b[^.]{0,60}\binput (length|limit)",
            r"context (length|window|size|limit) (of|is)\b[^.]{0,12}\d",
            r"context (length|window|size|limit) exceeds",
            r"(longer|larger|greater|bigger|more) than\b[^.]{0,40}"
            r"\b(context (length|window|size|limit)|maximum model length|max_model_len)",
            rf"\b{_INPUT}\b[^.]{{0,30}} (is|are|was|were) (too|to) (long|large)\b",
            rf"\b{_INPUT} too (long|large)\b|input_too_long|too many (input|prompt) tokens",
            r"too many tokens\b(?!, please wait)",
            rf"\b{_INPUT}\b[^.]{{0,40}}\bexceed\w*\b[^.]{{0,60}}\b(tokens?|length|limit)\b",
            r"\bnumber of (input|prompt) tokens\b[^.]{0,40}\b(exceed|cannot)",
            r"\b(input|prompt|total|requested)[ _]tokens?\b[^.]{0,60}\bexceed",
            r"\btokens?\b[^.]{0,30}\bexceed\w*\b[^.]{0,20}\b"
            r"(max_prompt_tokens|max_seq_len|max_model_len|session_len)",
            r"\b(exceed\w* (the )?model token limit|token limit exceeded)",
            r"max_prompt_tokens_exceeded",
            r"`?inputs`? (tokens \+|must have less than)",
            r"range of input length should be|expected maxlength: \d+, actual: \d+",
            r"reduce the length of (the|your) (messages|prompt|input)",
            r"current length is \d+ while limit is \d+",
            r"input token count is \d+ but",
            r"\b(prompt|inputs?|messages?|request|conversation)\b[^.]{0,20} \d[\d,]* tokens\b"
            r"[^.]{0,60}\b(at most|up to|only|limit|maximum|max\b)",
            r"\btokens? (in|of) (the|your) (prompt|inputs?|messages?|request)\b[^.]{0,25}"
            r"\b(surpass\w*|exceed\w*|above|beyond|over|(greater|larger|more|higher) than)\b",
            r"\b(input|prompt)[ _]tokens?\b[^.]{0,20} (plus|and|\+) [^.]{0,40}"
            r"(\b(greater|larger|more|higher) than\b|\bexceed|\bsurpass|\bmust\b|<=|>)",
            r"request_too_large|request exceeds the maximum size|input_length_error",
        )
    ),
    re.I,
)
# The same words about something else: a rate of tokens, or the bound of the reply alone.
_OTHER_LIMIT = re.compile(
    r"per (minute|hour|day|second)|\b[tr]pm\b|rate[ _-]?limit|throttl|too many requests"
    r"|(?<!\+ `)(?<!\+ )(?<!plus )(?<!plus `)"
    r"max_(completion_|new_)?tokens\S*( is)? (must|cannot|can't|should)\b"
    r"|at most \d+ completion tokens|range of max_tokens"
    r"|string_above_max_length|string too long"
    r"|\b(field|parameter|property|argument|option) [`'\"]?(?!(messages?|prompt|inputs?)\b)\w+\b"
    r"[^.]{0,20} (too|to) (long|large)\b|\bstop\b[^.]{0,25} (too|to) (long|large)\b",
    re.I,
)

# Fields of a request that a refusal may name as too long, and that hold no prompt.
_NO_PROMPT = frozenset(
    {"stop", "user", "seed", "metadata", "response_format", "tools", "logit_bias", "model"}
)

_FILTER_CODES = frozenset(
    {
        "content_filter",
        "contentfilter",
        "content_filtered",
        "content_blocked",
        "content_policy_violation",
        "contentpolicyviolationerror",
        "responsibleaipolicyviolation",
        "data_inspection_failed",
        "datainspectionfailed",
        "moderation_blocked",
        "prohibited_content",
    }
)
_FILTER = re.compile(
    r"content management policy|contentpolicyviolation|inappropriate content"
    r"|content exists risk|considered high risk|rejected by the safety system"
    r"|your input was flagged|flagged as potentially violating"
    r"|content filter(ing)? (was )?triggered"
    r"|((blocked|filtered|rejected|withheld|stopped|flagged) (by|due to|because of)|triggered)\b"
    r"(?![^.]{0,30}(parameter|field|option|setting)) [^.]{0,30}\b(guardrail"
    r"|content[ _-]?(filter|moderation|polic|management|safety)|safety (system|filter|polic))"
    r"|blocked by (our|the|your) content"
    r"|violat\w+ [^.]{0,40}(content|usage) polic",
    re.I,
)

# The model wrote what its own server cannot read: an invalid reply, as any other.
_INVALID_CODES = frozenset({"json_validate_failed", "output_parse_failed", "tool_use_failed"})

_MONEY_CODES = frozenset(
    {
        "insufficient_quota",
        "insufficient_user_quota",
        "pre_consume_token_quota_failed",
        "insufficient_balance",
        "insufficient_credits",
        "exceeded_current_quota_error",
        "billing_hard_limit_reached",
        "billing_not_active",
        "billing_error",
        "arrearage",
        "account_deactivated",
        "access_terminated",
    }
)
_MONEY = re.compile(
    r"insufficient[ _](account )?(balance|credits?|funds|quota)|credit balance is too low"
    r"|(not enough|out of) (credits?|quota)|billing hard limit|account is not active"
    r"|payment required",
    re.I,
)
_QUOTA = re.compile(r"exceeded your current quota", re.I)

_KEY_CODES = frozenset({"invalid_api_key", "api_key_invalid", "unauthenticated"})
_KEY = re.compile(
    r"api[ _-]?key( is)? (not valid|invalid|missing|expired|not found)"
    r"|(invalid|incorrect|missing|expired|wrong|no)[ _](api[ _-]?key|authentication token)",
    re.I,
)

_MODEL_CODES = frozenset(
    {
        "model_not_found",
        "model_not_exist",
        "model_decommissioned",
        "invalid_model",
        "unknown_model",
        "modelnotfound",
        "deploymentnotfound",
    }
)
_MODEL = re.compile(
    r"no such model|unknown model|model not exist|model[ _]not[ _]found|is not a valid model"
    r"|invalid model (name|id)"
    r"|\bmodel:? ?[`'\"]?[^\s`'\"]{1,100}[`'\"]? (does not exist|(was|is) not found|not found"
    r"|has been (deprecated|decommissioned|retired))",
    re.I,
)

_GONE = frozenset({404, 405, 410})
_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")
_AGAIN_IN = re.compile(r"try again in ((?:\d+(?:\.\d+)?(?:ms|[hms]))+)", re.I)


class Refusal(NamedTuple):
    """An error as a server sent it."""

    status: int
    message: str
    """The message for people."""
    codes: frozenset[str]
    """Its codes and types, in lower case, including those of nested errors."""
    words: str
    """All of its text, without echoes of the request."""
    wait: float | None = None
    """Seconds until a retry, if the server says so."""
    about: frozenset[str] = frozenset()
    """Request fields that it names as the cause."""
    generated: str = ""
    """What the model had written, if the error repeats it."""


def read(status: int, body: bytes, headers: Mapping[str, str], now: datetime) -> Refusal:
    """Collects what an error says. `now` is this machine's time, for dates that the
    server names."""
    text = repaired(body.decode("utf-8-sig", errors="replace"))
    found = parsed(text)
    strings = list(_strings(found))
    words = " ".join(said for _, said in strings)
    message = _message(found) or " ".join(text.split())
    codes = frozenset(said.lower() for key, said in strings if key in _CODES)
    wait = (
        _wait(headers, found, words, now)
        if status in (403, 408, 409, 425, 429) or (status >= 500)
        else None
    )
    inner = found.get("error") if isinstance(found, dict) else None
    generated = inner.get("failed_generation") if isinstance(inner, dict) else None
    return Refusal(
        status,
        message,
        codes,
        (words or text)[:_MOST_WORDS],
        wait,
        frozenset(_about(found)),
        repaired(generated) if isinstance(generated, str) else "",
    )


def refusal_of(said: Refusal, message: str) -> CrsweepError | Completion:
    """The error for `said`, with `message` as its text.

    Some are answers in the form of an error: a reply withheld by a content filter, or found invalid
    by the server.
    """
    status, words = said.status, said.words
    if status in (200, 400, 403, 422, 451, 500) and (
        said.codes & _FILTER_CODES or _FILTER.search(words)
    ):
        return Completion("", "content_filter")
    if said.codes & _INVALID_CODES:
        return Completion(said.generated, "stop")
    if said.codes & _MONEY_CODES or (_MONEY.search(words) and status != 503):
        return ModelUnavailable(message)
    if status == 429 and _QUOTA.search(words) and not _resets(said):
        return ModelUnavailable(message)
    if status == 403 and said.wait is not None:
        return EngineOverloaded(message, retry_after=said.wait)
    if status in (401, 402, 403) or status in _GONE or 300 <= status < 400:
        return ModelUnavailable(message)
    if status != 429 and _overflows(said):
        return ContextOverflow(message)
    if status in (409, 425, 429, 498, 503, 529) or (said.wait is not None and status >= 500):
        return EngineOverloaded(message, retry_after=said.wait)
    if status == 408:
        return Timeout(message)
    if status in (200, 400, 422) and (
        said.codes & (_KEY_CODES | _MODEL_CODES) or _KEY.search(words) or _MODEL.search(words)
    ):
        return ModelUnavailable(message)
    return EngineDead(message) if status >= 500 or status == 200 else EngineRefused(message)


def _overflows(said: Refusal) -> bool:
    if "context_length_exceeded" in said.codes:
        return True
    if _OTHER_LIMIT.search(said.words) and not re.search(
        r"maximum context length|context limit", said.words, re.I
    ):
        return False
    if said.about & _NO_PROMPT and not said.about & {"messages", "prompt", "input"}:
        return False
    return said.status == 413 or _TOO_LONG.search(said.words) is not None


def _resets(said: Refusal) -> bool:
    """Whether a quota renews by itself: Google words a rate limit like an empty account."""
    return said.wait is not None or "resource_exhausted" in said.codes


def parsed(text: str) -> Any:
    """`text` as JSON, else `text` itself."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _strings(value: Any, key: str = "", depth: int = 0) -> Iterator[tuple[str, str]]:
    """Each string in an error's body with its key; JSON inside strings is read as well."""
    stack, count = [(key, value, depth)], 0
    while stack and count < _MOST_STRINGS:
        key, value, depth = stack.pop()
        if isinstance(value, str):
            inner = parsed(value) if value[:1] in "{[" and value else value
            if isinstance(inner, dict | list) and depth < _DEEPEST:
                stack.append((key, inner, depth + 1))
            else:
                count += 1
                yield key, value
        elif isinstance(value, int | float) and not isinstance(value, bool):
            count += 1
            yield key, str(value)
        elif isinstance(value, dict) and depth < _DEEPEST:
            parts = [(str(k).lower(), v, depth + 1) for k, v in value.items()]
            stack += reversed([part for part in parts if part[0] not in _ECHOES])
        elif isinstance(value, list) and depth < _DEEPEST:
            stack += reversed([(key, part, depth + 1) for part in value])


def _message(body: Any) -> str:
    """The message of an error's body, if there is one."""
    if isinstance(body, list) and body:
        return "; ".join(filter(None, (_message(part) for part in body[:3])))
    if not isinstance(body, dict):
        return body if isinstance(body, str) else ""
    inner = body.get("error", body)
    if isinstance(inner, dict):
        message = next(
            (inner[k] for k in ("message", "msg", "detail", "error_msg") if inner.get(k)), None
        )
        if isinstance(message, list):
            message = _message(message)
        where = inner.get("loc")
        if isinstance(where, list) and isinstance(message, str):
            message = f"{'.'.join(map(str, where))}: {message}"
        behind = inner.get("metadata")
        raw = behind.get("raw") if isinstance(behind, dict) else None
        if isinstance(raw, str) and isinstance(message, str):
            message = f"{message}: {_message(parsed(raw)) or raw}"
        return str(message if message is not None else inner) if inner else ""
    return str(inner) if inner else ""


def _about(body: Any) -> Iterator[str]:
    """The fields of a request that an error names as its cause."""
    inner = body.get("error", body) if isinstance(body, dict) else None
    if not isinstance(inner, dict):
        return
    if isinstance(inner.get("param"), str):
        yield re.split(r"[.\[]", inner["param"])[0]
    details = inner.get("detail")
    for detail in details if isinstance(details, list) else []:
        where = detail.get("loc") if isinstance(detail, dict) else None
        if isinstance(where, list):
            yield from (str(part) for part in where if part != "body")


def _wait(headers: Mapping[str, str], body: Any, words: str, now: datetime) -> float | None:
    """Seconds to wait according to the headers, or else the text."""
    waits = [
        _scaled(headers.get("retry-after-ms"), 0.001),
        _retry_after(headers, now),
        *(_reset(headers, of, now) for of in ("-requests", "-tokens", "")),
    ]
    known = [wait for wait in waits if wait is not None]
    if not known:
        known = [_duration(said) for key, said in _strings(body) if key == "retrydelay"]
        found = _AGAIN_IN.search(words)
        known += [_duration(found[1])] if found else []
    return next((max(0.0, wait) for wait in known if wait is not None), None)


def _scaled(value: str | None, unit: float) -> float | None:
    try:
        number = float(value) * unit if value is not None else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    value = headers.get("retry-after")
    seconds = _scaled(value, 1.0)
    if value is None or seconds is not None:
        return seconds
    until = _date(value)
    # By the server's own clock, if a header shows it.
    return (until - (_date(headers.get("date", "")) or now)).total_seconds() if until else None


def _reset(headers: Mapping[str, str], of: str, now: datetime) -> float | None:
    """When an exhausted limit renews: seconds, a duration, or a Unix time."""
    if _scaled(headers.get(f"x-ratelimit-remaining{of}"), 1.0) != 0:
        return None
    value = headers.get(f"x-ratelimit-reset{of}", "")
    number = _scaled(value, 1.0)
    if number is None:
        return _duration(value)
    if number > 1e9:
        number = (number / 1000 if number > 1e11 else number) - now.timestamp()
    return number


def _date(value: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _duration(value: str) -> float | None:
    """Seconds of a duration such as `6m0s` or `20ms`."""
    found = _DURATION.fullmatch(value.strip())
    if found is None or not value.strip():
        return None
    hours, minutes, seconds, millis = (float(part or 0) for part in found.groups())
    total = 3600 * hours + 60 * minutes + seconds + millis / 1000
    return total if math.isfinite(total) else None
