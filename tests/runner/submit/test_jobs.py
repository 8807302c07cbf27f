"""Addresses, what is remembered, and a job's log that is followed."""

from __future__ import annotations

import pytest

from agents.core.errors import UsageError
from runner.core.exit_codes import ExitCode
from runner.submit import jobs
from runner.submit.jobs import SentJob


@pytest.mark.parametrize(
    "address", ["http://head:8265", "https://cluster.example.org", "http://[::1]:8265/"]
)
def test_addresses(address):
    assert jobs.checked_address(address) == address.rstrip("/")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("head:6379", "expected http://host:8265"),
        ("ray://head:10001", "expected http://host:8265"),
        ("http://", "expected http://host:8265"),
        ("http://host:port", "expected http://host:8265"),
        ("http://me:pw@head:8265", "leave out the user name and password"),
    ],
)
def test_what_is_no_address_is_refused(address, message):
    with pytest.raises(UsageError, match=message):
        jobs.checked_address(address)


def test_the_address_may_come_from_the_environment(monkeypatch):
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    with pytest.raises(UsageError, match="no cluster is named"):
        jobs.checked_address(None)
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://head:8265")
    assert jobs.checked_address(None) == "http://head:8265"


@pytest.mark.parametrize(
    ("address", "exposed"),
    [
        ("http://head:8265", True), ("http://10.0.0.7:8265", True), ("https://head", False),
        ("http://localhost:8265", False), ("http://127.0.0.3:8265", False),
        ("http://[::1]:8265", False),
    ],
)  # fmt: skip
def test_plain_http_to_another_machine_is_exposed(address, exposed):
    assert jobs.is_exposed(address) is exposed


@pytest.fixture
def memory(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path / "crsweep/jobs.jsonl"


def test_the_last_job_is_the_one_meant(memory):
    with pytest.raises(UsageError, match="no job was submitted from this machine"):
        jobs.find(None, None)
    for number in range(3):
        jobs.remember(SentJob(f"j{number}", f"http://h{number % 2}:1", "s", "/out", 1.0))
    assert jobs.find(None, None) == ("j2", "http://h0:1")
    assert jobs.find(None, "http://h1:1") == ("j1", "http://h1:1")
    assert jobs.find("j1", None) == ("j1", "http://h1:1")
    assert jobs.find("other", "http://h9:1") == ("other", "http://h9:1")


def test_only_the_newest_are_kept_and_a_broken_line_is_passed_over(memory, monkeypatch):
    monkeypatch.setattr(jobs, "_REMEMBERED", 3)
    for number in range(jobs._REMEMBERED + 5):
        jobs.remember(SentJob(f"j{number}", "http://h:1", "s", "/out", 1.0))
    known = jobs.remembered()
    assert len(known) == jobs._REMEMBERED
    assert known[-1].job_id == f"j{jobs._REMEMBERED + 4}"
    with memory.open("a") as file:
        file.write('{"job_id": "half')
    assert len(jobs.remembered()) == jobs._REMEMBERED


class FlakyCluster(jobs.JobServer):
    """A job whose connection breaks after some chunks; it ends with the last connection."""

    def __init__(self, connections: list[list[str] | Exception]) -> None:
        self.address = "http://h:1"
        self._connections = connections

    def has_ended(self, job_id: str) -> bool:
        return len(self._connections) <= 1

    def _tail(self, job_id: str):
        for chunk in self._connections.pop(0):  # type: ignore[union-attr]
            if isinstance(chunk, Exception):
                raise chunk
            yield chunk


def test_a_followed_log_survives_lost_connections_and_repeats_nothing(monkeypatch):
    monkeypatch.setattr(jobs.time, "sleep", lambda seconds: None)
    cluster = FlakyCluster([
        ["one\n", "tw", RuntimeError("closed")],
        ["one\nt", OSError("reset")],
        ["one\n", "two\n", "three\n"],
    ])  # fmt: skip
    assert "".join(cluster.follow("j")) == "one\ntwo\nthree\n"


def test_a_cluster_that_never_comes_back_is_given_up(monkeypatch):
    clock = iter(range(0, 10**6, 50))
    monkeypatch.setattr(jobs.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(jobs.time, "monotonic", lambda: float(next(clock)))
    cluster = FlakyCluster([[OSError("refused")] for _ in range(100)])
    with pytest.raises(UsageError, match="http://h:1 does not answer: refused"):
        list(cluster.follow("j"))


class Info:
    def __init__(self, code, status, message=""):
        self.driver_exit_code, self.message = code, message
        self.status = type("Status", (), {"value": status})


@pytest.mark.parametrize(
    ("info", "code"),
    [
        (Info(0, "SUCCEEDED"), 0), (Info(2, "FAILED"), 2), (Info(3, "FAILED"), 3),
        (Info(None, "STOPPED"), ExitCode.INCOMPLETE), (Info(None, "FAILED", "node died"), 3),
        (Info(None, "SUCCEEDED"), 0),
    ],
)  # fmt: skip
def test_exit_codes(info, code):
    cluster = FlakyCluster([])
    cluster._client = type("Client", (), {"get_job_info": lambda self, job: info})()
    found, reason = cluster.exit_code("j")
    assert found == code
    assert (reason != "") == (info.driver_exit_code is None and code != 0)
