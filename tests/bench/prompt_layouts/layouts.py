"""The layouts: ways to put the parts of a prompt into chat messages."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from agents.core.dialogue import Message

FORM = "\u0001form\u0001"
_SHAPE = "Answer now with one JSON object as described above:"
CLOSING = "Write your reply now, in the form described above."
Chat = list[dict[str, str]]


class Pieces(NamedTuple):
    """A prompt in parts. `FORM` is in the part before the conversation, or in the part after it."""

    before: str
    conversation: Sequence[Message]
    words: str
    after: str
    form: str
    example: str
    closing: str
    own: str
    """Who speaks here: "user", or "recommender"."""


def middle(p: Pieces) -> Chat:
    """One message, with the form where the template puts it."""
    return [_user(_text(p).replace(FORM, p.form))]


def closing(p: Pieces) -> Chat:
    """`middle`, with a line at the end that asks for the reply."""
    return [_user(f"{_text(p).replace(FORM, p.form)}\n\n{CLOSING}")]


def closing_fields(p: Pieces) -> Chat:
    """`middle`, with a last line that names the fields of the reply. This is what `Ask` does."""
    return [_user(f"{_text(p).replace(FORM, p.form)}\n\n{p.closing}")]


def closing_example(p: Pieces) -> Chat:
    """`middle`, with a last line that shows an example of the reply."""
    return [_user(f"{_text(p).replace(FORM, p.form)}\n\n{_SHAPE} {p.example}")]


def last(p: Pieces) -> Chat:
    """One message, with the form at the end."""
    return [_user(f"{_without_form(_text(p))}\n\n{p.form}")]


def last_example(p: Pieces) -> Chat:
    """One message, with the form and an example at the end."""
    return [_user(f"{_without_form(_text(p))}\n\n{p.form}\nExample: {p.example}")]


def turns(p: Pieces) -> Chat:
    """A system message that ends with the form, the conversation as turns, then the inputs."""
    return _turns(p, _without_form(p.after))


def turns_closing(p: Pieces) -> Chat:
    """`turns`, with a line at the end that asks for the reply."""
    return _turns(p, f"{_without_form(p.after)}\n\n{CLOSING}".strip())


LAYOUTS: dict[str, Callable[[Pieces], Chat]] = {
    f.__name__: f
    for f in (
        middle,
        closing,
        closing_fields,
        closing_example,
        last,
        last_example,
        turns,
        turns_closing,
    )
}


def _user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def _text(p: Pieces) -> str:
    return p.before + p.words + p.after


def _without_form(text: str) -> str:
    return re.sub(rf"\n*{FORM}\n*", "\n\n", text).strip()


def _turns(p: Pieces, rest: str) -> Chat:
    label = p.before.rfind("\n", 0, -1)  # "The conversation so far:", which the turns need not
    system = f"{_without_form(p.before[:label])}\n\n{p.form}"
    if not p.conversation:  # the inputs, which the form comes before
        instructions, _, inputs = p.before.partition(FORM)
        system, rest = f"{instructions.strip()}\n\n{p.form}", f"{inputs.strip()}\n\n{rest}".strip()
    chat: Chat = [{"role": "system", "content": system.strip()}]
    for message in p.conversation:
        role = "assistant" if message.speaker == p.own else "user"
        text = " ".join(message.text.split())
        if message.shown:
            text += f"\n(shown: {'; '.join(item.title for item in message.shown)})"
        _add(chat, role, text)
    if rest:
        _add(chat, "user", rest)
    return chat


def _add(chat: Chat, role: str, text: str) -> None:
    if chat[-1]["role"] == role:
        chat[-1]["content"] += f"\n\n{text}"
    else:
        chat.append({"role": role, "content": text})
