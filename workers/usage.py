"""Tokens that were paid for: what models were given and wrote, cached replies left out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from agents.core.ask import CallRecord


class Usage(NamedTuple):
    """Of one model. `uncounted` replies came from a server that gives no token counts."""

    input: int = 0
    output: int = 0
    uncounted: int = 0

    @property
    def tokens(self) -> int:
        return self.input + self.output


def usage_of(records: Iterable[CallRecord]) -> dict[str, Usage]:
    """What calls have used, by the model's name in the sweep file.

    A call that failed has no counts: what its tries have cost is not known.
    """
    found: dict[str, list[int]] = {}
    for record in records:
        done = record.completion
        if done is None or done.cached:
            continue
        sums = found.setdefault(record.model.name, [0, 0, 0])
        sums[0] += done.input_tokens or 0
        sums[1] += done.output_tokens or 0
        sums[2] += done.input_tokens is None or done.output_tokens is None
    return {name: Usage(*sums) for name, sums in found.items()}


def add(total: dict[str, Usage], more: Mapping[str, Usage]) -> None:
    """Adds `more` to `total`."""
    for name, used in more.items():
        total[name] = Usage(*map(sum, zip(total.get(name, Usage()), used, strict=True)))
