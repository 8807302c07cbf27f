"""Nodes with networks of their own: what a link costs that is cut for a while.

Each node is in a network namespace, with its own address and temporary folder, and a link to the
head. Needs root and `ip` (Debian's iproute2); the results are on this machine's disk, which is
for storage that all nodes mount.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from analysis.results import Results
from tests.runner.cluster import LocalCluster, free_ports, local_cluster
from tests.runner.processes import end_of, wait_for
from tests.runner.reading import log
from tests.sweep_files import write_sweep

pytestmark = pytest.mark.ray
HEAD = "10.213.77.1"
WAY_SECONDS = 1.0  # that an answer may take to the journal of calls


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@dataclass
class Link:
    """Between the head and one node."""

    namespace: str
    here: str
    address: str

    @contextmanager
    def cut(self, seconds: float) -> Iterator[None]:
        """For so long, and until the caller is done."""
        ip("link", "set", self.here, "down")
        try:
            time.sleep(seconds)
            yield
        finally:
            ip("link", "set", self.here, "up")


@contextmanager
def networks(count: int) -> Iterator[list[Link]]:
    """A bridge with the head's address, and namespaces that are linked to it."""
    if os.geteuid() != 0:
        pytest.fail("nodes with networks of their own need root")
    if shutil.which("ip") is None:
        pytest.fail("nodes with networks of their own need `ip`: apt-get install iproute2")
    tag = f"cr{os.getpid() % 10_000}"
    with ExitStack() as undo:
        ip("link", "add", f"{tag}b", "type", "bridge")
        undo.callback(ip, "link", "del", f"{tag}b")
        ip("addr", "add", f"{HEAD}/24", "dev", f"{tag}b")
        ip("link", "set", f"{tag}b", "up")
        links = []
        for number in range(count):
            link = Link(f"{tag}n{number}", f"{tag}v{number}", f"10.213.77.{10 + number}")
            ip("netns", "add", link.namespace)
            undo.callback(ip, "netns", "del", link.namespace)
            ip("link", "add", link.here, "type", "veth", "peer", "name", "eth0",
               "netns", link.namespace)  # fmt: skip
            ip("link", "set", link.here, "master", f"{tag}b", "up")
            inside = ("-n", link.namespace)
            ip(*inside, "addr", "add", f"{link.address}/24", "dev", "eth0")
            ip(*inside, "link", "set", "eth0", "up")
            ip(*inside, "link", "set", "lo", "up")
            links.append(link)
        yield links


@pytest.fixture
def apart() -> Iterator[tuple[LocalCluster, list[Link]]]:
    """A head here, and two nodes with networks of their own."""
    # A node is given up after six looks, a minute at most: longer than a cut of 5 s.
    health = {
        "RAY_health_check_failure_threshold": "6",
        "RAY_health_check_period_ms": "3000",
        "RAY_health_check_timeout_ms": "5000",
    }
    with networks(2) as links, local_cluster(nodes=1, at=HEAD, **health) as cluster:
        for link, port in zip(links, free_ports(2), strict=True):
            within = ("ip", "netns", "exec", link.namespace)
            cluster.add_node(port, at=link.address, within=within)
        yield cluster, links


def test_a_link_that_is_cut_costs_calls_in_flight_at_most(apart, start, tmp_path, monkeypatch):
    """For 5 s no node is lost. For 90 s one is, and the run continues without it."""
    cluster, (first, second) = apart
    for name, value in (cluster.ray_env | cluster.env).items():
        monkeypatch.setenv(name, value)
    path = write_sweep(
        tmp_path,
        models={"m": {"backend": "latency", "latency_ms": 500}},
        roles={"user": "m", "agent": "m"},
        grid={"agent": ["zero_shot"], "seed": [0, 1]},
        domain={"name": "synthetic", "items": 120, "users": 2000, "history": 8},
        cases={"sample": 400},
        run={"executor": "ray", "ray_address": cluster.gcs, "episode_workers": "auto",
             "concurrency": 24},
    )  # fmt: skip
    out = tmp_path / "out"
    process = start(path)

    def writers() -> set[str]:
        return {file.name.split("-")[1] for file in out.glob("episodes/*.parquet")}

    def nodes_lost() -> int:
        return (out / "logs").is_dir() and sum(
            file.read_text().count(" lost: ") for file in (out / "logs").glob("*-driver.log")
        )

    wait_for(lambda: len(writers()) >= 3, process, "commits on all nodes")
    with first.cut(5):
        pass
    time.sleep(20)  # a node that is given up for that would be by now
    assert nodes_lost() == 0
    assert process.poll() is None

    began = time.time()
    committed = attempts(out)
    with second.cut(90):
        wait_for(nodes_lost, process, "the node that is cut off")
    said = end_of(process)
    assert process.returncode == 0, said

    after = attempts(out)
    assert all(after[episode] == tries for episode, tries in committed.items())  # none ran again
    results = Results.open(out)
    assert results.query("SELECT count(*), sum((status = 'done')::int) FROM episodes").fetchall() \
        == [(800, 800)]  # fmt: skip
    asked = log(out)
    counts = Counter(line["request"] for line in asked)
    twice = [line for line in asked if counts[line["request"]] > 1]
    in_flight = {line["request"] for line in twice if line["answered"] >= began - WAY_SECONDS}
    print(f"{len(in_flight)} calls were paid twice: in flight when the link was cut")
    assert {line["request"] for line in twice} <= in_flight
    assert len(in_flight) <= 24


def attempts(out: Path) -> dict[str, int]:
    """Episode -> attempts that are committed."""
    found = Results.open(out).query("SELECT episode_id, count(*) FROM attempts GROUP BY 1")
    return dict(found.fetchall())
