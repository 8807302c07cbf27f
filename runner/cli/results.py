"""Commands that take the output folder of a sweep."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from runner.cli.arguments import FolderArgument, Format, Overrides, listed
from runner.cli.exits import plain_console, report_in_one_line

app = typer.Typer()


@app.command()
def status(folder: FolderArgument) -> None:
    """Show a sweep's progress, who is running it, and what failed."""
    with report_in_one_line():
        from runner.commands.status import show_status

        show_status(folder, plain_console())


@app.command()
def table(
    folder: FolderArgument,
    format: Annotated[Format, typer.Option(help="Output format.")] = Format.text,
    metric: Annotated[
        list[str] | None,
        typer.Option(help="A metric; may be repeated. Default: the sweep's."),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Include cases that some cells have not finished.")
    ] = False,
    published: Annotated[
        str | None,
        typer.Option(metavar="PAPER/TABLE", help="Compare with a published table: af_irs/table2."),
    ] = None,
    by: Annotated[
        list[str] | None,
        typer.Option(help="Add columns per group of users: openness or style; may be repeated."),
    ] = None,
    pairs: Annotated[
        bool,
        typer.Option("--pairs", help="Show wins, losses and ties from judges that compare pairs."),
    ] = False,
    corrected: Annotated[
        bool,
        typer.Option("--corrected", help="Judged metrics, raw and corrected by labels of people."),
    ] = False,
    name: Annotated[
        str | None, typer.Option(help="A table that the sweep file defines under `tables:`.")
    ] = None,
    rows: Annotated[
        str | None,
        typer.Option(metavar="AXES", help="Axes whose values are rows: agent or domain,agent."),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(
            metavar="AXES",
            help="Axes whose values are columns: domain,metric. With --by, `group` is one too.",
        ),
    ] = None,
    ties: Annotated[
        str | None,
        typer.Option(
            metavar="AXIS", help="Mark the values of this axis that are tied with the best."
        ),
    ] = None,
) -> None:
    """Print the mean and standard deviation over seeds, one row per cell."""
    with report_in_one_line():
        from agents.core.errors import UsageError
        from analysis.results import Results
        from runner.commands.results import show_corrected, show_pairs, show_pivot, show_table

        pivoted = rows or columns or ties or name
        if corrected:
            if pairs or published or pivoted:
                raise UsageError(
                    "--corrected has its own columns; leave --pairs, --published, --name, --rows, "
                    "--columns and --ties out"
                )
            show_corrected(
                Results.open(folder),
                metrics=metric or [],
                format=format.value,
                everything=everything,
                console=plain_console(),
                by=by or [],
            )
            return
        if pairs:
            if metric or published or by or pivoted:
                raise UsageError(
                    "--pairs cannot be combined with --metric, --published, --by, --name, --rows, "
                    "--columns or --ties"
                )
            found = Results.open(folder)
            show_pairs(found, format=format.value, everything=everything, console=plain_console())
            return
        if published and (by or pivoted):
            raise UsageError(
                "--published uses the paper's rows and columns; it cannot be combined with --by, "
                "--name, --rows, --columns or --ties"
            )
        if pivoted:
            show_pivot(
                Results.open(folder),
                name=name,
                rows=listed(rows),
                columns=listed(columns),
                metrics=metric or [],
                by=by or [],
                ties=ties,
                format=format.value,
                everything=everything,
                console=plain_console(),
            )
            return
        show_table(
            Results.open(folder),
            metrics=metric or [],
            format=format.value,
            everything=everything,
            console=plain_console(),
            published_table=published,
            by=by or [],
        )


@app.command()
def agreement(
    folder: FolderArgument,
    judge: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only this judge. Default: all.")
    ] = None,
    format: Annotated[Format, typer.Option(help="Output format.")] = Format.text,
) -> None:
    """Measure how well judges agree with people, and people with each other."""
    with report_in_one_line():
        from analysis.results import Results
        from runner.commands.results import show_agreement

        found = Results.open(folder)
        show_agreement(found, judge=judge, format=format.value, console=plain_console())


@app.command()
def compare(
    folder: FolderArgument,
    axis: Annotated[str, typer.Option(help="The axis whose values to compare.")],
    metric: Annotated[
        list[str] | None,
        typer.Option(help="A metric; may be repeated. Default: the sweep's first."),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(
            metavar="VALUE", help="Compare the others with this value only, not every pair."
        ),
    ] = None,
    by: Annotated[
        list[str] | None,
        typer.Option(help="Also within each group of users: openness, style; may be repeated."),
    ] = None,
) -> None:
    """Compare values of an axis, paired by case: confidence intervals, permutation tests."""
    with report_in_one_line():
        from runner.commands.compare import show_comparison

        show_comparison(
            folder,
            axis=axis,
            metrics=metric or [],
            baseline=baseline,
            by=by or [],
            console=plain_console(),
        )


@app.command()
def plot(
    folder: FolderArgument,
    figure: Annotated[
        str,
        typer.Argument(
            metavar="FIGURE",
            help="turns, tradeoff, bars, shares, cost, seeds, sensitivity or curves, or a name "
            "under `figures:` of the sweep file.",
        ),
    ],
    metric: Annotated[
        list[str] | None,
        typer.Option(
            help="A metric; may be repeated (tradeoff and cost: x, then y; shares: "
            "turn_share@NAME)."
        ),
    ] = None,
    axis: Annotated[
        str | None, typer.Option(help="Draw one line or bar per value of this axis.")
    ] = None,
    by: Annotated[
        list[str] | None,
        typer.Option(help="A panel per group of users: openness or style; may be repeated."),
    ] = None,
    of: Annotated[str | None, typer.Option(help="For shares: action or strategy.")] = None,
    parts: Annotated[
        int | None,
        typer.Option(help="For shares: cut each dialogue into this many parts instead of turns."),
    ] = None,
    width: Annotated[str | None, typer.Option(help="Width of the figure: column or page.")] = None,
    out: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="The .pdf, .svg or .png to write; may be repeated. Default: NAME_FIGURE.pdf in "
            "the current directory, NAME being the sweep's. Nothing is written into DIR.",
        ),
    ] = None,
) -> None:
    """Draw a figure. Needs the extra `plots`."""
    with report_in_one_line():
        from runner.commands.plot import show_plot

        show_plot(
            folder,
            figure,
            metrics=metric or [],
            axis=axis,
            by=by or [],
            of=of,
            parts=parts,
            width=width,
            out=out or [],
            console=plain_console(),
        )


@app.command()
def power(
    what: Annotated[
        str,
        typer.Argument(
            metavar="DIR|SWEEP", help="A sweep's output folder, or with --sd a sweep file."
        ),
    ],
    overrides: Overrides = None,
    axis: Annotated[str | None, typer.Option(help="The axis whose values to compare.")] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(help="A metric; may be repeated. Default: the sweep's first."),
    ] = None,
    detect: Annotated[
        float | None, typer.Option(help="The difference to detect, such as 0.03.")
    ] = None,
    sd: Annotated[
        float | None,
        typer.Option(
            help="Assumed standard deviation of the difference between two dialogues with the same "
            "case and seed, for planning before anything has run."
        ),
    ] = None,
    case_share: Annotated[
        float, typer.Option(help="With --sd: the share of its variance that is between cases.")
    ] = 0.5,
    by: Annotated[
        list[str] | None,
        typer.Option(help="Also within each group of users: openness, style; may be repeated."),
    ] = None,
) -> None:
    """Compute the smallest detectable difference, or the cases and seeds needed for one."""
    with report_in_one_line():
        from runner.commands.power import show_power

        show_power(
            what,
            axis=axis,
            metrics=metric or [],
            detect=detect,
            deviation=sd,
            share=case_share,
            overrides=overrides or [],
            console=plain_console(),
            by=by or [],
        )


@app.command()
def validity(
    folder: FolderArgument,
    by: Annotated[
        list[str] | None,
        typer.Option(
            metavar="AXIS",
            help="One row per value of this axis, or group of users (openness, style); may be "
            "repeated. Default: the axes that set the simulated user.",
        ),
    ] = None,
    metric: Annotated[
        str | None, typer.Option(help="The metric to rank by. Default: the sweep's first.")
    ] = None,
    rank: Annotated[
        str, typer.Option(metavar="AXIS", help="The axis whose values are ranked.")
    ] = "agent",
    people: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Results of recorded human dialogues, for comparison."),
    ] = None,
    format: Annotated[Format, typer.Option(help="Output format.")] = Format.text,
) -> None:
    """Measure how far the simulated users can be trusted."""
    with report_in_one_line():
        from runner.commands.validity import show_validity

        show_validity(
            folder,
            axes=by or [],
            metric=metric,
            rank=rank,
            people=people,
            format=format.value,
            console=plain_console(),
        )


@app.command()
def sql(
    folder: FolderArgument,
    query: Annotated[
        str, typer.Argument(metavar="QUERY", help="SQL over the views of docs/schema.md.")
    ],
    format: Annotated[str, typer.Option(help="text, csv or json.")] = "text",
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, with full cells.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with full cells.")] = False,
    parquet: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a Parquet file instead; it keeps column types."),
    ] = None,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.1, help="Time limit of the query.")
    ] = 10.0,
) -> None:
    """Query the results with DuckDB SQL. A terminal shows long cells truncated."""
    with report_in_one_line():
        from runner.commands.query import show_query

        show_query(
            folder,
            query,
            format="csv" if as_csv else "json" if as_json else format,
            console=plain_console(),
            parquet=parquet,
            seconds=timeout,
        )


@app.command()
def view(
    folder: FolderArgument,
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Default: 8765, or any free port if that is in use."),
    ] = None,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Only print the address.")
    ] = False,
) -> None:
    """Read dialogues in a browser, even while the sweep runs. Changes nothing."""
    with report_in_one_line():
        from runner.commands.view import show_viewer

        show_viewer(folder, port=port, browser=not no_browser, console=plain_console())
