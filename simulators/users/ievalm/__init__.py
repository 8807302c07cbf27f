"""The free-form user of iEvaLM (Wang et al., EMNLP 2023, section 3.2).

It knows its targets and their facts. It talks freely, answers from the facts, accepts when a target
is recommended, refuses anything else and says what is missing, and never names a target.

Decided here: the paper's dialogues begin with messages from a data set, but this user writes its
own opening; the paper reads the decision from the text of one prompt, but here it is a field of the
reply. Its other mode, answering fixed questions about attributes, is not built.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agents.core.ask import Ask
from agents.core.items import Item, facts_of
from simulators.core.user import UserContext
from simulators.users.core.accepting import AcceptingOptions, AcceptingUser
from simulators.users.core.hidden import knew

__all__ = ["IEvaLM"]


class IEvaLM(AcceptingUser):
    """Wants one of its targets, and knows them."""

    version = 3
    Options = AcceptingOptions

    def __init__(self, options: AcceptingOptions, context: UserContext) -> None:
        super().__init__(options, context)
        every = (fact for target in self.targets for fact in facts_of(target))
        self._facts = tuple(dict.fromkeys(every))

    def fields(self, ask: Ask) -> Mapping[str, Any]:
        return {"targets": self.targets, "facts": self._facts}

    def wants(self, item: Item, ask: Ask) -> bool:
        return item in self.targets

    def knew(self, ask: Ask) -> dict[str, Any]:
        return knew(self.targets, self._facts)

    def why(self, accepted: Item | None) -> str:
        return "no target is shown" if accepted is None else "a target is shown"
