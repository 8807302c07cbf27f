"""Tokens of calls: what models were given and wrote, and what of it was paid for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeGuard, TypeVar

from agents.core.ask import CallRecord
from agents.core.calls import MOST_TOKENS, Completion, Embedded

R = TypeVar("R", Completion, Embedded)

_COUNTS = ("input_tokens", "output_tokens", "thinking_tokens")


class Usage(NamedTuple):
    """Of one model. `counted` replies came with both token counts, `uncounted` ones did not."""

    input: int = 0
    output: int = 0
    uncounted: int = 0
    counted: int = 0

    @property
    def tokens(self) -> int:
        return self.input + self.output


def with_possible_counts(reply: R) -> R:
    """`reply`, where a count that no reply can have (-1, 4294967295, "20") is unknown.

    Thinking is part of the output, so more tokens of it than of the output are unknown too.
    """
    counts = [getattr(reply, name, None) for name in _COUNTS]
    wrong = [
        name
        for name, count in zip(_COUNTS, counts, strict=True)
        if count is not None and not _is_possible(count)
    ]
    _, output, thinking = counts
    if _is_possible(thinking) and _is_possible(output) and thinking > output:
        wrong.append("thinking_tokens")
    return reply._replace(**dict.fromkeys(wrong)) if wrong else reply


def _is_possible(count: Any) -> TypeGuard[int]:
    return type(count) is int and 0 <= count <= MOST_TOKENS


def usage_of(records: Iterable[CallRecord]) -> dict[str, Usage]:
    """What calls have used, by the model's name in the sweep file.

    A call that failed has no counts: what its tries have cost is not known.
    """
    found: dict[str, list[int]] = {}
    for record in records:
        done = record.completion
        if done is None or done.cached:
            continue
        sums = found.setdefault(record.model.name, [0, 0, 0, 0])
        sums[0] += done.input_tokens or 0
        sums[1] += done.output_tokens or 0
        uncounted = done.input_tokens is None or done.output_tokens is None
        sums[2] += uncounted
        sums[3] += not uncounted
    return {name: Usage(*sums) for name, sums in found.items()}


class CallCounts(NamedTuple):
    """Of calls that have ended, those that failed and those that cost nothing included."""

    calls: int = 0
    cached: int = 0
    """Answered from the cache or the journal, or by a request that another call made."""
    tokens: int = 0
    uncounted: int = 0
    """Replies that came without token counts, so that `tokens` is a lower bound."""

    def plus(self, other: CallCounts) -> CallCounts:
        return CallCounts(*map(sum, zip(self, other, strict=True)))


def counts_of(records: Sequence[CallRecord]) -> CallCounts:
    """Counts of calls, cached ones included."""
    replies = [record.completion for record in records if record.completion is not None]
    return CallCounts(
        len(records),
        sum(reply.cached for reply in replies),
        sum((reply.input_tokens or 0) + (reply.output_tokens or 0) for reply in replies),
        sum(reply.input_tokens is None or reply.output_tokens is None for reply in replies),
    )


def add(total: dict[str, Usage], more: Mapping[str, Usage]) -> None:
    """Adds `more` to `total`."""
    for name, used in more.items():
        total[name] = Usage(*map(sum, zip(total.get(name, Usage()), used, strict=True)))
