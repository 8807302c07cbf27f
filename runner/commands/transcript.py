"""What `crsweep play` shows: on the screen piece by piece, and as a Markdown page.

What models and data say is untrusted text. On the screen nothing in it is markup or steers the
terminal; on a page it is in fenced blocks that are longer than any fence in it.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from rich.console import Console
from rich.markup import escape

from agents.core.dialogue import AgentTurn, UserTurn
from agents.core.errors import UsageError
from simulators.core.critic import CriticTurn

MARK = "<!-- made by crsweep play --markdown"
"""How the line begins that separates a page's introduction from the dialogue."""
_MARK_LINE = f"{MARK}; the text above this line is kept -->"
_SHOWN_OF_A_STEP = 2  # calls, while an artifact is made: they differ in their items alone

LineKind = Literal["note", "warning", "part", "call", "reply", "agent", "user"]
_STYLES: Mapping[LineKind, str] = {
    "note": "dim",
    "warning": "yellow",
    "agent": "bold cyan",
    "user": "bold green",
}


class _Piece(NamedTuple):
    """A piece of the transcript: `title` is ours except for names; `words` come from a model or a
    prompt."""

    kind: LineKind
    title: str
    words: str = ""


class TranscriptView:
    """Shows one dialogue on `console`, if there is one, and collects it for a page."""

    def __init__(self, console: Console | None) -> None:
        self.console = console
        self._pieces: list[_Piece] = []

    def note(self, text: str, *, on_screen: bool = True) -> None:
        self._show(_Piece("note", text), on_screen=on_screen)

    def warning(self, text: str) -> None:
        self._show(_Piece("warning", text))

    def part(self, title: str) -> None:
        """Starts a new part with this heading."""
        self._show(_Piece("part", title))

    def agent(self, turn: AgentTurn) -> None:
        listed = [f"   {number}. {item.title}" for number, item in enumerate(turn.shown, start=1)]
        self._show(_Piece("agent", f"recommender ({turn.action})", "\n".join([turn.text, *listed])))

    def user(self, turn: UserTurn, *, typed: bool) -> None:
        """Shows the user's message, unless a person has just typed it on the screen."""
        self._show(_Piece("user", f"user ({turn.decision})", turn.text), on_screen=not typed)

    def critic(self, turn: CriticTurn) -> None:
        """Shows the critic's verdict, which neither side sees."""
        said = "no verdict" if turn.score is None else f"{turn.score:.2f}"
        ends = ", above its threshold" if turn.above else ""
        self._show(_Piece("note", f"critic: {said}{ends}"))

    def call(self, row: Mapping[str, Any]) -> None:
        """Shows one model call, given as a row of the table `calls`."""
        for piece in _pieces_of(row):
            self._show(piece)

    def preparation(self, title: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Shows the first calls of each step of an artifact, and how many more there are."""
        self.part(f"before the dialogue: {title}")
        steps: Counter[str] = Counter()
        for row in rows:
            steps[row["step"]] += 1
            if steps[row["step"]] <= _SHOWN_OF_A_STEP:
                self.call(row)
        for step, count in steps.items():
            if count > _SHOWN_OF_A_STEP:
                self.note(f"and {count - _SHOWN_OF_A_STEP:,} more calls of the step {step}")

    def markdown(self) -> str:
        return "\n\n".join([_MARK_LINE, *map(_markdown, self._pieces)]) + "\n"

    def _show(self, piece: _Piece, *, on_screen: bool = True) -> None:
        self._pieces.append(piece)
        if self.console is None or not on_screen:
            return
        title, words = _safe(piece.title), _safe(piece.words)
        if piece.kind == "part":
            self.console.rule(f"[bold]{escape(title)}[/]", style="bold")
        elif piece.kind == "call":
            self.console.rule(escape(title), align="left", style="dim")
            self.console.print(words, style="dim", markup=False, soft_wrap=True)
        elif piece.kind == "reply":
            self.console.print(f"[yellow]{escape(title)}[/]: {escape(words)}", soft_wrap=True)
        elif piece.kind in ("note", "warning"):
            self.console.print(title, style=_STYLES[piece.kind], markup=False, soft_wrap=True)
        else:
            head = f"[{_STYLES[piece.kind]}]{escape(title)}[/]"
            self.console.print(f"{head}: {escape(words)}")


class MarkdownPage:
    """A Markdown page. An existing file must be such a page; its introduction is kept."""

    def __init__(self, path: Path) -> None:
        self.path, self._head = path, ""
        try:
            if not path.parent.is_dir():
                raise UsageError(f"--markdown: {path.parent} is not a folder")
            if path.exists():
                head, mark, _ = path.read_text(encoding="utf-8").partition(MARK)
                if not mark:
                    raise UsageError(
                        f"--markdown: {path} exists and is not a page of crsweep play (no line "
                        f"begins with {MARK!r}); name another file"
                    )
                self._head = head
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"--markdown: {path} cannot be read: {error}") from None

    def write(self, text: str) -> None:
        try:
            self.path.write_text(self._head + text, encoding="utf-8")
        except OSError as error:
            raise UsageError(f"--markdown: {self.path} cannot be written: {error}") from None


def _pieces_of(row: Mapping[str, Any]) -> Iterator[_Piece]:
    messages = json.loads(row["prompt"])
    title = f"{row['role']} · {row['step']}"
    if row["draw"]:
        title += f" · draw {row['draw'] + 1}"
    asked = messages
    if row["reask"]:
        # The earlier messages are those of the calls above.
        title, asked = f"{title} · asked again ({row['reask']})", messages[-1:]
    yield _Piece("call", title, "\n\n".join(_content(message) for message in asked))
    if row["thinking"]:
        yield _Piece("reply", "thinking", row["thinking"])
    if row["reply"] is not None:
        cut = "" if row["finish_reason"] == "stop" else f", ended by {row['finish_reason']}"
        valid = "valid" if row["valid"] else "not valid"
        yield _Piece("reply", f"reply ({valid}{cut})", row["reply"])
    elif row["error"] is not None:
        yield _Piece("reply", f"no reply ({row['error_class']})", row["error"])


def _content(message: str | Mapping[str, str]) -> str:
    """The text of one message of a prompt, or a text to embed."""
    return message if isinstance(message, str) else message["content"]


def _markdown(piece: _Piece) -> str:
    title, words = _safe(piece.title), _safe(piece.words)
    if piece.kind == "part":
        return f"## {_inline(title)}"
    if piece.kind in ("note", "warning"):
        return _inline(title)
    if piece.kind == "call":
        return f"### {_inline(title)}\n{_fenced(words)}"
    if piece.kind == "reply":
        return f"{_inline(title)}:\n{_fenced(words)}"
    return f"**{_inline(title)}**\n{_fenced(words)}"


def _fenced(text: str) -> str:
    fence = "`" * max(3, 1 + _longest_run(text))
    return f"{fence}text\n{text}\n{fence}"


def _longest_run(text: str) -> int:
    return max(map(len, re.findall("`+", text)), default=0)


def _inline(text: str) -> str:
    """Escapes `text`, so that names from data are plain text on a page."""
    return re.sub(r"[\\`*\[\]<>#|&~]|(?<!\w)_|_(?!\w)", r"\\\g<0>", " ".join(text.split()))


def _safe(text: str) -> str:
    """Removes characters that control a terminal or change the direction of writing."""
    return "".join("\N{REPLACEMENT CHARACTER}" if _is_control(c) else c for c in text)


def _is_control(char: str) -> bool:
    return unicodedata.category(char)[0] == "C" and char not in "\n\t"
