"""Calls and contexts to try backends with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from agents.core.calls import Call, ChatMessage
from agents.core.steps import ReplyModel, Step, Title, text
from tests.fakes import CATALOGUE
from workers.backends.core.backend import BackendContext


class Naming(ReplyModel):
    action: Literal["recommend", "ask"]
    titles: Annotated[list[Title], Field(max_length=3)]
    words: Annotated[str, text(80)]


class Saying(ReplyModel):
    words: Annotated[str, text(30)]


STEP = Step("name_items", "rank", Naming)
TALK = Step("talk", "verbalise", Saying, mode="text")


def call(seed: int = 7, prompt: str = "Name films.", **changes: Any) -> Call:
    given: dict[str, Any] = {
        "step": STEP,
        "role": "agent",
        "scope": "u1",
        "turn": 1,
        "draw": 0,
        "reask": 0,
        "seed": seed,
        "messages": (ChatMessage("user", prompt),),
        "fields": {"items": CATALOGUE.items},
    }
    return Call(**{**given, **changes})


def context(log_folder: Path | None = None, executor: Literal["ray", "local"] = "local"):
    return BackendContext("m", executor, "run-1", log_folder, lambda: CATALOGUE)
