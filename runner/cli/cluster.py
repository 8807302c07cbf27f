"""Commands that send sweeps to a cluster, and watch them there."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from runner.cli.arguments import (
    AcceptArtifactChange,
    AcceptSourceChange,
    AddressOption,
    Out,
    Overrides,
    SweepFile,
)
from runner.cli.exits import plain_console, report_in_one_line

app = typer.Typer()


def run_on_cluster(
    command: str,
    options: Sequence[str],
    sweep: Path,
    overrides: Sequence[str],
    address: str,
    out: str | None,
) -> int:
    """Runs `plan` or `doctor` on a cluster, prints its output, and returns its exit code."""
    from runner.commands.submit import make_submission, run_job
    from runner.submit.jobs import checked_address

    where = checked_address(address)
    submission = make_submission(sweep, overrides, out=out, writes=False)
    typed = shlex.join(["crsweep", *sys.argv[1:]])
    words = submission.words(command, options)
    return run_job(submission, words, where, typed, plain_console())


JobId = Annotated[
    str | None,
    typer.Argument(metavar="[ID]", help="The job's ID. Default: the last job submitted."),
]


@app.command()
def submit(
    sweep: SweepFile,
    overrides: Overrides = None,
    address: AddressOption = None,
    out: Out = None,
    wait: Annotated[
        bool,
        typer.Option("--wait/--detach", help="Print the log, and exit with the run's exit code."),
    ] = False,
    send_env: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Send the value of this variable; the cluster's dashboard shows it.",
        ),
    ] = None,
    retry: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CLASS",
            help="Rerun what failed with this error class or blame; may be repeated.",
        ),
    ] = None,
    accept_source_change: AcceptSourceChange = False,
    accept_artifact_change: AcceptArtifactChange = False,
    wait_for_lease: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            min=0,
            help="How long to wait for the lease of a driver that may have died to expire.",
        ),
    ] = 180.0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List what would be sent, and send nothing.")
    ] = False,
    skypilot: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Write a SkyPilot task to this folder, and send nothing."
        ),
    ] = None,
) -> None:
    """Run a sweep on a Ray cluster. Sends the code, the sweep and the prompts that it names.

    --address defaults to the variable RAY_API_SERVER_ADDRESS. Submit again to resume.
    """
    with report_in_one_line():
        from runner.commands.submit import make_submission, show_files, write_task
        from runner.commands.submit import submit as send
        from runner.submit.jobs import checked_address

        console = plain_console()
        here = dry_run or skypilot is not None
        where = None if here else checked_address(address)
        submission = make_submission(sweep, overrides or [], out=out, send_env=send_env or [])
        if dry_run:
            show_files(submission.package, console)
            return
        options = [
            *(word for name in retry or [] for word in ("--retry", name)),
            *(["--accept-source-change"] if accept_source_change else []),
            *(["--accept-artifact-change"] if accept_artifact_change else []),
            f"--wait-for-lease={wait_for_lease:g}",
        ]
        typed = shlex.join(["crsweep", *sys.argv[1:]])
        if where is None:
            assert skypilot is not None
            write_task(submission, skypilot, options, typed, console)
            return
        raise typer.Exit(send(submission, where, options, typed, wait=wait, console=console))


@app.command()
def env(
    sweep: Annotated[
        Path | None, typer.Argument(metavar="[SWEEP]", help="The sweep file (YAML).")
    ] = None,
    overrides: Overrides = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print what the nodes of a cluster need: Python, libraries, extras, variables."""
    with report_in_one_line():
        from runner.commands.nodes import show_needs

        show_needs(sweep, overrides or [], as_json=as_json, console=plain_console())


@app.command()
def jobs(
    address: AddressOption = None,
    limit: Annotated[
        int, typer.Option(min=1, help="List only the newest jobs, at most this many.")
    ] = 20,
) -> None:
    """List the jobs that were submitted from this machine."""
    with report_in_one_line():
        from rich.markup import escape
        from rich.table import Table

        from analysis.tables import sheets
        from runner.submit import jobs as sent

        found = [job for job in sent.remembered() if address in (None, job.address)][-limit:]
        console = plain_console()
        if not found:
            console.print("no jobs have been submitted from this machine")
            return
        states = sent.states(found)
        table = Table("job", "state", "submitted", "address", "results", box=None, pad_edge=False)
        for job in found:
            when = datetime.fromtimestamp(job.submitted).strftime("%Y-%m-%d %H:%M")
            cells = (job.job_id, states[job.job_id], when, job.address, job.out)
            table.add_row(*map(escape, cells))
        sheets.print_whole(table, console)


@app.command()
def logs(
    job: JobId = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Follow the log until the job ends.")
    ] = False,
    address: AddressOption = None,
) -> None:
    """Print the log of a submitted run. With -f, exit with the run's exit code."""
    with report_in_one_line():
        from runner.commands import submit as submitting
        from runner.submit.jobs import JobServer, find

        job_id, where = find(job, address)
        cluster = JobServer(where)
        if follow:
            raise typer.Exit(submitting.follow(cluster, job_id, plain_console()))
        for text in submitting.without_head([cluster.logs(job_id)]):
            sys.stdout.write(text)


@app.command()
def stop(job: JobId = None, address: AddressOption = None) -> None:
    """Stop a submitted run. Finished episodes are committed; submit again to resume."""
    with report_in_one_line():
        from runner.submit.jobs import JobServer, find

        job_id, where = find(job, address)
        console = plain_console()
        console.print(f"stopping {job_id}: finished episodes are being committed ...", markup=False)
        if JobServer(where).stop(job_id):
            console.print("stopped; submit the sweep again to resume it")
        else:
            console.print("it was not running")
