"""`crsweep cache`: commands for the call cache that sweeps share."""

from __future__ import annotations

from typing import Annotated

import typer

from runner.cli.exits import plain_console, report_in_one_line
from runner.core.exit_codes import ExitCode

app = typer.Typer(help="Manage the call cache that sweeps share.", no_args_is_help=True)

CachePath = Annotated[
    str | None,
    typer.Option("--path", help="The cache folder. Default: ~/.cache/crsweep/calls."),
]


@app.command("prune")
def prune_cache(
    keep: Annotated[str, typer.Option(help="Keep calls that are at most this old: 12h, 30d, 2w.")],
    path: CachePath = None,
) -> None:
    """Delete calls from the cache that are older than --keep."""
    with report_in_one_line():
        from runner.commands.cache import prune

        prune(keep, path, plain_console())


@app.command("verify")
def verify_cache(path: CachePath = None) -> None:
    """Check every call in the cache. Exit code 0: all intact, 3: some are damaged."""
    with report_in_one_line():
        from runner.commands.cache import verify

        whole = verify(path, plain_console())
        raise typer.Exit(ExitCode.COMPLETE if whole else ExitCode.INCOMPLETE)
