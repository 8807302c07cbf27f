"""`crsweep play`: one dialogue in the terminal, with a simulated user or with a person."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from agents.core.agent import Agent
from agents.core.ask import Ask, CallLog
from agents.core.dialogue import AgentTurn, Dialogue, UserTurn
from agents.core.errors import UsageError
from agents.core.items import Item, facts_of
from agents.core.paths import expand_user
from agents.core.seeds import Seeds
from runner.commands.selection import case_of, cell_of
from runner.commands.transcript import MarkdownPage, TranscriptView
from runner.driver.loading import load_plan
from runner.rehearsal.stand_ins import stand_in_calls, stand_ins, with_cases
from simulators.core.critic import Critic, CriticTurn
from simulators.core.user import User, UserContext
from sweeps.episodes import episode_task
from sweeps.plan import Plan
from workers.job import job_of
from workers.kinds.episodes import EpisodeHandler, Players
from workers.resources import Resources
from workers.results.rows import EpisodeAttempt, row_of_call

Read = Callable[[str], str]

_TITLES = 10  # targets named at the end
_ENDINGS = {
    "user_left": "the user left",
    "critic": "ended by the critic",
    "max_turns": "the last turn was reached",
    "token_budget": "the token budget was used up",
}
"""How a dialogue ended, by its stop reason; the others are words already."""


def play(
    plan: Plan, *, cell: int, position: int, person: Read | None, calls: bool, view: TranscriptView
) -> EpisodeAttempt:
    """Plays one case of one cell; `person` reads a line from the person who plays the user.

    With `calls`, `view` shows every model call when it ends, and the calls that made artifacts.
    """
    job = job_of(plan, probe=False, executor="local", epoch=0, run_id="play")
    chosen = plan.cells[cell]
    source = plan.sources[chosen.source]
    case_id = source.case_id(position)
    task = episode_task("play", cell, Seeds(*chosen.seeds[0]), case_id)
    labels = ", ".join(f"{axis}={value}" for axis, value in chosen.axes.items()) or "the only cell"
    view.note(f"case {case_id}; {labels}")
    journal = CallLog(watch=lambda record: view.call(row_of_call("play", record)))

    def watched(agent: Agent, user: User, critic: Critic | None) -> Players:
        if person is not None:
            assert view.console is not None
            user = _Person(user, person, view.console)
        return (
            _WatchedAgent(agent, view),
            _WatchedUser(user, view, typed=person is not None),
            None if critic is None else _WatchedCritic(critic, view),
        )

    async def once() -> EpisodeAttempt:
        resources = Resources(job)
        try:
            found = await stand_ins(plan, [cell])
            resources.provide([one.prepared for one in found])
            for one in found:
                if not one.is_real:
                    view.warning(
                        f"{one.title} is not prepared, so this dialogue uses a placeholder that "
                        "was made without a model (`crsweep prepare` makes the real one)"
                    )
                made_by = stand_in_calls(plan, one) if calls else ()
                if made_by:
                    view.preparation(one.title, made_by)
            log = journal if calls else CallLog()
            return await EpisodeHandler(resources).play(task, log, watched)
        finally:
            await resources.close()

    attempt = asyncio.run(once())
    view.part("the end")
    # On the screen the error itself is the last line: `show_dialogue` raises it.
    view.note(_outcome(attempt), on_screen=attempt.error is None)
    return attempt


def _outcome(attempt: EpisodeAttempt) -> str:
    done = attempt.transcript
    if attempt.error is not None:
        return f"failed: {attempt.error.message}"
    success = f"success in turn {done.success_turn}" if done.success_turn else "no success"
    titles = [item.title for item in attempt.case.hidden.targets]
    more = f" and {len(titles) - _TITLES:,} more" if len(titles) > _TITLES else ""
    ended = _ENDINGS.get(done.stop_reason, done.stop_reason)
    return f"{ended}, {success}; the target was {', '.join(titles[:_TITLES])}{more}"


class _WatchedAgent(Agent):
    """Prints the agent's messages."""

    def __init__(self, agent: Agent, view: TranscriptView) -> None:
        super().__init__(agent.options, agent.context)
        self._agent, self._view = agent, view

    async def respond(self, dialogue: Dialogue, ask: Ask) -> AgentTurn:
        self._view.part(f"turn {dialogue.turn}")
        turn = await self._agent.respond(dialogue, ask)
        self._view.agent(turn)
        return turn


class _WatchedUser(User):
    """Prints the user's messages."""

    def __init__(self, user: User, view: TranscriptView, *, typed: bool) -> None:
        super().__init__(user.options, user.context)
        self._user, self._view, self._typed = user, view, typed

    async def open(self, ask: Ask) -> UserTurn:
        self._view.part("the user opens")
        return self._said(await self._user.open(ask))

    async def reply(self, dialogue: Dialogue, ask: Ask) -> UserTurn:
        return self._said(await self._user.reply(dialogue, ask))

    def _said(self, turn: UserTurn) -> UserTurn:
        self._view.user(turn, typed=self._typed)
        return turn


class _WatchedCritic(Critic):
    """Prints the critic's verdicts."""

    def __init__(self, critic: Critic, view: TranscriptView) -> None:
        super().__init__(critic.options, critic.noun)
        self._critic, self._view = critic, view

    async def after_turn(self, dialogue: Dialogue, ask: Ask) -> CriticTurn:
        turn = await self._critic.after_turn(dialogue, ask)
        self._view.critic(turn)
        return turn


class _Person(User):
    """A person at the keyboard: free text, `/accept 2` for the second item shown, or `/leave`."""

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
            wanted = f"expected a number from 1 to {len(shown)}" if shown else "no items are shown"
            self._console.print(f"/accept: {wanted}", style="yellow")

    def _line(self) -> str:
        while True:
            try:
                line = self._read("you: ").strip()
            except EOFError:
                # Not a failure of the simulated user: the person left.
                raise KeyboardInterrupt from None
            if line:
                return line


def _numbered(text: str, shown: tuple[Item, ...]) -> Item | None:
    if text.isdecimal() and 1 <= int(text) <= len(shown):
        return shown[int(text) - 1]
    return None


def show_dialogue(
    sweep: Path,
    overrides: Sequence[str],
    *,
    cell: int,
    case: str,
    person: Callable[[str], str] | None,
    calls: bool,
    markdown: str | None,
    console: Console,
) -> None:
    """Plays one dialogue with the sweep's own models, on the screen and into a Markdown page.

    `case` is the number of a case in the sample, or its id. `calls` shows every model call.
    `markdown` is the page's file, or "-" to print the page instead.
    """
    if person is not None and markdown == "-":
        raise UsageError("--me cannot be combined with --markdown -; name a file for --markdown")
    page = (
        None if markdown is None or markdown == "-" else MarkdownPage(expand_user(Path(markdown)))
    )
    plan = load_plan(sweep, overrides)
    chosen = plan.cells[cell_of(plan, cell)]
    view = TranscriptView(None if markdown == "-" else console)
    if chosen.profiles is not None:
        plan = asyncio.run(with_cases(plan))
        view.warning(
            "no model has written the users' profiles yet; a few are made here without a model "
            "(`crsweep prepare` makes the real ones)"
        )
    position, remark = case_of(plan.sources[chosen.source], case)
    if remark:
        view.warning(remark)
    try:
        attempt = play(plan, cell=cell, position=position, person=person, calls=calls, view=view)
    except KeyboardInterrupt:
        console.print("\nthe dialogue was interrupted")
        return
    if page is not None:
        page.write(view.markdown())
    elif markdown is not None:
        print(view.markdown(), end="")
    if attempt.error is not None:
        raise attempt.error
