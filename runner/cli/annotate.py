"""Commands for labelling by people."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from runner.cli.arguments import FolderArgument
from runner.cli.exits import plain_console, report_in_one_line

app = typer.Typer(
    help="Have people label dialogues, and import their labels.", no_args_is_help=True
)


@app.command("export")
def export_form(
    folder: FolderArgument,
    cases: Annotated[int, typer.Option(min=1, metavar="N", help="Cases per domain.")],
    pairs: Annotated[
        str | None,
        typer.Option(
            metavar="AXIS=BASELINE,OPPONENT,...", help="Label pairs, such as agent=desire,macrs."
        ),
    ] = None,
    judge: Annotated[
        str | None, typer.Option(metavar="NAME", help="The judge whose questions people answer.")
    ] = None,
    decisions: Annotated[
        bool,
        typer.Option("--decisions", help="People decide where the simulated user bought an item."),
    ] = False,
    where: Annotated[
        str | None,
        typer.Option(metavar="SQL", help="SQL condition on episodes: 'success AND turns > 3'."),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where to write the files.")] = Path(),
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of the sample, the order and the sides.")
    ] = 0,
) -> None:
    """Write a blind form (HTML) and sheet (CSV) for people to fill in."""
    with report_in_one_line():
        from runner.annotation.export import write_form
        from runner.commands.annotation import show_exported
        from runner.driver.loading import load_plan_of

        found = write_form(
            load_plan_of(folder, []),
            pairs=pairs,
            judge=judge,
            where=where,
            cases=cases,
            seed=seed,
            out=out,
            decisions=decisions,
        )
        show_exported(found, cases, plain_console())


@app.command("import")
def import_labels(
    folder: FolderArgument,
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FILE]...", help="Files saved by the form, or filled-in sheets."),
    ] = None,
    annotator: Annotated[
        str | None, typer.Option(metavar="NAME", help="Who filled them in.")
    ] = None,
    recorded: Annotated[
        bool,
        typer.Option("--recorded", help="Import the labels that came with recorded dialogues."),
    ] = False,
    judge: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="With --recorded: the judge whose questions they answer."
        ),
    ] = None,
) -> None:
    """Add one person's labels to the judgements of a sweep."""
    with report_in_one_line():
        from agents.core.errors import UsageError
        from runner.annotation.importing import import_files
        from runner.annotation.recorded import AGGREGATE, import_recorded
        from runner.commands.annotation import show_imported, show_skipped
        from runner.driver.loading import load_plan_of

        console = plain_console()
        if recorded:
            if files:
                raise UsageError("--recorded takes no files; leave them out")
            name = annotator or AGGREGATE
            found, skipped = import_recorded(load_plan_of(folder, []), judge, name)
            show_imported(found, name, console)
            show_skipped(skipped, console)
            return
        if not files or annotator is None:
            raise UsageError(
                "expected files and the name of who filled them in: FILE... --annotator NAME"
            )
        if judge is not None:
            raise UsageError("--judge needs --recorded; files name their judge themselves")
        show_imported(import_files(folder, files, annotator), annotator, console)
