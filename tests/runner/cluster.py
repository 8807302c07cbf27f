"""A Ray cluster of several nodes on this machine, with its dashboard, for tests."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.conftest import LAST_GUARD_SECONDS


@dataclass
class LocalCluster:
    """Its job server, its folder, and what a client needs to know."""

    address: str
    gcs: str
    folder: Path
    env: dict[str, str]
    ray_env: dict[str, str]
    nodes: int = 0

    def add_node(
        self, agent_port: int, *place: str, at: str = "127.0.0.1", within: Sequence[str] = ()
    ) -> Path:
        """Starts a node, by default one that joins; its folder.

        `at` is its address, `within` the command that runs it elsewhere (`ip netns exec NAME`).
        """
        folder = self.folder / str(self.nodes)
        self.nodes += 1
        ray = Path(sys.executable).with_name("ray")
        done = subprocess.run(
            [*within, ray, "start", *(place or [f"--address={self.gcs}"]),
             "--num-cpus=1",
             # Its own, as on another machine: nodes unpack what is sent into it.
             f"--temp-dir={folder}", f"--node-ip-address={at}",
             f"--dashboard-agent-listen-port={agent_port}", "--disable-usage-stats"],
            capture_output=True, text=True, env=self.ray_env, cwd=self.folder,
            timeout=LAST_GUARD_SECONDS,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return folder

    def end_node(self, folder: Path) -> None:
        """SIGKILL of all processes of one node."""
        _end_all_of(folder)

    def text_of_logs(self) -> bytes:
        """All that Ray has written below its folder, its own logs and those of jobs."""
        files = [path for path in self.folder.rglob("*") if path.is_file()]
        return b"\n".join(path.read_bytes() for path in files)


@contextmanager
def local_cluster(nodes: int, at: str = "127.0.0.1", **settings: str) -> Iterator[LocalCluster]:
    """A head, at that address, and further nodes, which ask for a token."""
    folder = Path(tempfile.mkdtemp(prefix="cr-", dir="/tmp"))  # sockets need a short path
    token = folder / "token"
    token.write_text(secrets.token_hex(32))
    gcs, dashboard, *agents = free_ports(nodes + 2)
    env = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DASHBOARD_STARTUP_TIMEOUT_S": str(int(LAST_GUARD_SECONDS)),
        # A slow machine is not a dead node.
        "RAY_health_check_failure_threshold": "60",
        **settings,
    }
    with ExitStack() as undo:
        undo.callback(shutil.rmtree, folder, ignore_errors=True)
        undo.callback(_end_all_of, folder)
        client = {"RAY_AUTH_TOKEN_PATH": str(token), "XDG_STATE_HOME": str(folder / "state")}
        found = LocalCluster(f"http://127.0.0.1:{dashboard}", f"{at}:{gcs}", folder, client, env)
        found.add_node(
            agents[0], "--head", f"--port={gcs}", f"--dashboard-port={dashboard}",
            "--include-dashboard=true", at=at,
        )  # fmt: skip
        for agent in agents[1:]:
            found.add_node(agent)
        yield found


def free_ports(count: int) -> list[int]:
    """Ports below those that Ray gives to its workers (10002 and above)."""
    found: list[int] = []
    first = 7000 + os.getpid() % 2000  # another cluster may be looking, too
    with ExitStack() as stack:
        for port in range(first, 9900):
            listener = stack.enter_context(socket.socket())
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                continue
            found.append(port)
            if len(found) == count:
                return found
    raise AssertionError("no free port")


def _end_all_of(folder: Path) -> None:
    """Kills the processes of a cluster or node: its folder is in the command or environment of
    each."""
    mine = []
    for process in psutil.process_iter():
        try:
            words = [*process.cmdline(), *process.environ().values()]
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        if process.pid != os.getpid() and any(str(folder) in word for word in words):
            mine.append(process)
    for process in mine:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(mine, timeout=LAST_GUARD_SECONDS)
