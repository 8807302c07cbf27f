"""What only the simulated user knows: its record, and the titles that it must not name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import AfterValidator, ValidationInfo

from agents.core.items import Catalogue, Fact, Item
from agents.core.steps import text
from simulators.core.leaks import Leak, Secret


def knew(targets: Iterable[Item], facts: Iterable[Fact]) -> dict[str, Any]:
    """For the opening's record: the ids of the targets, and the facts that the prompts gave."""
    return {
        "targets": [target.id for target in targets],
        "facts": [f"{fact.attribute}: {fact.value}" for fact in facts],
    }


class Secrets:
    """The titles of a user's targets. A title that the recommender has shown is no
    longer secret."""

    def __init__(self, targets: Iterable[Item], catalogue: Catalogue) -> None:
        self._kept = {target.id: Secret.of(target, catalogue) for target in targets}

    def shown(self, items: Iterable[Item]) -> None:
        for item in items:
            self._kept.pop(item.id, None)

    def leak(self, words: str) -> Leak | None:
        """The first name of a target that occurs in `words`."""
        leaks = (secret.leak(words) for secret in self._kept.values())
        return next((leak for leak in leaks if leak is not None), None)

    def record(self, words: str) -> dict[str, Any]:
        """The turn's record about a leak in `words`."""
        leak = self.leak(words)
        return {"leak": False} if leak is None else {"leak": True, **leak.extra()}

    def guarded(self, on: bool) -> dict[str, Any]:
        """The field of a prompt's context that makes `GuardedWords` refuse leaks, if `on`."""
        return {"guarded": self} if on and self._kept else {}


def _names_no_target(words: str, info: ValidationInfo) -> str:
    secrets: Secrets | None = (info.context or {}).get("guarded")
    if secrets is not None and secrets.leak(words) is not None:
        raise ValueError("your message gives away the title of the target; write one without it")
    return words


GuardedWords = Annotated[
    str,
    text(600, "Write your next message to the recommender."),
    AfterValidator(_names_no_target),
]
"""A user's message, as a field of a reply."""
