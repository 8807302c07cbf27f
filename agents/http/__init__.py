"""An existing recommender in its own environment, called through a small JSON protocol.

Published systems (UniCRS, BARCOR) can thus take part in a sweep without being reimplemented.
docs/http-agent.md has the protocol, a reference server, and a check for servers.

`system` and `release` name what answers and are part of an episode's identity; the address is not.
Titles that the server names are matched to the catalogue as for all other agents; titles that match
no item are counted with the turn. An id that the catalogue lacks is the agent's failure.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

from pydantic import Field, field_validator

from agents.core.agent import Agent, AgentContext, AgentOptions
from agents.core.ask import Ask
from agents.core.dialogue import Action, AgentTurn, Dialogue
from agents.core.errors import AgentError
from agents.core.grounded_titles import GroundedTitles, Match, ground_mentions
from agents.core.items import Item
from agents.core.plugins import operational
from agents.core.seeds import call_seed
from agents.http.client import AgentServer, ask_server
from agents.http.protocol import NamedItem, request_of

__all__ = ["Http"]


class _Options(AgentOptions):
    system: Annotated[str, Field(min_length=1, max_length=200)]
    """The name of the system: `UniCRS`."""
    release: Annotated[str, Field(max_length=200)] = ""
    """Its version: `commit 1a2b3c`. Change it when the answers change."""
    url: str = operational(...)
    """The address for each turn: `http://127.0.0.1:8080/respond`."""
    timeout: float = operational(60.0, gt=0)
    """Seconds for one complete answer; a slower one is the agent's failure."""
    most_bytes: int = operational(1_000_000, ge=1)
    """The maximum size of an answer; a longer one is the agent's failure."""
    token_env: str | None = operational(None)
    """Environment variable whose value is sent as a bearer token; list it in `run.env_from`."""
    repeat: bool = False
    """Whether items of the user's history, and items shown before, may be recommended."""

    @field_validator("url")
    @classmethod
    def _is_http(cls, url: str) -> str:
        if not url.startswith(("http://", "https://")):
            raise ValueError("expected an address that begins with http:// or https://")
        return url


class Http(Agent):
    """Sends each turn to a server, and returns its answer."""

    Options = _Options
    options: _Options
    roles = ()
    steps = ()

    def __init__(self, options: _Options, context: AgentContext) -> None:
        super().__init__(options, context)
        headers = {}
        if options.token_env is not None:
            token = os.environ.get(options.token_env)
            if not token:
                raise AgentError(
                    f"token_env: the environment variable {options.token_env} is not set here; "
                    "list it in run.env_from"
                )
            headers["Authorization"] = f"Bearer {token}"
        self._server = AgentServer(options.url, options.timeout, options.most_bytes, headers)
        self._session = uuid.uuid4().hex  # a retried dialogue is a new session

    async def respond(self, dialogue: Dialogue, ask: Ask) -> AgentTurn:
        seed = call_seed(ask.sampling, ask.scope, ask.role, "respond", dialogue.turn, 0, 0)
        started = time.monotonic()
        answer = await ask_server(
            self._server,
            request_of(
                dialogue,
                session=self._session,
                noun=self.context.catalogue.noun,
                seed=seed,
                shown_items=self.context.shown_items,
                history=self.context.case.history,
            ),
        )
        seconds = time.monotonic() - started
        if len(answer.shown) > self.context.shown_items:
            raise AgentError(
                f"{self._server.name}: shown: {len(answer.shown)} items, expected at most "
                f"{self.context.shown_items} (`shown_items` of the request)"
            )
        shown, extra = self._shown(answer.shown, dialogue)
        extra["seconds"] = round(seconds, 3)
        ranking: tuple[Item, ...] | None = shown or None
        if answer.ranking is not None:
            found = self._grounded(answer.ranking)
            seen = self._seen(dialogue)
            ranking = tuple(item for item in found.items if item not in seen)
            extra["ranking_ungrounded"] = list(found.ungrounded)
        action: Action = answer.action or ("recommend" if answer.shown else "chat")
        return AgentTurn(
            answer.message, action, shown, ranking, strategy=answer.strategy, extra=extra
        )

    def _shown(
        self, named: Sequence[NamedItem], dialogue: Dialogue
    ) -> tuple[tuple[Item, ...], dict[str, Any]]:
        """The items that may be shown, and a record of what was named."""
        if not named:
            return (), {}
        found, seen = self._grounded(named), self._seen(dialogue)
        history = self.context.case.history
        found = found._replace(
            items=tuple(item for item in found.items if item not in seen),
            from_history=tuple(i for i in found.items if i in seen and i in history),
            shown_before=tuple(i for i in found.items if i in seen and i not in history),
        )
        return found.items, found.extra()

    def _seen(self, dialogue: Dialogue) -> list[Item]:
        """Items that must not be recommended: those of the history, and those shown before."""
        if self.options.repeat:
            return []
        return [*self.context.case.history, *(i for m in dialogue.whole for i in m.shown)]

    def _grounded(self, named: Iterable[NamedItem]) -> GroundedTitles:
        """The items that are meant, in the order named. Raises AgentError for an unknown id."""
        catalogue = self.context.catalogue
        items: dict[str, Item] = {}
        matches: list[Match] = []
        ungrounded: list[str] = []
        for one in named:
            if one.title is not None:
                found = ground_mentions([one.title], catalogue)
                items |= {item.id: item for item in found.items if item.id not in items}
                matches += found.matches
                ungrounded += found.ungrounded
            elif one.id in catalogue.position:
                items.setdefault(one.id, catalogue[one.id])
            else:
                raise AgentError(
                    f"{self._server.name}: the catalogue has no item with the id "
                    f"{(one.id or '')[:100]!r}; name items that are not in it by title"
                )
        return GroundedTitles(tuple(items.values()), matches, ungrounded)
