"""Commands that take a sweep file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from runner.cli.arguments import (
    AcceptArtifactChange,
    AcceptSourceChange,
    AddressOption,
    Out,
    Overrides,
    Retry,
    SweepFile,
    WaitForLease,
)
from runner.cli.exits import (
    finish,
    lasting_console,
    plain_console,
    report_in_one_line,
    resume_hint,
)
from runner.core.exit_codes import ExitCode

app = typer.Typer()


@app.command()
def plan(
    sweep: SweepFile,
    overrides: Overrides = None,
    gpus: Annotated[
        list[int] | None,
        typer.Option(
            min=1, help="Plan for a hypothetical cluster: the GPUs of a node; repeat for each node."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    address: AddressOption = None,
    out: Out = None,
) -> None:
    """Show cells, progress, model placement and the estimated cost. Writes nothing.

    With --address, plan for that cluster, as it is now.
    """
    with report_in_one_line():
        if address is not None:
            if gpus:
                raise typer.BadParameter("--gpus cannot be combined with --address")
            from runner.cli.cluster import run_on_cluster

            options = ["--json"] if as_json else []
            raise typer.Exit(run_on_cluster("plan", options, sweep, overrides or [], address, out))
        from runner.commands.plan import show_plan

        show_plan(sweep, overrides or [], gpus=gpus or [], as_json=as_json, console=plain_console())


@app.command()
def run(
    sweep: SweepFile,
    overrides: Overrides = None,
    retry: Retry = None,
    accept_source_change: AcceptSourceChange = False,
    accept_artifact_change: AcceptArtifactChange = False,
    wait_for_lease: WaitForLease = 0.0,
) -> None:
    """Run the remaining episodes of a sweep, then print its table.

    Exit code 0: complete, 3: incomplete, 2: invalid input, 1: all is committed, but a later step
    (printing) failed.
    """
    with report_in_one_line():
        from analysis.results import Results
        from runner.commands.results import show_table
        from runner.commands.status import show_failures
        from runner.core import invocation
        from runner.driver import run as runs

        console, screen = lasting_console()
        with resume_hint():
            result = runs.run(
                sweep,
                overrides or [],
                retry=retry or [],
                accept_source_change=accept_source_change,
                accept_artifact_change=accept_artifact_change,
                wait_for_lease=wait_for_lease,
                again=invocation.command(retries=False),
                console=console,
            )

        def show() -> None:
            results = Results.open(result.folder)
            show_failures(results, invocation.command(result.needs, retries=False), console)
            show_table(results, metrics=[], format="text", everything=False, console=console)

        raise finish(result, screen, console, show)


@app.command()
def judge(
    what: Annotated[
        str,
        typer.Argument(
            metavar="DIR|SWEEP",
            help="A sweep's output folder (a path or s3://...), or its sweep file.",
        ),
    ],
    overrides: Overrides = None,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only this judge; may be repeated."),
    ] = None,
    where: Annotated[
        str | None,
        typer.Option(metavar="SQL", help="SQL condition on episodes: 'success AND turns > 3'."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="At most N dialogues.")
    ] = None,
    retry: Retry = None,
    accept_source_change: AcceptSourceChange = False,
    accept_artifact_change: AcceptArtifactChange = False,
    wait_for_lease: WaitForLease = 0.0,
) -> None:
    """Judge all or some of a sweep's stored dialogues.

    The exit codes are those of run.
    """
    with report_in_one_line():
        from analysis.results import Results
        from runner.commands.judging import show_judgements
        from runner.core import invocation
        from runner.driver import run as runs
        from runner.driver.judging import Selection

        console, screen = lasting_console()
        with resume_hint():
            result = runs.judge(
                what,
                overrides or [],
                selection=Selection(only or [], where, limit),
                retry=retry or [],
                accept_source_change=accept_source_change,
                accept_artifact_change=accept_artifact_change,
                wait_for_lease=wait_for_lease,
                again=invocation.command(retries=False),
                console=console,
            )

        def show() -> None:
            again = invocation.command(result.needs, retries=False)
            show_judgements(Results.open(result.folder), again, console)

        raise finish(result, screen, console, show)


@app.command()
def prepare(
    sweep: SweepFile,
    overrides: Overrides = None,
    accept_artifact_change: AcceptArtifactChange = False,
    wait_for_lease: WaitForLease = 0.0,
) -> None:
    """Make the artifacts that agents need, and run no dialogues.

    Exit code 0: all are ready, 3: some are not.
    """
    with report_in_one_line():
        from runner.driver import run as runs

        console, screen = lasting_console()
        with resume_hint():
            result = runs.run(
                sweep,
                overrides or [],
                accept_source_change=False,
                accept_artifact_change=accept_artifact_change,
                only_prepare=True,
                wait_for_lease=wait_for_lease,
                console=console,
            )
        raise finish(result, screen, console)


@app.command()
def render(
    sweep: SweepFile,
    overrides: Overrides = None,
    cell: Annotated[int | None, typer.Option(help="Only this cell, counted from 0.")] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Print every call, not just one per step.")
    ] = False,
) -> None:
    """Print the prompts of a sweep without a model; the rules backend provides the replies."""
    with report_in_one_line():
        from runner.commands.prompts import show_prompts

        show_prompts(sweep, overrides or [], cell=cell, every=every, console=plain_console())


@app.command()
def play(
    sweep: SweepFile,
    overrides: Overrides = None,
    cell: Annotated[int, typer.Option(help="Which cell, counted from 0.")] = 0,
    case: Annotated[
        str,
        typer.Option(
            metavar="N|ID", help="Which case of the sample: its number, counted from 0, or its id."
        ),
    ] = "0",
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
    with report_in_one_line():
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
            console=plain_console(),
        )


@app.command()
def doctor(
    sweep: SweepFile, overrides: Overrides = None, address: AddressOption = None, out: Out = None
) -> None:
    """Check everything that a sweep needs before it runs.

    With --address, check every node of that cluster. Exit code 0: all good, 2: problems.
    """
    with report_in_one_line():
        if address is not None:
            from runner.cli.cluster import run_on_cluster

            raise typer.Exit(run_on_cluster("doctor", [], sweep, overrides or [], address, out))
        from runner.commands.doctor import examine

        fine = examine(sweep, overrides or [], plain_console())
        raise typer.Exit(ExitCode.COMPLETE if fine else ExitCode.BAD_INPUT)


@app.command()
def schema() -> None:
    """Print the JSON schema of sweep files, for completion and validation in editors."""
    with report_in_one_line():
        import json

        from runner.commands.schema import sweep_schema

        print(json.dumps(sweep_schema(), indent=1, ensure_ascii=False))
