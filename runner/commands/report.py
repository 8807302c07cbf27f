"""`crsweep report` and `crsweep appendix`: results as an HTML page, and LaTeX for a paper."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from agents.core.errors import UsageError
from agents.core.plural import many
from analysis.report.appendix import appendix
from analysis.report.defined import defined
from analysis.report.page import ReportContents, make, page
from analysis.results import Results
from analysis.tables import sheets
from runner.core.screen import print_line
from runner.core.titles import all_titles
from sweeps.load import load


def show_report(
    folder: str,
    sweep: Path | None,
    *,
    overrides: Sequence[str] = (),
    out: Path | None,
    assets: Path | None,
    dialogues: int,
    console: Console,
) -> None:
    """Writes the report to `out`, and each table and figure to a file of its own in `assets`.

    The definitions are those of `sweep`, without it those of the folder's last run. Raises
    UsageError for a sweep file, folder or place that cannot be used.
    """
    results = Results.open(folder)
    header = load(sweep, overrides, elsewhere=True).header if sweep else None
    wanted = defined(results, header)
    made = make(results, wanted)
    path = out or Path(f"{results.manifest.name}.html")
    _check_place(path)
    source = (
        f"Tables and figures as defined in {sweep.name}."
        if sweep
        else "The sweep file defines no tables; this is the default one."
        if wanted.usual_tables
        else "Tables and figures as defined in the sweep file."
    )
    titles, problems = all_titles(results.manifest) if dialogues else ({}, [])
    text = page(results, wanted, made, dialogues=dialogues, source=source, titles=titles)
    path.write_text(text, encoding="utf-8")
    print_line(console, f"wrote {path}: {_counted(made)}")
    for one in (*made.tables, *([] if wanted.usual_figures else made.figures)):
        if one.problem:
            print_line(console, f"not made: {one.name}: {one.problem}")
    for problem in problems:
        print_line(console, problem)
    if assets is not None:
        _write_assets(made, assets, console)


def show_appendix(
    folder: str, *, out: Path | None, standalone: bool, prompts: bool, console: Console
) -> None:
    """Writes the LaTeX appendix to `out`. Raises UsageError if it cannot be written."""
    results = Results.open(folder)
    path = out or Path(f"{results.manifest.name}_appendix.tex")
    _check_place(path)
    path.write_text(appendix(results, standalone=standalone, prompts=prompts), encoding="utf-8")
    print_line(console, f"wrote {path}")


def _check_place(path: Path) -> None:
    if not path.parent.is_dir():
        raise UsageError(f"cannot write {path}: the folder {path.parent} does not exist")


def _write_assets(made: ReportContents, folder: Path, console: Console) -> None:
    """Writes NAME.tex, NAME.csv and NAME.pdf for papers."""
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for table in made.tables:
        if table.sheet is not None:
            (folder / f"{table.name}.tex").write_text(sheets.latex(table.sheet) + "\n")
            (folder / f"{table.name}.csv").write_text(sheets.as_csv(table.sheet))
            names += [f"{table.name}.tex", f"{table.name}.csv"]
    for figure in made.figures:
        if figure.drawing is not None:
            figure.drawing.save(folder / f"{figure.name}.pdf")
            names.append(f"{figure.name}.pdf")
    print_line(console, f"wrote to {folder}: {', '.join(names) or 'nothing'}")


def _counted(made: ReportContents) -> str:
    tables = sum(one.sheet is not None for one in made.tables)
    figures = sum(one.drawing is not None for one in made.figures)
    return f"{many(tables, 'table')}, {many(figures, 'figure')}"
