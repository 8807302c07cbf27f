"""Commands that turn results into what is published."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from runner.cli.arguments import Folder, Overrides
from runner.cli.exits import one_clear_message, plain_console

app = typer.Typer()


@app.command()
def report(
    folder: Folder,
    sweep: Annotated[
        Path | None,
        typer.Argument(
            metavar="[SWEEP]",
            help="A sweep file whose `tables:` and `figures:` to make. Default: the folder's.",
        ),
    ] = None,
    overrides: Overrides = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Default: NAME.html, after the sweep.")
    ] = None,
    assets: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Write each table (LaTeX, CSV) and figure (PDF) too."),
    ] = None,
    dialogues: Annotated[
        int, typer.Option(min=0, max=20, help="Dialogues of each outcome and cell to show.")
    ] = 1,
) -> None:
    """Write a report: one HTML file with tables, figures, cost, settings and dialogues."""
    with one_clear_message():
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
    folder: Folder,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A .tex file. Default: printed.")
    ] = None,
    standalone: Annotated[
        bool, typer.Option("--standalone", help="A document of its own, not a part of one.")
    ] = False,
    no_prompts: Annotated[
        bool, typer.Option("--no-prompts", help="Leave the prompts out, which name items.")
    ] = False,
) -> None:
    """Write a LaTeX appendix: models, decoding, data, hardware, seeds and prompts."""
    with one_clear_message():
        from runner.commands.report import show_appendix

        show_appendix(
            folder, out=out, standalone=standalone, prompts=not no_prompts, console=plain_console()
        )


@app.command()
def export(
    folder: Folder,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where to write.")],
    anonymous: Annotated[
        bool,
        typer.Option(
            "--anonymous", help="A copy of the folder without names, machines, paths and texts."
        ),
    ] = False,
    format: Annotated[
        str | None, typer.Option(help="scout (transcripts) or every-eval-ever (figures).")
    ] = None,
    name: Annotated[
        str, typer.Option(help="With --anonymous: what the sweep is called.")
    ] = "anonymous",
    organization: Annotated[
        str, typer.Option(help="With every-eval-ever: who provides the results.")
    ] = "unknown",
) -> None:
    """Write results for others: anonymously, or in the format of another tool."""
    with one_clear_message():
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
