"""Jobs on a Ray cluster: sent, watched and stopped through its job server (HTTP, port 8265)."""

from __future__ import annotations

import asyncio
import fcntl
import ipaddress
import json
import logging
import os
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from agents.core.errors import UsageError
from agents.core.paths import expand_user
from runner.core.exit_codes import ExitCode

_REMEMBERED = 200  # jobs, the newest
_LOOK_EVERY = 0.5  # seconds between looks at a job that is waited for
_READY_SECONDS = 120.0  # that a cluster may take from its first answer to taking jobs
_LOST_SECONDS = 120.0  # for a connection to come back while a log is followed
STOP_SECONDS = 120
"""What a driver may take to commit what is finished. Ray's default of 3 s is too short for it."""


@dataclass(frozen=True)
class SentJob:
    """A job that was sent from this machine."""

    job_id: str
    address: str
    sweep: str
    out: str
    submitted: float


class JobServer:
    """The job server of a cluster. Methods raise UsageError where it does not answer."""

    def __init__(self, address: str) -> None:
        self.address = address
        try:
            from ray.job_submission import JobSubmissionClient
        except ImportError as error:
            raise UsageError(
                f"sending jobs needs the extra crsweep[cluster], which is not installed ({error})"
            ) from None
        from ray.exceptions import AuthenticationError

        for name in ("dashboard_sdk", "job.sdk"):
            logging.getLogger(f"ray.dashboard.modules.{name}").setLevel(logging.ERROR)
        with self._answers():
            try:
                self._client = JobSubmissionClient(address)
            except AuthenticationError:
                # Only now: a token is for the cluster that asks for one.
                _send_token(address)
                self._client = JobSubmissionClient(address)

    def submit(
        self,
        entrypoint: str,
        package: bytes,
        *,
        job_id: str,
        variables: Mapping[str, str],
        metadata: Mapping[str, str],
    ) -> None:
        """Sends a package, and starts a command in it."""
        with tempfile.TemporaryDirectory() as folder, self._answers():
            archive = Path(folder) / "crsweep.zip"
            archive.write_bytes(package)
            until = time.monotonic() + _READY_SECONDS
            while True:
                try:
                    self._client.submit_job(
                        entrypoint=entrypoint,
                        submission_id=job_id,
                        runtime_env={"working_dir": str(archive), "env_vars": dict(variables)},
                        metadata=dict(metadata),
                    )
                except RuntimeError as error:
                    if "No available agent" not in str(error) or time.monotonic() > until:
                        raise
                    time.sleep(_LOOK_EVERY)  # the cluster has just been started
                else:
                    return

    def status(self, job_id: str) -> str:
        """`PENDING`, `RUNNING`, `STOPPED`, `SUCCEEDED` or `FAILED`."""
        with self._answers(job_id):
            return self._client.get_job_status(job_id).value

    def logs(self, job_id: str) -> str:
        with self._answers(job_id):
            return self._client.get_job_logs(job_id)

    def follow(self, job_id: str) -> Iterator[str]:
        """The log of a job as it is written, until the job ends.

        A lost connection is made again, and what was printed before is not repeated.
        """
        given, lost_since = 0, None
        while True:
            ended = self.has_ended(job_id)  # asked first: more may be written while we read
            try:
                read = 0
                for chunk in self._tail(job_id):
                    lost_since = None
                    read += len(chunk)
                    if read > given:
                        yield chunk[max(0, given - read + len(chunk)) :]
                        given = read
            except (OSError, RuntimeError) as error:
                lost_since = lost_since or time.monotonic()
                if time.monotonic() - lost_since > _LOST_SECONDS:
                    raise UsageError(f"{self.address} does not answer: {error}") from None
            else:
                if ended:
                    return
            time.sleep(_LOOK_EVERY)

    def stop(self, job_id: str) -> bool:
        """Asks a job to stop, and waits until it has; whether it was running."""
        with self._answers(job_id):
            if not self._client.stop_job(job_id):
                return False
        while not self.has_ended(job_id):
            time.sleep(_LOOK_EVERY)
        return True

    def has_ended(self, job_id: str) -> bool:
        return self.status(job_id) in ("STOPPED", "SUCCEEDED", "FAILED")

    def exit_code(self, job_id: str) -> tuple[int, str]:
        """The exit code of a job that has ended, and why it failed where Ray says so.

        A driver that was stopped or died has left episodes: `ExitCode.INCOMPLETE`.
        """
        with self._answers(job_id):
            found = self._client.get_job_info(job_id)
        if found.driver_exit_code is not None:
            return found.driver_exit_code, ""
        if found.status.value == "SUCCEEDED":
            return ExitCode.COMPLETE, ""
        return ExitCode.INCOMPLETE, found.message or f"the job has ended: {found.status.value}"

    def _tail(self, job_id: str) -> Iterator[str]:
        import aiohttp

        chunks = self._client.tail_job_logs(job_id)
        loop = asyncio.new_event_loop()
        try:
            while True:
                yield loop.run_until_complete(anext(chunks))
        except StopAsyncIteration:
            return
        except aiohttp.ClientError as error:
            raise OSError(str(error)) from None
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()

    @contextmanager
    def _answers(self, job_id: str | None = None) -> Iterator[None]:
        import requests
        from ray.exceptions import AuthenticationError

        try:
            yield
        except AuthenticationError:
            raise UsageError(
                f"{self.address} refuses the token; set RAY_AUTH_TOKEN_PATH to a file with the "
                "token of this cluster"
            ) from None
        except (requests.RequestException, ConnectionError) as error:
            raise UsageError(
                f"no job server answers at {self.address}; check that the cluster runs with its "
                "dashboard, and that the tunnel to it is open, such as "
                "`ssh -L 8265:localhost:8265 HEAD`"
            ) from error
        except RuntimeError as error:
            said = " ".join(str(error).split())
            if job_id is not None and "404" in said:
                raise UsageError(f"{self.address} has no job {job_id!r}") from None
            raise UsageError(f"{self.address} refuses: {said[:500]}") from None


def _send_token(address: str) -> None:
    """Has Ray's client send the token of this machine. UsageError if there is none."""
    from ray import _raylet

    raylet: Any = _raylet  # compiled, without type stubs
    if not raylet.AuthenticationTokenLoader.instance().has_token(ignore_auth_mode=True):
        raise UsageError(
            f"{address} asks for a token, and this machine has none; copy the cluster's "
            "~/.ray/auth_token, or set RAY_AUTH_TOKEN_PATH to a file that has it"
        )
    os.environ["RAY_AUTH_MODE"] = "token"
    raylet.Config.initialize("")


def new_id(sweep: str) -> str:
    """An id for a job, with the name of its sweep."""
    return f"{sweep}-{uuid.uuid4().hex[:8]}"


def checked_address(given: str | None) -> str:
    """The address of a job server. UsageError if it is none, or there is none."""
    address = given or os.environ.get("RAY_API_SERVER_ADDRESS") or ""
    if not address:
        raise UsageError(
            "no cluster is named; pass --address http://head:8265, or set RAY_API_SERVER_ADDRESS"
        )
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host, parts = None, urlsplit("")
    if parts.scheme not in ("http", "https") or not host:
        raise UsageError(
            f"--address: expected http://host:8265 (the port of Ray's dashboard), found {address}"
        )
    if parts.username or parts.password:
        raise UsageError("--address: leave out the user name and password; they would be stored")
    return address.rstrip("/")


def is_exposed(address: str) -> bool:
    """Whether what is sent to an address can be read on the way: plain HTTP to another machine."""
    parts = urlsplit(address)
    if parts.scheme != "http":
        return False
    host = parts.hostname or ""
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host != "localhost" and not host.endswith(".localhost")


# Jobs that were sent from here, so that `crsweep logs` needs no id.


def remember(job: SentJob) -> None:
    """Adds a job to those that were sent from here."""
    path = _memory()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        known = [*_understood(file.read()), job][-_REMEMBERED:]
        file.truncate(0)
        file.write("".join(json.dumps(asdict(each)) + "\n" for each in known))


def remembered() -> list[SentJob]:
    """The jobs that were sent from here, the oldest first."""
    try:
        return _understood(_memory().read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []


def find(job_id: str | None, address: str | None) -> tuple[str, str]:
    """The id and the address of a job: the last one that was sent if no id is given."""
    known = remembered()
    if job_id is None:
        there = [each for each in known if address in (None, each.address)]
        if not there:
            raise UsageError("no job was submitted from this machine; give its ID and --address")
        return there[-1].job_id, there[-1].address
    for each in reversed(known):
        if each.job_id == job_id:
            return job_id, address or each.address
    return job_id, checked_address(address)


def _memory() -> Path:
    base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(expand_user(base)) / "crsweep" / "jobs.jsonl"


def _understood(text: str) -> list[SentJob]:
    found: list[dict[str, Any]] = []
    for line in text.splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue  # half a line, of a process that was killed
    names = set(SentJob.__dataclass_fields__)
    return [SentJob(**each) for each in found if set(each) == names]


def states(jobs: Sequence[SentJob]) -> dict[str, str]:
    """Job -> its state; `unknown` where the cluster no longer knows it, or does not answer."""
    clusters: dict[str, JobServer | None] = {}
    found = {}
    for job in jobs:
        if job.address not in clusters:
            try:
                clusters[job.address] = JobServer(job.address)
            except UsageError:
                clusters[job.address] = None
        cluster = clusters[job.address]
        try:
            found[job.job_id] = "no answer" if cluster is None else cluster.status(job.job_id)
        except UsageError:
            found[job.job_id] = "unknown"
    return found
