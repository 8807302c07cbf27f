"""The command line. Heavy imports wait until a command runs, so that `--help` is quick."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
import typer.main

if TYPE_CHECKING:
    from runner.run import Outcome
    from runner.screen import Screen

app = typer.Typer(
    name="crsweep",
    help="Runs sweeps of simulated recommendation dialogues, and tabulates them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

SweepFile = Annotated[Path, typer.Argument(metavar="SWEEP", help="The sweep file (YAML).")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[PATH=VALUE|FILE]...", help="Overrides, such as cases.sample=20, or YAML files."
    ),
]
Folder = Annotated[
    str,
    typer.Argument(metavar="DIR", help="A sweep's output folder: a path, or s3://bucket/prefix."),
]


AcceptArtifactChange = Annotated[
    bool,
    typer.Option(
        "--accept-artifact-change",
        help="Go on with artifacts whose content is not what the episodes that are there used.",
    ),
]


class Format(StrEnum):
    text = "text"
    csv = "csv"
    markdown = "markdown"
    latex = "latex"


@contextmanager
def _one_clear_message() -> Iterator[None]:
    """Errors that crsweep raises on purpose end in one line and exit code 2, those of this machine
    (a full disk) in one line and exit code 1."""
    from agents.core.errors import CrsweepError
    from runner.screen import reason_of, silence

    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except CrsweepError as error:
        print(f"error: {error.message}", file=sys.stderr)
        raise typer.Exit(2) from None
    except BrokenPipeError:
        # The reader (head, less) has seen enough.
        silence(sys.stdout)
        raise typer.Exit(0) from None
    except OSError as error:
        silence(sys.stdout)
        print(f"error: {reason_of(error)}", file=sys.stderr)
        raise typer.Exit(1) from None


@contextmanager
def _told_how_to_go_on() -> Iterator[None]:
    """A run that storage or a second interrupt ends can be gone on with: exit code 3."""
    from agents.core.errors import StoreError
    from runner.run import INCOMPLETE
    from runner.typed import command

    try:
        yield
    except StoreError as error:
        print(f"error: {error.message}", file=sys.stderr)
        print(f"to go on: {command()}", file=sys.stderr)
        raise typer.Exit(INCOMPLETE) from None
    except KeyboardInterrupt:
        print(f"stopped at once; to go on: {command()}", file=sys.stderr)
        raise typer.Exit(INCOMPLETE) from None


def _say_how_to_go_on(outcome: Outcome, console: Any) -> None:
    from runner.typed import command

    if outcome.stopped:
        console.print(f"stopped early: {outcome.stopped}", soft_wrap=True, markup=False)
    how = ", with another cap" if outcome.needs else ""
    if outcome.unavailable:
        how = ", once the model can be called (`crsweep doctor` checks it)"
    again = command(outcome.needs)
    console.print(f"to go on{how}: {again}", soft_wrap=True, markup=False)


def _console() -> Any:
    from rich.console import Console

    # Not emoji: what others wrote, `:car:` among it, is printed as it is.
    return Console(highlight=False, emoji=False)


def _lasting_console() -> tuple[Any, Screen]:
    """A console for a run, which goes on when nothing can be shown any more."""
    from rich.console import Console

    from runner.screen import Screen

    screen = Screen(sys.stdout)
    return Console(highlight=False, emoji=False, file=cast(Any, screen)), screen


def _ended(outcome: Outcome, screen: Screen, trouble: list[str]) -> typer.Exit:
    """The end of a run: says what went wrong after the last commit, on the other stream."""
    from runner.screen import reason_of
    from runner.typed import program

    failed = screen.failed
    if failed is not None and not isinstance(failed, BrokenPipeError):
        trouble.append(f"cannot print ({reason_of(failed)})")
    code = outcome.exit_code
    if trouble:
        with suppress(OSError):  # nor may this be shown
            print(
                f"error: {'; '.join(trouble)}. What was run is committed in {outcome.folder}: "
                f"{program()} status {outcome.folder}",
                file=sys.stderr,
            )
    return typer.Exit(code or int(bool(trouble)))


@app.command()
def plan(
    sweep: SweepFile,
    overrides: Overrides = None,
    gpus: Annotated[
        list[int] | None,
        typer.Option(
            min=1, help="Place models on an imagined cluster: its GPUs, once for each node."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show cells, what is done, where models go, and what the rest may cost. Writes nothing."""
    with _one_clear_message():
        from runner.show import show_plan

        show_plan(sweep, overrides or [], gpus=gpus or [], as_json=as_json, console=_console())


@app.command()
def run(
    sweep: SweepFile,
    overrides: Overrides = None,
    retry: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CLASS",
            help="Run failed episodes of this error class or blame again; may be repeated.",
        ),
    ] = None,
    accept_source_change: Annotated[
        bool,
        typer.Option(
            "--accept-source-change", help="Keep results that older code of a plug-in made."
        ),
    ] = False,
    accept_artifact_change: AcceptArtifactChange = False,
) -> None:
    """Run what is left of a sweep, then print its table. Exit 0 complete, 3 incomplete, 2 bad
    input; 1 if all is committed and something after that failed, such as printing."""
    with _one_clear_message():
        import duckdb

        from agents.core.errors import CrsweepError
        from analysis.results import Results
        from runner import run as runs
        from runner import typed
        from runner.screen import reason_of
        from runner.show import show_failures, show_table

        console, screen = _lasting_console()
        with _told_how_to_go_on():
            outcome = runs.run(
                sweep,
                overrides or [],
                retry=retry or [],
                accept_source_change=accept_source_change,
                accept_artifact_change=accept_artifact_change,
                again=typed.command(retries=False),
                console=console,
            )
        trouble = list(outcome.unfinished)
        try:
            results = Results.open(outcome.folder)
            show_failures(results, typed.command(outcome.needs, retries=False), console)
            show_table(results, metrics=[], format="text", everything=False, console=console)
        except (CrsweepError, OSError, MemoryError, duckdb.Error) as error:
            trouble.append(f"the table cannot be made ({reason_of(error)})")
        console.print(f"results: {outcome.folder}", soft_wrap=True, markup=False)
        if outcome.left:
            console.print(f"incomplete: {outcome.left:,} of {outcome.planned:,} episodes are left")
            _say_how_to_go_on(outcome, console)
        raise _ended(outcome, screen, trouble)


@app.command()
def prepare(
    sweep: SweepFile,
    overrides: Overrides = None,
    accept_artifact_change: AcceptArtifactChange = False,
) -> None:
    """Make what the agents of a sweep need, and run no dialogue. Exit 0 all made, 3 not all."""
    with _one_clear_message():
        from runner import run as runs

        console, screen = _lasting_console()
        with _told_how_to_go_on():
            outcome = runs.run(
                sweep,
                overrides or [],
                accept_source_change=False,
                accept_artifact_change=accept_artifact_change,
                only_prepare=True,
                console=console,
            )
        if outcome.left:
            console.print(f"incomplete: {outcome.left:,} of {outcome.planned:,} are not made")
            _say_how_to_go_on(outcome, console)
        raise _ended(outcome, screen, list(outcome.unfinished))


@app.command()
def render(
    sweep: SweepFile,
    overrides: Overrides = None,
    cell: Annotated[int | None, typer.Option(help="Only this cell, counted from 0.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every call, not one a step.")] = False,
) -> None:
    """Print the prompts of a sweep without a model; the rules backend stands in for the words."""
    with _one_clear_message():
        from runner.show import show_prompts

        show_prompts(sweep, overrides or [], cell=cell, every=every, console=_console())


@app.command()
def play(
    sweep: SweepFile,
    overrides: Overrides = None,
    cell: Annotated[int, typer.Option(help="Which cell, counted from 0.")] = 0,
    case: Annotated[int, typer.Option(help="Which case of the sample, counted from 0.")] = 0,
    me: Annotated[bool, typer.Option("--me", help="You are the user.")] = False,
    calls: Annotated[
        bool, typer.Option("--calls", help="Show every model call: its prompt and its reply.")
    ] = False,
    markdown: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Also write a Markdown page; - prints it instead of the dialogue."
        ),
    ] = None,
) -> None:
    """Play one dialogue in the terminal, watching, or as the user yourself."""
    with _one_clear_message():
        from runner.show import show_dialogue

        person: Callable[[str], str] | None = input if me else None
        show_dialogue(
            sweep,
            overrides or [],
            cell=cell,
            case=case,
            person=person,
            calls=calls,
            markdown=markdown,
            console=_console(),
        )


@app.command()
def status(folder: Folder) -> None:
    """Show how far a sweep is, who is running it, and what failed."""
    with _one_clear_message():
        from runner.show import show_status

        show_status(folder, _console())


@app.command()
def table(
    folder: Folder,
    format: Annotated[Format, typer.Option(help="How to print it.")] = Format.text,
    metric: Annotated[
        list[str] | None, typer.Option(help="A metric; the sweep's own if none is named.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Also cases that not every cell has finished.")
    ] = False,
    published: Annotated[
        str | None,
        typer.Option(metavar="PAPER/TABLE", help="Beside a paper's table, such as af_irs/table2."),
    ] = None,
) -> None:
    """Print mean and standard deviation over seeds, a row a cell."""
    with _one_clear_message():
        from analysis.results import Results
        from runner.show import show_table

        show_table(
            Results.open(folder),
            metrics=metric or [],
            format=format.value,
            everything=everything,
            console=_console(),
            beside=published,
        )


@app.command()
def compare(
    folder: Folder,
    axis: Annotated[str, typer.Option(help="The axis whose values are compared.")],
    metric: Annotated[str, typer.Option(help="The metric.")] = "sr@5",
) -> None:
    """Compare the values of an axis, paired by case, with interval and permutation test."""
    with _one_clear_message():
        from runner.show import show_comparison

        show_comparison(folder, axis=axis, metric=metric, console=_console())


@app.command()
def sql(
    folder: Folder,
    query: Annotated[
        str, typer.Argument(metavar="QUERY", help="Over episodes, turns, calls, cells, cases.")
    ],
    format: Annotated[str, typer.Option(help="text, csv or json.")] = "text",
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, every cell whole.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, every cell whole.")] = False,
) -> None:
    """Ask the results in DuckDB's SQL. On a terminal, long cells are cut to its width."""
    with _one_clear_message():
        from runner.query import show_query

        chosen = "csv" if as_csv else "json" if as_json else format
        show_query(folder, query, format=chosen, console=_console())


cache = typer.Typer(help="Look after the call cache that sweeps share.", no_args_is_help=True)
app.add_typer(cache, name="cache")

CachePath = Annotated[
    str | None,
    typer.Option("--path", help="The cache's folder; the default one if none is named."),
]


@cache.command("prune")
def prune_cache(
    keep: Annotated[str, typer.Option(help="What stays: 12h, 30d, 2w.")],
    path: CachePath = None,
) -> None:
    """Drop calls that were stored longer ago than that."""
    with _one_clear_message():
        from runner.caching import prune

        prune(keep, path, _console())


@cache.command("verify")
def verify_cache(path: CachePath = None) -> None:
    """Read every call. Exit 0 if all are whole, 3 if some are damaged: they are misses."""
    with _one_clear_message():
        from runner.caching import verify

        raise typer.Exit(0 if verify(path, _console()) else 3)


@app.command()
def doctor(sweep: SweepFile, overrides: Overrides = None) -> None:
    """Check everything a sweep needs, before it runs. Exit 0 if all is well, 2 if not."""
    with _one_clear_message():
        from runner.doctor import examine

        raise typer.Exit(0 if examine(sweep, overrides or [], _console()) else 2)


@app.command()
def schema() -> None:
    """Print the JSON schema of sweep files, by which editors complete and check them."""
    with _one_clear_message():
        import json

        from runner.schema import sweep_schema

        print(json.dumps(sweep_schema(), indent=1, ensure_ascii=False))


_Refusal: Any = typer.BadParameter.__mro__[1]
"""What the command line's library raises for words that it cannot use."""


def main(words: Sequence[str]) -> int:
    """Runs the command that `words` are; the exit code. Words that make none: one line, 2."""
    from runner.screen import write_whatever_the_encoding

    write_whatever_the_encoding()
    command = typer.main.get_command(app)
    try:
        code = command.main(list(words), prog_name="crsweep", standalone_mode=False)
    except _Refusal as error:
        if not error.format_message():  # no word at all: the help has been printed
            return 2
        print(f"error: {_refusal(error, words)}", file=sys.stderr)
        return 2
    except typer.Abort:  # the end of input where a line was awaited
        return 2
    return code or 0


def _refusal(error: Any, words: Sequence[str]) -> str:
    """What is wrong with the words of a command, in one line."""
    from agents.core.errors import near
    from runner.typed import program

    path = error.ctx.command_path.split(" ")[1:] if error.ctx else []
    help_with = f"`{' '.join([program(), *path])} --help`"
    message = " ".join(error.format_message().split()).removesuffix(".")
    unknown = re.match(r"No such command '(.*?)'", message)
    if unknown:
        found = unknown[1]
        known = error.ctx.command.list_commands(error.ctx)
        if not path and found.endswith((".yaml", ".yml")):
            return f"expected a command, found {found}; did you mean `{program()} run {found}`?"
        return f"no such command: {found!r}{near(found, known)} ({help_with} lists them)"
    option = getattr(error, "option_name", None)
    if option is not None and hasattr(error, "possibilities"):
        return (
            f"no such option: {option}{near(option, error.possibilities or ())} (see {help_with})"
        )
    message = re.sub(r"Input should be a valid integer.*", "expected a whole number", message)
    message = re.sub(r"Input should be greater than or equal to", "expected at least", message)
    message = message.replace(": Value error, ", ": ")
    return f"{message[0].lower()}{message[1:]} (see {help_with})"
