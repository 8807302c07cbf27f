"""Checks that a server speaks the protocol of the agent `http`.

    python -m agents.http.conformance http://127.0.0.1:8080/respond

It plays a few dialogues that a sweep could hold and prints one line per problem, and exits with
code 0 if there are none. It needs no sweep and no data.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

from agents.core.ask import together
from agents.core.dialogue import Dialogue, Message
from agents.core.errors import CrsweepError
from agents.core.items import Item
from agents.http.client import AgentServer, ask_server
from agents.http.protocol import TurnAnswer, request_of

_ITEMS = tuple(Item(str(n), f"Example {n}") for n in range(3))
_AT_ONCE = 8
_OPENINGS = {
    "a plain opening": "Hello, I would like a comedy.",
    "an empty message": "",
    "letters of other scripts": "Привет! 🎬 今晚看什么?",
    "a message of 5,000 letters": "comedy " * 700,
    "quotes and braces": '"}]} {{ message }} \\ \n\t',
}


async def check(server: AgentServer) -> list[str]:
    """The problems of a server, in words; empty if there are none."""
    found: list[str] = []

    async def tried(
        what: str, *said: Message, session: str = "check", shown_items: int = 1
    ) -> TurnAnswer | None:
        request = request_of(
            Dialogue(list(said)),
            session=f"{session}-{what}",
            noun="movie",
            seed=7,
            shown_items=shown_items,
            history=_ITEMS[:1],
        )
        try:
            answer = await ask_server(server, request)
        except CrsweepError as error:
            found.append(f"{what}: {error.message} (blame {error.blame})")
            return None
        if len(answer.shown) > shown_items:
            found.append(
                f"{what}: {len(answer.shown)} items are shown, expected at most {shown_items}"
            )
        return answer

    for what, words in _OPENINGS.items():
        await tried(what, Message("user", words))
    first = Message("user", _OPENINGS["a plain opening"])
    later = (first, Message("recommender", "How about this?", _ITEMS[1:2]), Message("user", "No."))
    await tried("a second turn", *later, shown_items=3)
    # A resumed run plays its dialogues again, so a server must not depend on its own state.
    await tried("a second turn of a session that it has not seen", *later, session="new")
    await tried("a cut dialogue", Message("note", "earlier turns are left out here"), *later[1:])
    one, other = [await tried("the same request twice", first) for _ in range(2)]
    if one is not None and other is not None and one != other:
        found.append("the same request twice: the answers differ, although the seed is the same")
    at_once = range(_AT_ONCE)
    await together(tried(f"{_AT_ONCE} sessions at once", first, session=str(n)) for n in at_once)
    return list(dict.fromkeys(found))


def main(arguments: Sequence[str]) -> int:
    """Prints the problems of the server, and returns the exit code."""
    if len(arguments) != 1 or not arguments[0].startswith(("http://", "https://")):
        print("usage: python -m agents.http.conformance URL", file=sys.stderr)
        return 2
    wrong = asyncio.run(check(AgentServer(arguments[0], 60.0, 1_000_000)))
    print("\n".join(wrong) if wrong else "conforms")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
