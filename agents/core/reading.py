"""Parses a model's text into a valid reply, or reports why it is invalid."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from agents.core.steps import ReplyModel, Step

_FENCE = "```"
_MARKS = re.compile(r'["{}\n\\]')

R = TypeVar("R", bound=ReplyModel)


def read_reply(step: Step[R], text: str, *, guided: bool, context: Mapping[str, Any]) -> R:
    """The reply in `text`. Raises pydantic's ValidationError.

    After guided decoding, `text` must be exactly the JSON reply. Free text may contain other words;
    the reply is validated just as strictly.
    """
    if step.mode == "text":
        return step.reply.model_validate({step.text_field: text.strip()}, context=context)
    if guided:
        return step.reply.model_validate_json(text, context=context)
    failed: ValidationError | None = None
    is_json = False
    for candidate in candidates(text):
        try:
            return step.reply.model_validate_json(candidate, context=context)
        except ValidationError as error:
            # What is wrong with an object says more than that the whole text is not one.
            if not is_json:
                failed, is_json = error, error.errors()[0]["type"] != "json_invalid"
    assert failed is not None
    raise failed


def candidates(text: str) -> Iterator[str]:
    """The places in free text where a JSON object may be, most likely first.

    These are the whole text, the last fenced block, then every balanced `{...}` that is not inside
    another, the last first. They do not overlap, so together they are at most three times as long
    as the text, and finding and validating them takes linear time.
    """
    yield text
    fenced = _last_fenced(text)
    if fenced is not None:
        yield fenced
    for start, end in reversed(_balanced(text)):
        yield text[start:end]


def _last_fenced(text: str) -> str | None:
    """The inside of the last fenced block, without the name of its language."""
    parts = text.split(_FENCE)
    last = (len(parts) - 1) // 2 * 2 - 1  # the last odd part that a fence follows
    if last < 0:
        return None
    return parts[last].lstrip(string.ascii_letters + string.digits)


def _balanced(text: str) -> list[tuple[int, int]]:
    """Places of the outermost balanced `{...}`, in order.

    Braces inside of strings do not count; a string ends at the end of its line at the latest, as
    in JSON. A brace that is never closed does not keep later ones from being found.
    """
    found: list[tuple[int, int]] = []
    open_at: list[int] = []
    in_string, escaped = False, -1
    for mark in _MARKS.finditer(text):
        sign, place = mark.group(), mark.start()
        if sign == "\n":
            in_string = False
        elif place == escaped:
            continue
        elif sign == '"':
            in_string = not in_string and bool(open_at)
        elif in_string:
            if sign == "\\":
                escaped = place + 1
        elif sign == "{":
            open_at.append(place)
        elif sign == "}" and open_at:
            start = open_at.pop()
            while found and found[-1][0] > start:
                found.pop()
            found.append((start, mark.end()))
    return found
