"""Reads what a server answers, leniently: a reply is used however it is wrapped.

- An impossible token count is treated as unknown.
- The finish reason is one of three, whatever a server calls it.
- Text that cannot be encoded is repaired.
"""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

from agents.core.calls import MOST_TOKENS, Completion, Embedded, FinishReason
from agents.core.text import repaired, repaired_deep
from workers.backends.openai.refusals import parsed
from workers.core.usage import with_possible_counts

_FINISHED: dict[str, FinishReason] = {
    **dict.fromkeys(
        (
            "length",
            "max_tokens",
            "max_length",
            "max_new_tokens",
            "max_output_tokens",
            "max_completion_tokens",
            "model_length",
            "token_limit",
            "model_context_window_exceeded",
        ),
        "length",
    ),
    **dict.fromkeys(
        (
            "content_filter",
            "content_filtered",
            "content_filter_result",
            "guardrail_intervened",
            "moderation",
            "safety",
            "sensitive",
            "recitation",
            "blocklist",
            "prohibited_content",
            "spii",
        ),
        "content_filter",
    ),
}
_BROKEN = frozenset(
    {"abort", "aborted", "cancelled", "canceled", "error", "failed", "timeout",
     "insufficient_system_resource"}
)  # fmt: skip


_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_PROTOCOL = "the answer does not follow the protocol"
_VECTORS = "expected one embedding per text, all of the same length"


class Unreadable(Exception):
    """An answer without a reply: the reason `why`, and the `error` that it reports, if any."""

    def __init__(self, why: str, error: Any = None) -> None:
        super().__init__(why)
        self.why, self.error = why, error


def completion(body: bytes, longest: int | None) -> Completion:
    """The reply of a chat completion; `longest` is the token limit that was sent."""
    answer = _answer(body)
    choices = answer.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    if not choices and _is_blocked(answer):
        choice = {"finish_reason": "content_filter"}
    if not isinstance(choice, dict):
        raise Unreadable(_PROTOCOL)
    if choice.get("error"):  # the upstream server of a proxy
        raise Unreadable("the server ended the reply early", choice["error"])
    message = choice.get("message")
    if message is None and _named_finish(choice.get("finish_reason")) == "content_filter":
        message = {}
    if not isinstance(message, dict):
        raise Unreadable(_PROTOCOL)
    content = message.get("content")
    if content is not None and not isinstance(content, str | list | dict):
        raise Unreadable(_PROTOCOL)
    # A refusal is also the model's own text, to be judged as a reply.
    text = _text(content) or _text(message.get("refusal"))
    usage = answer.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    details = usage.get("completion_tokens_details")
    details = details if isinstance(details, dict) else {}
    output = count(usage.get("completion_tokens", usage.get("output_tokens")))
    thinking = next(
        (found for found in (*map(_text, _thoughts(message)), _thought(content)) if found), None
    )
    finish = _finish(choice.get("finish_reason"), text, thinking, output, longest)
    done = Completion(
        "" if finish == "content_filter" else text,  # as where the request itself is refused
        finish,
        count(usage.get("prompt_tokens", usage.get("input_tokens"))),
        output,
        count(details.get("reasoning_tokens")),
        thinking=thinking,
        fingerprint=_string(answer.get("system_fingerprint")),
    )
    return with_possible_counts(done)


def vectors(body: bytes, texts: int) -> Embedded:
    """Embeddings in the order of the texts, all of one length."""
    answer = _answer(body)
    data = answer.get("data")
    if not isinstance(data, list):
        raise Unreadable(_PROTOCOL)
    rows: dict[int, np.ndarray] = {}
    for place, row in enumerate(data):
        vector = row.get("embedding") if isinstance(row, dict) else None
        if not isinstance(vector, list):
            raise Unreadable(_PROTOCOL)
        try:
            with np.errstate(over="ignore"):  # what is too large is seen below
                rows[int(row.get("index", place))] = np.array(vector, np.float32)
        except (TypeError, ValueError, OverflowError):
            raise Unreadable(_PROTOCOL) from None
    whole = len(rows) == len(data) and sorted(rows) == list(range(texts))
    if not whole or len({row.shape for row in rows.values()}) != 1:
        raise Unreadable(_VECTORS)
    found = np.stack([rows[index] for index in range(texts)])
    if found.ndim != 2 or not np.isfinite(found).all():
        raise Unreadable(_VECTORS)
    usage = answer.get("usage")
    tokens = count(usage.get("prompt_tokens")) if isinstance(usage, dict) else None
    return Embedded(found, tokens)


def models(body: bytes) -> list[str]:
    """The model ids that a server lists."""
    found = _parsed(body)
    listed = found.get("data", found.get("models")) if isinstance(found, dict) else found
    if not isinstance(listed, list):
        raise Unreadable("the list of models does not follow the protocol")
    ids = [_string(row.get("id", row.get("name"))) for row in listed if isinstance(row, dict)]
    return [name for name in ids if name]


def count(value: Any) -> int | None:
    """A token count; None if it is impossible. `10.0` and `"10"` are ten."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 10:
        value = int(value)
    if isinstance(value, float) and math.isfinite(value) and value == int(value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value <= MOST_TOKENS else None


def _parsed(body: bytes) -> Any:
    text = body.decode("utf-8-sig", errors="replace")
    try:
        found = parsed(text)
        # Only an escape can be half of a pair; skipping the rest saves thousands of numbers.
        return repaired_deep(found) if _SURROGATE.search(text) else found
    except RecursionError:
        return None


def _answer(body: bytes) -> dict[str, Any]:
    found = _parsed(body)
    if not isinstance(found, dict):
        raise Unreadable(_PROTOCOL)
    if found.get("error") and not found.get("choices") and not found.get("data"):
        raise Unreadable(_PROTOCOL, found["error"])
    return found


def _text(content: Any) -> str:
    """The text of a message: a string, or the text parts of a list."""
    if isinstance(content, str):
        return content
    if isinstance(content, dict):
        content = [content]
    if not isinstance(content, list):
        return ""
    parts = []
    for part in content:
        if isinstance(part, dict) and part.get("type", "text") in (
            "text",
            "output_text",
            "refusal",
        ):
            part = part.get("text", part.get("refusal"))
        if isinstance(part, str):
            parts.append(part)
    return repaired("".join(parts))


def _thoughts(message: dict[str, Any]) -> tuple[Any, Any]:
    # Not part of the protocol: two names that are in use.
    return message.get("reasoning_content"), message.get("reasoning")


def _thought(content: Any) -> str:
    """The thinking among the parts of a message."""
    parts = content if isinstance(content, list) else []
    return "".join(
        _text(part.get("thinking", part.get("reasoning")))
        for part in parts
        if isinstance(part, dict) and part.get("type") in ("thinking", "reasoning")
    )


def _finish(
    reason: Any, text: str, thinking: str | None, output: int | None, longest: int | None
) -> FinishReason:
    """How the reply ended. An uninformative reason is derived from the reply's length."""
    named = reason.lower() if isinstance(reason, str) else ""
    if named in _BROKEN:
        raise Unreadable(f"the server ended the reply early (finish_reason {reason!r})")
    known = _named_finish(reason)
    if known is not None:
        return known
    if not named and not text and thinking is None and not output:
        raise Unreadable("the server ended early (no finish_reason and no reply)")
    if named in ("", "unknown", "other", "null", "none") and output and longest:
        return "length" if output >= longest else "stop"
    return "stop"


def _named_finish(reason: Any) -> FinishReason | None:
    """What the name of a finish reason says by itself."""
    named = reason.lower() if isinstance(reason, str) else ""
    if named.startswith("content_filter"):  # "content_filter: PROHIBITED_CONTENT"
        return "content_filter"
    return _FINISHED.get(named)


def _is_blocked(answer: dict[str, Any]) -> bool:
    """Whether Gemini, behind a proxy, reports a blocked prompt instead of choices."""
    feedback = answer.get("promptFeedback", answer.get("prompt_feedback"))
    if not isinstance(feedback, dict):
        return False
    reason = _string(feedback.get("blockReason", feedback.get("block_reason")))
    return reason not in (None, "BLOCK_REASON_UNSPECIFIED")


def _string(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
