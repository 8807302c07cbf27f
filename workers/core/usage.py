"""Token usage of calls: input, output, and what of it was paid for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeGuard, TypeVar

from agents.core.ask import CallRecord
from agents.core.calls import MOST_TOKENS, Completion, Embedded

R = TypeVar("R", Completion, Embedded)

_COUNTS = ("input_tokens", "output_tokens", "thinking_tokens")


class Usage(NamedTuple):
    """The usage of one model. `counted` replies had both token counts, `uncounted` ones did not."""

    input: int = 0
    output: int = 0
    uncounted: int = 0
    counted: int = 0

    @property
    def tokens(self) -> int:
        return self.input + self.output


def with_possible_counts(reply: R) -> R:
    """`reply` with impossible counts (-1, 4294967295, "20") replaced by unknown.

    Thinking is part of the output, so more thinking than output tokens are unknown too.
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
    """The usage of calls, by the model's name in the sweep file.

    A failed call has no counts: what its attempts cost is unknown.
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
    """Counts of ended calls, including those that failed and those that cost nothing."""

    calls: int = 0
    cached: int = 0
    """Answered by the cache, the journal, or a request that another call made."""
    tokens: int = 0
    uncounted: int = 0
    """Replies without token counts, which make `tokens` a lower bound."""

    def plus(self, other: CallCounts) -> CallCounts:
        return CallCounts(*map(sum, zip(self, other, strict=True)))


def counts_of(records: Sequence[CallRecord]) -> CallCounts:
    """Counts of calls, including cached ones."""
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
