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

from runner.exit_codes import ExitCode

if TYPE_CHECKING:
    from runner.driver.result import RunResult
    from runner.screen import Screen

app = typer.Typer(
    name="crsweep",
    help="Run sweeps of simulated recommendation dialogues and print their results.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

SweepFile = Annotated[Path, typer.Argument(metavar="SWEEP", help="The sweep file (YAML).")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[PATH=VALUE|FILE]...",
        help="Overrides such as cases.sample=20, or YAML files.",
    ),
]
Folder = Annotated[
    str,
    typer.Argument(metavar="DIR", help="A sweep's output folder: a path, or s3://bucket/prefix."),
]


AcceptSourceChange = Annotated[
    bool,
    typer.Option("--accept-source-change", help="Keep results of older plug-in code and continue."),
]
AcceptArtifactChange = Annotated[
    bool,
    typer.Option(
        "--accept-artifact-change",
        help="Continue even if artifacts differ from those that finished episodes used.",
    ),
]


class Format(StrEnum):
    text = "text"
    csv = "csv"
    markdown = "markdown"
    latex = "latex"


@contextmanager
def _one_clear_message() -> Iterator[None]:
    """Reports an expected error in one line: exit code 2 if crsweep raised it, 1 if the system did
    (a full disk)."""
    from agents.core.errors import CrsweepError
    from runner.screen import reason_of, silence

    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except CrsweepError as error:
        print(f"error: {error.message}", file=sys.stderr)
        raise typer.Exit(ExitCode.BAD_INPUT) from None
    except BrokenPipeError:
        # The reader of the pipe (head, less) has closed it.
        silence(sys.stdout)
        raise typer.Exit(ExitCode.COMPLETE) from None
    except OSError as error:
        silence(sys.stdout)
        print(f"error: {reason_of(error)}", file=sys.stderr)
        raise typer.Exit(ExitCode.FAILED) from None


@contextmanager
def _resume_hint() -> Iterator[None]:
    """Prints how to resume a run that a storage error or a second Ctrl-C ended: exit code 3."""
    from agents.core.errors import StoreError
    from runner.invocation import command

    try:
        yield
    except StoreError as error:
        print(f"error: {error.message}", file=sys.stderr)
        print(f"to resume: {command()}", file=sys.stderr)
        raise typer.Exit(ExitCode.INCOMPLETE) from None
    except KeyboardInterrupt:
        print(f"stopped at once; to resume: {command()}", file=sys.stderr)
        raise typer.Exit(ExitCode.INCOMPLETE) from None


def _print_resume_hint(result: RunResult, console: Any) -> None:
    from runner.invocation import command

    if result.stopped:
        console.print(f"stopped early: {result.stopped}", soft_wrap=True, markup=False)
    how = ""
    if result.needs:
        without = [need.endswith("=null") for need in result.needs]
        how = ", with a higher cap"
        if any(without):
            how = ", without a cap" if all(without) else ", with other caps"
    if result.unavailable:
        how = ", once the model can be called (`crsweep doctor` checks it)"
    again = command(result.needs)
    console.print(f"to resume{how}: {again}", soft_wrap=True, markup=False)


def _console() -> Any:
    from rich.console import Console

    # No emoji codes: text from elsewhere, such as `:car:`, is printed unchanged.
    return Console(highlight=False, emoji=False)


def _lasting_console() -> tuple[Any, Screen]:
    """A console for a run, which continues even if output can no longer be printed."""
    from rich.console import Console

    from runner.screen import Screen

    screen = Screen(sys.stdout)
    return Console(highlight=False, emoji=False, file=cast(Any, screen)), screen


def _ended(result: RunResult, screen: Screen, trouble: list[str]) -> typer.Exit:
    """The exit of a run. Problems after the last commit are reported on stderr."""
    from runner.invocation import program
    from runner.screen import reason_of

    failed = screen.failed
    if failed is not None and not isinstance(failed, BrokenPipeError):
        trouble.append(f"cannot print ({reason_of(failed)})")
    code = result.exit_code
    if trouble:
        with suppress(OSError):  # stderr may be closed too
            print(
                f"error: {'; '.join(trouble)}. Finished episodes are in {result.folder}: "
                f"{program()} status {result.folder}",
                file=sys.stderr,
            )
    return typer.Exit(code or (ExitCode.FAILED if trouble else ExitCode.COMPLETE))


@app.command()
def plan(
    sweep: SweepFile,
    overrides: Overrides = None,
    gpus: Annotated[
        list[int] | None,
        typer.Option(
            min=1, help="GPUs of a node of a hypothetical cluster; repeat it for each node."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show cells, progress, model placement and the estimated cost. Writes nothing."""
    with _one_clear_message():
        from runner.commands.plan import show_plan

        show_plan(sweep, overrides or [], gpus=gpus or [], as_json=as_json, console=_console())


@app.command()
def run(
    sweep: SweepFile,
    overrides: Overrides = None,
    retry: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CLASS",
            help="Rerun failed episodes with this error class or blame; may be repeated.",
        ),
    ] = None,
    accept_source_change: AcceptSourceChange = False,
    accept_artifact_change: AcceptArtifactChange = False,
) -> None:
    """Run the remaining episodes of a sweep, then print its table. Exit code 0: complete,
    3: incomplete, 2: invalid input, 1: all is committed, but a later step (printing) failed."""
    with _one_clear_message():
        import duckdb

        from agents.core.errors import CrsweepError
        from analysis.results import Results
        from runner import invocation
        from runner.commands.results import show_table
        from runner.commands.status import show_failures
        from runner.driver import run as runs
        from runner.screen import reason_of

        console, screen = _lasting_console()
        with _resume_hint():
            result = runs.run(
                sweep,
                overrides or [],
                retry=retry or [],
                accept_source_change=accept_source_change,
                accept_artifact_change=accept_artifact_change,
                again=invocation.command(retries=False),
                console=console,
            )
        trouble = list(result.unfinished)
        try:
            results = Results.open(result.folder)
            show_failures(results, invocation.command(result.needs, retries=False), console)
            show_table(results, metrics=[], format="text", everything=False, console=console)
        except (CrsweepError, OSError, MemoryError, duckdb.Error) as error:
            trouble.append(f"the table cannot be made ({reason_of(error)})")
        console.print(f"results: {result.folder}", soft_wrap=True, markup=False)
        if result.left:
            console.print(
                f"incomplete: {result.left:,} of {result.planned:,} {result.noun}s are left"
            )
            _print_resume_hint(result, console)
        raise _ended(result, screen, trouble)


@app.command()
def judge(
    what: Annotated[
        str,
        typer.Argument(
            metavar="DIR|SWEEP", help="A sweep's output folder (a path, or s3://...), or its file."
        ),
    ],
    overrides: Overrides = None,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only this judge; may be repeated."),
    ] = None,
    where: Annotated[
        str | None,
        typer.Option(metavar="SQL", help="Only episodes of which this holds: success, turns > 3."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="At most N dialogues.")
    ] = None,
    accept_source_change: AcceptSourceChange = False,
    accept_artifact_change: AcceptArtifactChange = False,
) -> None:
    """Judge the dialogues that a sweep has stored, all or some. Exit codes as for run."""
    with _one_clear_message():
        from runner import invocation
        from runner.commands.judging import show_judgements
        from runner.driver import run as runs
        from runner.driver.judging import Selection

        console, screen = _lasting_console()
        with _resume_hint():
            result = runs.judge(
                what,
                overrides or [],
                selection=Selection(only or [], where, limit),
                accept_source_change=accept_source_change,
                accept_artifact_change=accept_artifact_change,
                again=invocation.command(retries=False),
                console=console,
            )
        show_judgements(result.folder, console)
        if result.left:
            console.print(f"incomplete: {result.left:,} of {result.planned:,} judgements are left")
            _print_resume_hint(result, console)
        raise _ended(result, screen, list(result.unfinished))


@app.command()
def prepare(
    sweep: SweepFile,
    overrides: Overrides = None,
    accept_artifact_change: AcceptArtifactChange = False,
) -> None:
    """Make the artifacts that agents need; run no dialogues. Exit code 0: all, 3: not all."""
    with _one_clear_message():
        from runner.driver import run as runs

        console, screen = _lasting_console()
        with _resume_hint():
            result = runs.run(
                sweep,
                overrides or [],
                accept_source_change=False,
                accept_artifact_change=accept_artifact_change,
                only_prepare=True,
                console=console,
            )
        if result.left:
            console.print(
                f"incomplete: {result.left:,} of {result.planned:,} artifacts are missing"
            )
            _print_resume_hint(result, console)
        raise _ended(result, screen, list(result.unfinished))


@app.command()
def render(
    sweep: SweepFile,
    overrides: Overrides = None,
    cell: Annotated[int | None, typer.Option(help="Only this cell, counted from 0.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All calls, not one per step.")] = False,
) -> None:
    """Print the prompts of a sweep without a model; the rules backend provides the replies."""
    with _one_clear_message():
        from runner.commands.prompts import show_prompts

        show_prompts(sweep, overrides or [], cell=cell, every=every, console=_console())


@app.command()
def play(
    sweep: SweepFile,
    overrides: Overrides = None,
    cell: Annotated[int, typer.Option(help="Which cell, counted from 0.")] = 0,
    case: Annotated[int, typer.Option(help="Which case of the sample, counted from 0.")] = 0,
    me: Annotated[bool, typer.Option("--me", help="Play the user yourself.")] = False,
    calls: Annotated[
        bool, typer.Option("--calls", help="Show the prompt and reply of every model call.")
    ] = False,
    markdown: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Also write a Markdown page; - prints it instead of the dialogue."
        ),
    ] = None,
) -> None:
    """Play one dialogue in the terminal. With --me, you are the user."""
    with _one_clear_message():
        from runner.commands.play import show_dialogue

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
    """Show a sweep's progress, who is running it, and what failed."""
    with _one_clear_message():
        from runner.commands.status import show_status

        show_status(folder, _console())


@app.command()
def table(
    folder: Folder,
    format: Annotated[Format, typer.Option(help="Output format.")] = Format.text,
    metric: Annotated[
        list[str] | None,
        typer.Option(help="A metric; may be repeated. Default: the sweep's."),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Include cases that not every cell has finished.")
    ] = False,
    published: Annotated[
        str | None,
        typer.Option(metavar="PAPER/TABLE", help="Compare with a published table: af_irs/table2."),
    ] = None,
) -> None:
    """Print the mean and standard deviation over seeds, one row per cell."""
    with _one_clear_message():
        from analysis.results import Results
        from runner.commands.results import show_table

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
    axis: Annotated[str, typer.Option(help="The axis whose values to compare.")],
    metric: Annotated[str, typer.Option(help="The metric to compare.")] = "sr@5",
) -> None:
    """Compare the values of an axis, paired by case, with interval and permutation test."""
    with _one_clear_message():
        from runner.commands.results import show_comparison

        show_comparison(folder, axis=axis, metric=metric, console=_console())


@app.command()
def sql(
    folder: Folder,
    query: Annotated[
        str, typer.Argument(metavar="QUERY", help="SQL over episodes, turns, calls, cells, cases.")
    ],
    format: Annotated[str, typer.Option(help="text, csv or json.")] = "text",
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, with uncut cells.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with uncut cells.")] = False,
) -> None:
    """Query the results with DuckDB SQL. On a terminal, long cells are cut to its width."""
    with _one_clear_message():
        from runner.commands.query import show_query

        chosen = "csv" if as_csv else "json" if as_json else format
        show_query(folder, query, format=chosen, console=_console())


cache = typer.Typer(help="Manage the call cache that sweeps share.", no_args_is_help=True)
app.add_typer(cache, name="cache")

CachePath = Annotated[
    str | None,
    typer.Option("--path", help="The cache folder. Default: ~/.cache/crsweep/calls."),
]


@cache.command("prune")
def prune_cache(
    keep: Annotated[str, typer.Option(help="Keep calls that are at most this old: 12h, 30d, 2w.")],
    path: CachePath = None,
) -> None:
    """Delete calls from the cache that are older than --keep."""
    with _one_clear_message():
        from runner.commands.cache import prune

        prune(keep, path, _console())


@cache.command("verify")
def verify_cache(path: CachePath = None) -> None:
    """Check every call in the cache. Exit code 0: all intact, 3: some are damaged."""
    with _one_clear_message():
        from runner.commands.cache import verify

        whole = verify(path, _console())
        raise typer.Exit(ExitCode.COMPLETE if whole else ExitCode.INCOMPLETE)


@app.command()
def doctor(sweep: SweepFile, overrides: Overrides = None) -> None:
    """Check everything that a sweep needs before it runs. Exit code 0: all good, 2: problems."""
    with _one_clear_message():
        from runner.commands.doctor import examine

        fine = examine(sweep, overrides or [], _console())
        raise typer.Exit(ExitCode.COMPLETE if fine else ExitCode.BAD_INPUT)


@app.command()
def schema() -> None:
    """Print the JSON schema of sweep files, for completion and checks in editors."""
    with _one_clear_message():
        import json

        from runner.commands.schema import sweep_schema

        print(json.dumps(sweep_schema(), indent=1, ensure_ascii=False))


_Refusal: Any = typer.BadParameter.__mro__[1]
"""Raised by the command line library for invalid arguments."""


def main(words: Sequence[str]) -> int:
    """Runs the command line `words`. Returns its exit code: 2, after one line, if it is invalid."""
    from runner.screen import reason_of, silence, write_whatever_the_encoding

    write_whatever_the_encoding()
    command = typer.main.get_command(app)
    try:
        code = command.main(list(words), prog_name="crsweep", standalone_mode=False)
        sys.stdout.flush()
    except _Refusal as error:
        if not error.format_message():  # no arguments: the help has been printed
            return 2
        print(f"error: {_refusal(error, words)}", file=sys.stderr)
        return 2
    except typer.Abort:  # end of input at a prompt
        return 2
    except OSError as error:  # the help cannot be printed: a full disk
        silence(sys.stdout)
        if isinstance(error, BrokenPipeError):
            return 0
        with suppress(OSError):  # stderr may be full too
            print(f"error: {reason_of(error)}", file=sys.stderr)
        return 1
    return code or 0


def _refusal(error: Any, words: Sequence[str]) -> str:
    """What is wrong with a command line, in one line."""
    from agents.core.errors import near
    from runner.invocation import program

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
