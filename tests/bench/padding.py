"""Code shared by the padded agent and the padded user."""

from __future__ import annotations

from typing import Annotated

from agents.core.steps import ReplyModel, text


class Words(ReplyModel):
    words: Annotated[str, text(64, "what you say")]
