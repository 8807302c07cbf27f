"""`crsweep play`: one dialogue in the terminal, watched, or with a person as the user."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from rich.console import Console
from rich.markup import escape

from agents.core.agent import Agent
from agents.core.ask import Ask
from agents.core.dialogue import AgentTurn, Dialogue, UserTurn
from agents.core.items import Item, facts_of
from agents.core.seeds import Seeds
from runner.stand_ins import stand_ins
from simulators.core.user import User, UserContext
from sweeps.plan import Plan, Ref
from workers.episodes import EpisodeRunner, job_of
from workers.rows import Attempt

Read = Callable[[str], str]


def play(plan: Plan, *, cell: int, position: int, person: Read | None, console: Console) -> Attempt:
    """Plays one case of one cell; `person` reads a line from whoever is the user."""
    job = job_of(plan, probe=False, executor="local", epoch=0, run_id="play")
    chosen = plan.cells[cell]
    source = plan.sources[chosen.source]
    ref = Ref("play", cell, Seeds(*chosen.seeds[0]), source.case_id(position))
    labels = ", ".join(f"{axis}={value}" for axis, value in chosen.axes.items()) or "the only cell"
    console.print(f"case {ref.case_id}; {labels}", style="dim", markup=False)

    def watched(agent: Agent, user: User) -> tuple[Agent, User]:
        if person is not None:
            user = _Person(user, person, console)
        return _WatchedAgent(agent, console), _WatchedUser(user, console, echo=person is None)

    async def once() -> Attempt:
        runner = EpisodeRunner(job)
        try:
            found = await stand_ins(plan, [cell])
            runner.provide([one.prepared for one in found])
            for one in found:
                if not one.is_real:
                    console.print(
                        f"{one.title} is not prepared: {one.prepared.recipe.label}, made here "
                        "without a model, stands in for it (`crsweep prepare` makes the real one)",
                        style="yellow",
                        markup=False,
                        soft_wrap=True,
                    )
            return await runner.run(ref, wrap=watched)
        finally:
            await runner.close()

    return asyncio.run(once())


class _WatchedAgent(Agent):
    """Prints what an agent says."""

    def __init__(self, agent: Agent, console: Console) -> None:
        super().__init__(agent.options, agent.context)
        self._agent, self._console = agent, console

    async def respond(self, dialogue: Dialogue, ask: Ask) -> AgentTurn:
        turn = await self._agent.respond(dialogue, ask)
        self._console.print(f"[bold cyan]recommender[/] ({turn.action}): {escape(turn.text)}")
        for number, item in enumerate(turn.shown, start=1):
            self._console.print(f"   {number}. {escape(item.title)}", style="cyan")
        return turn


class _WatchedUser(User):
    """Prints what a user says."""

    def __init__(self, user: User, console: Console, *, echo: bool) -> None:
        super().__init__(user.options, user.context)
        self._user, self._console, self._echo = user, console, echo

    async def open(self, ask: Ask) -> UserTurn:
        return self._said(await self._user.open(ask))

    async def reply(self, dialogue: Dialogue, ask: Ask) -> UserTurn:
        return self._said(await self._user.reply(dialogue, ask))

    def _said(self, turn: UserTurn) -> UserTurn:
        if self._echo:
            self._console.print(f"[bold green]user[/] ({turn.decision}): {escape(turn.text)}")
        return turn


class _Person(User):
    """A person at the keyboard: words, `/accept 2` for the second item shown, `/leave`."""

    def __init__(self, user: User, read: Read, console: Console) -> None:
        super().__init__(user.options, user.context)
        self._read, self._console = read, console
        self._brief(user.context)

    def _brief(self, context: UserContext) -> None:
        for target in context.case.hidden.targets:
            self._console.print(f"You are looking for: {escape(target.title)}")
            facts = "; ".join(f"{f.attribute} {f.value}" for f in facts_of(target))
            self._console.print(f"  {escape(facts)}")
        self._console.print("Type what you say; /accept N takes item N, /leave ends.", style="dim")

    async def open(self, ask: Ask) -> UserTurn:
        return UserTurn(self._line(), "answer")

    async def reply(self, dialogue: Dialogue, ask: Ask) -> UserTurn:
        shown = dialogue.shown
        while True:
            line = self._line()
            if line == "/leave":
                return UserTurn("Goodbye.", "refuse" if shown else "answer", leaves=True)
            if not line.startswith("/accept"):
                return UserTurn(line, "refuse" if shown else "answer")
            item = _numbered(line.removeprefix("/accept").strip(), shown)
            if item is not None:
                return UserTurn(f"I take {item.title}.", "accept", item)
            wanted = f"a number from 1 to {len(shown)}" if shown else "items, and none are shown"
            self._console.print(f"/accept wants {wanted}", style="yellow")

    def _line(self) -> str:
        while True:
            try:
                line = self._read("you: ").strip()
            except EOFError:
                # No fault of the simulated user: whoever sat there has gone.
                raise KeyboardInterrupt from None
            if line:
                return line


def _numbered(text: str, shown: tuple[Item, ...]) -> Item | None:
    if text.isdecimal() and 1 <= int(text) <= len(shown):
        return shown[int(text) - 1]
    return None
