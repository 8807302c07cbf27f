"""Commands with which people label what a sweep has stored."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from runner.cli.arguments import Folder
from runner.cli.exits import one_clear_message, plain_console

app = typer.Typer(help="Let people label dialogues, and import what they said.")


@app.command("export")
def export_form(
    folder: Folder,
    cases: Annotated[int, typer.Option(min=1, metavar="N", help="Cases from each domain.")],
    pairs: Annotated[
        str | None,
        typer.Option(
            metavar="AXIS=BASELINE,OPPONENT,...", help="Compare pairs, such as agent=desire,macrs."
        ),
    ] = None,
    judge: Annotated[
        str | None, typer.Option(metavar="NAME", help="The judge whose questions are asked.")
    ] = None,
    where: Annotated[
        str | None,
        typer.Option(metavar="SQL", help="Only episodes of which this holds: success, turns > 3."),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the files go.")] = Path(),
    seed: Annotated[int, typer.Option(min=0, help="Decides cases, order and sides.")] = 0,
) -> None:
    """Write a form (HTML) and a sheet (CSV) for people to fill in, without names."""
    with one_clear_message():
        from runner.annotation.export import export
        from runner.commands.annotation import show_exported
        from runner.driver.loading import load_plan_of

        found = export(
            load_plan_of(folder, []),
            pairs=pairs,
            judge=judge,
            where=where,
            cases=cases,
            seed=seed,
            out=out,
        )
        show_exported(found, cases, plain_console())


@app.command("import")
def import_labels(
    folder: Folder,
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="What the form saved, or the sheet.")
    ],
    annotator: Annotated[str, typer.Option(metavar="NAME", help="Who filled them in.")],
) -> None:
    """Add what one person filled in to the judgements of a sweep."""
    with one_clear_message():
        from runner.annotation.importing import import_files
        from runner.commands.annotation import show_imported

        show_imported(import_files(folder, files, annotator), annotator, plain_console())
