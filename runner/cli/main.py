"""The command line. Heavy imports are delayed until a command runs, so that `--help` is fast."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from inspect import cleandoc
from typing import Any

import typer
import typer.main

from runner.cli import annotate, cache, cluster, publish, results, sweeps

app = typer.Typer(
    name="crsweep",
    help="Run sweeps of simulated recommendation dialogues and print their results.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.add_typer(sweeps.app)
app.add_typer(cluster.app)
app.add_typer(results.app)
app.add_typer(publish.app)
app.add_typer(annotate.app, name="annotate")
app.add_typer(cache.app, name="cache")

_Refusal: Any = typer.BadParameter.__mro__[1]
"""Raised by the command line library for invalid arguments."""


def main(words: Sequence[str]) -> int:
    """Runs the command line `words`. Returns its exit code: 2, after one line, if it is invalid."""
    from runner.core.screen import escape_unencodable, reason_of, silence

    escape_unencodable()
    command = typer.main.get_command(app)
    _unwrap_help(command)
    try:
        code = command.main(list(words), prog_name="crsweep", standalone_mode=False)
        sys.stdout.flush()
    except _Refusal as error:
        if not error.format_message():  # no arguments: the help was printed
            return 2
        print(f"error: {_refusal(error)}", file=sys.stderr)
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


def _unwrap_help(command: Any) -> None:
    """Joins the lines of each paragraph, which then wrap at the width of the terminal only."""
    paragraphs = cleandoc(command.help or "").split("\n\n")
    command.help = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    for each in getattr(command, "commands", {}).values():
        _unwrap_help(each)


def _refusal(error: Any) -> str:
    """Describes what is wrong with a command line, in one line."""
    from agents.core.errors import near
    from runner.core.invocation import program

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
