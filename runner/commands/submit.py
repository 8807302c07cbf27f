"""`crsweep submit`, and the other commands that run on a cluster: plan and doctor."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from rich.console import Console

from agents.core.errors import UsageError
from agents.core.plural import many
from runner.core.invocation import for_a_file, program
from runner.core.locations import mib
from runner.submit import jobs
from runner.submit.needs import extras_of
from runner.submit.package import Package, make_package
from runner.submit.secrets import check_overrides, check_sweep
from runner.submit.skypilot import write_folder
from sweeps.load import LoadedSweep, is_file, load
from sweeps.storage.folder import folder_at

# Folders that are local to a node on all common systems.
_NODE_LOCAL = ("/tmp", "/var/tmp", "/dev", "/run", "/proc", "/sys")
_ON_CLUSTER = ("run.executor=ray", "run.ray_address=auto")


@dataclass(frozen=True)
class Submission:
    """A sweep that is ready to be sent."""

    loaded: LoadedSweep
    package: Package
    overrides: list[str]
    """As the driver receives them: files by their path in the package."""
    out: str
    variables: dict[str, str] = field(default_factory=dict, repr=False)
    """The variables of --send-env, with their values."""

    def words(self, command: str, options: Sequence[str] = ()) -> list[str]:
        """The command line of the driver, which runs in the root of the package."""
        sweep = [self.package.sweep, *self.overrides, *_ON_CLUSTER]
        return ["python", "-m", "runner", command, *options, *sweep]


def make_submission(
    sweep: Path,
    overrides: Sequence[str],
    *,
    out: str | None = None,
    send_env: Sequence[str] = (),
    writes: bool = True,
) -> Submission:
    """Checks a sweep and packs it.

    Raises UsageError if something must not be sent or could not run there. `out` replaces that of
    the sweep. With `writes=False` (plan, doctor), the output folder may be anywhere.
    """
    given = [*overrides, *([] if out is None else [f"out={out}"])]
    check_overrides(given)
    loaded = load(sweep, given, elsewhere=True)
    check_overrides(given, loaded.header.run.env_from)
    check_sweep(loaded)
    _check_places(loaded, explicit=out is not None, writes=writes)
    variables = {}
    for name in send_env:
        if name not in os.environ:
            raise UsageError(f"--send-env {name}: this variable is not set here")
        variables[name] = os.environ[name]
    package = make_package(loaded, given)
    words = [package.overlays.get(each, each) if is_file(each) else each for each in given]
    return Submission(loaded, package, words, loaded.out_elsewhere, variables)


def send(
    submission: Submission, words: Sequence[str], address: str, command: str, console: Console
) -> tuple[jobs.JobServer, str]:
    """Sends a package and starts `words` in it. Returns the cluster and the job's id.

    `command` is the command that was typed, for hints how to resume.
    """
    package = submission.package
    packed = package.archive(for_a_file(command))
    _announce(package, len(packed), address, console)
    for name in submission.variables:
        console.print(
            f"warning: the cluster's dashboard shows the value of {name} (--send-env); to keep it "
            "secret, set it on the nodes and list it in run.env_from instead",
            style="yellow", soft_wrap=True, markup=False,
        )  # fmt: skip
    cluster = jobs.JobServer(address)
    job_id = jobs.new_id(submission.loaded.header.name)
    metadata = {"crsweep_sweep": submission.loaded.header.name, "crsweep_out": submission.out}
    if package.revision is not None:
        metadata["crsweep_revision"] = package.revision + ("-dirty" if package.dirty else "")
    cluster.submit(
        f"exec {shlex.join(words)}",
        packed,
        job_id=job_id,
        variables={**_variables(console), **submission.variables},
        metadata=metadata,
    )
    return cluster, job_id


def submit(
    submission: Submission,
    address: str,
    options: Sequence[str],
    command: str,
    *,
    wait: bool,
    console: Console,
) -> int:
    """Sends a run of the sweep. Returns the run's exit code, or 0 without waiting."""
    header = submission.loaded.header
    backends = {spec.get("backend") for spec in submission.loaded.cell["models"].values()}
    if backends - {"rules"} and header.cache.mode != "off" and header.cache.path is None:
        console.print(
            "call cache: ~/.cache/crsweep/calls on the driver's node. It is lost with that node; "
            "to keep it, set cache.path to a folder on shared storage",
            soft_wrap=True, markup=False,
        )  # fmt: skip
    cluster, job_id = send(submission, submission.words("run", options), address, command, console)
    jobs.remember(jobs.SentJob(job_id, address, header.name, submission.out, time.time()))
    console.print(f"job: {job_id}", soft_wrap=True, markup=False)
    console.print(f"results: {submission.out}", soft_wrap=True, markup=False)
    if not wait:
        line = f"watch it: {program()} logs -f; stop it: {program()} stop"
        console.print(line, soft_wrap=True, markup=False)
        return 0
    return follow(cluster, job_id, console)


def run_job(
    submission: Submission, words: Sequence[str], address: str, command: str, console: Console
) -> int:
    """Runs a command in the package, prints its output, and returns its exit code."""
    # The list of files is not interesting here, and would break JSON output.
    quiet = Console(file=sys.stderr, highlight=False, emoji=False)
    cluster, job_id = send(submission, words, address, command, quiet)
    return follow(cluster, job_id, console)


def follow(cluster: jobs.JobServer, job_id: str, console: Console) -> int:
    """Prints the log of a job until it ends, and returns its exit code."""
    for text in without_head(cluster.follow(job_id)):
        sys.stdout.write(text)
        sys.stdout.flush()
    code, reason = cluster.exit_code(job_id)
    if reason:
        console.print(f"the job has ended early: {reason}", soft_wrap=True, markup=False)
    return code


def write_task(
    submission: Submission, folder: Path, options: Sequence[str], command: str, console: Console
) -> None:
    """Writes a SkyPilot task, and the files that `submit` would send, to a new folder."""
    header = submission.loaded.header
    package = write_folder(
        folder,
        submission.package.archive(for_a_file(command)),
        name=header.name,
        command=submission.words("run", options),
        variables=header.run.env_from,
        extras=extras_of(submission.loaded),
    )
    given = "".join(f" --secret {name}" for name in header.run.env_from)
    console.print(f"wrote {folder}/task.yaml and {package}; nothing was sent", soft_wrap=True)
    console.print(f"start it: sky launch{given} {folder}/task.yaml", soft_wrap=True, markup=False)


def without_head(chunks: Iterable[str]) -> Iterator[str]:
    """The log of a job without Ray's own lines before the driver's first one."""
    head: str | None = ""
    for chunk in chunks:
        if head is None:
            yield chunk
            continue
        head += chunk
        _, found, after = head.partition("Running entrypoint for job ")
        _, end, rest = after.partition("\n")
        if found and end:
            head = None
            yield rest
    if head:  # the driver never started; the reason is all there is
        yield head


def show_files(package: Package, console: Console) -> None:
    """Prints every file of a package with its size, and sends nothing."""
    for name, content in sorted(package.content.items()):
        console.print(f"{len(content):>10,}  {name}", soft_wrap=True, markup=False)
    size = len(package.archive(""))
    console.print(f"{many(len(package.content), 'file')}, {mib(size)} compressed; nothing was sent")


def _announce(package: Package, size: int, address: str, console: Console) -> None:
    for name in package.untracked:
        console.print(f"sent although not in git: {name}", soft_wrap=True, markup=False)
    for name in package.left_out:
        console.print(f"not sent: {name}", soft_wrap=True, markup=False)
    for name in package.installed:
        console.print(f"plug-ins of {name} are not sent: it must be installed on the nodes")
    if jobs.is_exposed(address):
        console.print(
            f"warning: {address} is not encrypted, and anyone who can reach it can run code on "
            "the cluster; use a tunnel (ssh -L 8265:localhost:8265 HEAD), and never make the port "
            "public",
            style="yellow", soft_wrap=True, markup=False,
        )  # fmt: skip
    revision = (package.revision or "no git")[:12] + (" with changes" if package.dirty else "")
    console.print(
        f"sending {many(len(package.content), 'file')}, {mib(size)}, to {address} ({revision}) ...",
        soft_wrap=True, markup=False,
    )  # fmt: skip


def _variables(console: Console) -> Mapping[str, str]:
    return {
        "RAY_JOB_STOP_WAIT_TIME_S": str(jobs.STOP_SECONDS),
        "RAY_JOB_STOP_SIGNAL": "SIGINT",  # Ray prints its own stack at SIGTERM
        "PYTHONUNBUFFERED": "1",
        "COLUMNS": str(max(console.width, 100)),
    }


def _check_places(loaded: LoadedSweep, *, explicit: bool, writes: bool) -> None:
    """Refuses folders that the cluster would not have, or that only one node could see."""
    recorded = loaded.recorded
    cache, artifacts = recorded.get("cache"), recorded.get("artifacts")
    places = {
        ("out",): loaded.out_elsewhere,
        **_part(cache, "cache", ("path", "journal")),
        **_part(artifacts, "artifacts", ("path",)),
    }
    for keys, value in places.items():
        if keys == ("out",) and (explicit or not writes):
            way = "give an absolute path or a URI"
            problem = _relative(value)
        else:
            way = "pass --out URI" if keys == ("out",) else "give a folder that all nodes mount"
            problem = problem_of_place(value)
        if problem is not None and (writes or keys != ("out",)):
            raise loaded.origins.refuse(keys, f"{value} {problem}; {way}")


def _part(part: object, key: str, names: Sequence[str]) -> dict[tuple[str, ...], str]:
    if not isinstance(part, dict):
        return {}
    return {(key, name): part[name] for name in names if isinstance(part.get(name), str)}


def problem_of_place(place: str) -> str | None:
    """Why the nodes of a cluster could not share a folder; None if they could."""
    return _relative(place) or _node_local(place)


def _relative(place: str) -> str | None:
    if "://" in place or place.startswith(("/", "~", "${")):
        return None
    return "is relative to the working folder of this machine, which the cluster does not have"


def _node_local(place: str) -> str | None:
    if place.startswith("file://"):
        place = str(folder_at(place))
    parts = PurePosixPath(os.path.normpath(place)) if place.startswith("/") else None
    if parts is not None and any(parts.is_relative_to(folder) for folder in _NODE_LOCAL):
        return "is local to each node"
    return None
