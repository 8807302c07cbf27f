"""How a command ends: error reports, the hint how to resume, and the exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, cast

import typer

from agents.core.plural import many
from runner.core.exit_codes import ExitCode

if TYPE_CHECKING:
    from runner.core.screen import Screen
    from runner.driver.result import RunResult


@contextmanager
def report_in_one_line() -> Iterator[None]:
    """Reports an expected error in one line.

    The exit code is 2 for errors raised by crsweep, and 1 for errors of the system (a full disk).
    """
    from agents.core.errors import CrsweepError
    from runner.core.screen import reason_of, silence

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
def resume_hint() -> Iterator[None]:
    """If a storage error or a second Ctrl-C ends the run, prints how to resume it (exit code 3)."""
    from agents.core.errors import StoreError
    from runner.core.invocation import command

    try:
        yield
    except StoreError as error:
        print(f"error: {error.message}", file=sys.stderr)
        print(f"to resume: {command()}", file=sys.stderr)
        raise typer.Exit(ExitCode.INCOMPLETE) from None
    except KeyboardInterrupt:
        print(f"stopped at once; to resume: {command()}", file=sys.stderr)
        raise typer.Exit(ExitCode.INCOMPLETE) from None


def print_resume_hint(result: RunResult, console: Any) -> None:
    from runner.core.invocation import command

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


def plain_console() -> Any:
    from rich.console import Console

    # No emoji codes: text from elsewhere, such as `:car:`, is printed unchanged.
    return Console(highlight=False, emoji=False)


def lasting_console() -> tuple[Any, Screen]:
    """A console for a run, which continues even if its output can no longer be printed."""
    from rich.console import Console

    from runner.core.screen import Screen

    screen = Screen()
    return Console(highlight=False, emoji=False, file=cast(Any, screen)), screen


def finish(
    result: RunResult, screen: Screen, console: Any, show: Callable[[], None] | None = None
) -> typer.Exit:
    """Prints the results of a run (`show`) and how to resume it, and returns its exit.

    Problems after the last commit, including those of `show`, are reported on stderr.
    """
    import duckdb

    from agents.core.errors import CrsweepError
    from runner.core.invocation import program
    from runner.core.screen import reason_of

    trouble = list(result.unfinished)
    if show is not None:
        try:
            show()
        except (CrsweepError, OSError, MemoryError, duckdb.Error) as error:
            trouble.append(f"the results cannot be shown ({reason_of(error)})")
        console.print(f"results: {result.folder}", soft_wrap=True, markup=False)
    if result.left:
        left = f"{result.left:,} of {many(result.planned, result.noun)}"
        console.print(f"incomplete: {left} left")
        print_resume_hint(result, console)
    failed = screen.failed
    if failed is not None and not isinstance(failed, BrokenPipeError):
        trouble.append(f"cannot print ({reason_of(failed)})")
    code = result.exit_code
    if trouble:
        with suppress(OSError):  # stderr may be closed too
            print(
                f"error: {'; '.join(trouble)}. Finished {result.noun}s are in {result.folder}: "
                f"{program()} status {result.folder}",
                file=sys.stderr,
            )
    return typer.Exit(code or (ExitCode.FAILED if trouble else ExitCode.COMPLETE))
