"""Commands that turn results into what is published.

Without `--out`, they and `plot` write into the current directory, named after the sweep. Never into
DIR: it may be a bucket, read-only, or in use by a run, and `export --anonymous` must not meet files
that name the sweep.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from runner.cli.arguments import FolderArgument, Overrides
from runner.cli.exits import plain_console, report_in_one_line

app = typer.Typer()


@app.command()
def report(
    folder: FolderArgument,
    sweep: Annotated[
        Path | None,
        typer.Argument(
            metavar="[SWEEP]",
            help="The sweep file that defines `tables:` and `figures:`. Default: the folder's own.",
        ),
    ] = None,
    overrides: Overrides = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The file to write. Default: NAME.html in the current directory, NAME being the "
            "sweep's. Nothing is written into DIR.",
        ),
    ] = None,
    assets: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Also write each table (LaTeX, CSV) and figure (PDF) here."
        ),
    ] = None,
    dialogues: Annotated[
        int, typer.Option(min=0, max=20, help="Dialogues to show per outcome and cell.")
    ] = 1,
) -> None:
    """Write a report: one HTML file with tables, figures, cost, settings and dialogues."""
    with report_in_one_line():
        from runner.commands.report import show_report

        show_report(
            folder,
            sweep,
            overrides=overrides or [],
            out=out,
            assets=assets,
            dialogues=dialogues,
            console=plain_console(),
        )


@app.command()
def appendix(
    folder: FolderArgument,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The .tex file to write. Default: NAME_appendix.tex in the current directory, "
            "NAME being the sweep's. Nothing is written into DIR.",
        ),
    ] = None,
    standalone: Annotated[
        bool, typer.Option("--standalone", help="Write a complete document, not one to \\input.")
    ] = False,
    no_prompts: Annotated[
        bool,
        typer.Option("--no-prompts", help="Leave out the prompts, which may quote item texts."),
    ] = False,
) -> None:
    """Write a LaTeX appendix: models, decoding, data, hardware, seeds and prompts."""
    with report_in_one_line():
        from runner.commands.report import show_appendix

        show_appendix(
            folder, out=out, standalone=standalone, prompts=not no_prompts, console=plain_console()
        )


@app.command()
def export(
    folder: FolderArgument,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="The folder to write. Default: NAME_FORMAT in the current directory, where NAME "
            "is the sweep's name, or with --anonymous that of --name. Nothing is written into DIR.",
        ),
    ] = None,
    anonymous: Annotated[
        bool,
        typer.Option(
            "--anonymous", help="Copy the folder without names, machines, paths and texts."
        ),
    ] = False,
    format: Annotated[
        str | None, typer.Option(help="scout (transcripts) or every-eval-ever (scores).")
    ] = None,
    name: Annotated[
        str, typer.Option(help="With --anonymous: the name of the sweep in the copy.")
    ] = "anonymous",
    organization: Annotated[
        str, typer.Option(help="With every-eval-ever: who provides the results.")
    ] = "unknown",
) -> None:
    """Export results: an anonymous copy, or the format of another tool."""
    with report_in_one_line():
        from runner.commands.export import show_export

        show_export(
            folder,
            out,
            format=format,
            anonymous=anonymous,
            name=name,
            organization=organization,
            console=plain_console(),
        )
