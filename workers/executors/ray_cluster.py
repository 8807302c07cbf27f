"""Joins a Ray cluster, or starts a local Ray. No other module starts or stops Ray."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
from typing import Any

import ray
from ray._private.state import state
from ray._private.utils import read_ray_address

from agents.core.errors import UsageError
from workers.backends.core.backend import ClusterNode

_CLUSTER_SECONDS = 5.0  # for a connection to a cluster
_HEALTH_SECONDS = 20.0  # for an answer from Ray at its address; it takes about a second
_HEALTH_CHECK = "import sys; from ray._raylet import GcsClient; GcsClient(address=sys.argv[1])"


def cluster_nodes() -> list[ClusterNode]:
    """The live nodes."""
    leaving = state.get_draining_nodes()
    return [
        ClusterNode(
            node["NodeID"],
            int(node["Resources"].get("GPU", 0)),
            int(node["Resources"].get("CPU", 0)),
            _gpu_type(node["Resources"]),
            node["NodeID"] in leaving,
        )
        for node in ray.nodes()
        if node["Alive"]
    ]


def _gpu_type(resources: dict[str, float]) -> str:
    prefix = "accelerator_type:"
    return next((name[len(prefix) :] for name in resources if name.startswith(prefix)), "")


def free_gpus() -> dict[str, float]:
    """GPUs of each node that no actor or task holds."""
    found = state.available_resources_per_node()
    return {node: float(resources.get("GPU", 0)) for node, resources in found.items()}


def own_node() -> str:
    """The driver's node."""
    return ray.get_runtime_context().get_node_id()


def start_ray(address: str | None) -> dict[str, float]:
    """Joins the cluster at `address`, or starts a local Ray. Returns its resources.

    Raises UsageError within seconds if neither is possible.
    """
    logging.getLogger("ray").setLevel(logging.ERROR)  # its notices are not for the screen
    if not ray.is_initialized():
        own: dict[str, Any] = {} if address else {"include_dashboard": False}
        if address:
            check_cluster(address)
        try:
            ray.init(
                address=address or "local",
                log_to_driver=False,
                logging_level=logging.ERROR,
                configure_logging=False,
                **own,
            )
        except Exception as error:  # on a busy machine Ray raises Exception itself
            raise UsageError(_why_no_ray(address, error)) from error
    return dict(ray.cluster_resources())


_WAY_OUT = (
    "start it (`ray start --head`), correct run.ray_address, or leave it out "
    "(run.ray_address=null) for a local Ray"
)


def check_cluster(address: str) -> None:
    """Raises UsageError if no Ray answers at the address; Ray itself would try for minutes."""
    found = address
    if address == "auto":
        found = os.environ.get("RAY_ADDRESS") or read_ray_address() or ""
        if not found:
            raise UsageError(f"run.ray_address is auto, and no cluster runs here; {_WAY_OUT}")
    host, colon, port = found.removeprefix("ray://").rpartition(":")
    if not (host and colon and port.isdecimal()):
        raise UsageError(
            f"run.ray_address: expected auto or host:port (Ray's usual port is 6379), "
            f"found {found!r}"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CLUSTER_SECONDS).close()
    except (OSError, OverflowError) as error:
        reason = "no answer" if isinstance(error, TimeoutError) else getattr(error, "strerror", 0)
        raise UsageError(
            f"run.ray_address: there is no Ray cluster at {found} ({reason or error}); {_WAY_OUT}"
        ) from None
    if not found.startswith("ray://"):  # Ray's client gives up by itself for these
        _check_health(found)


def _check_health(address: str) -> None:
    """Raises UsageError if what listens at the address is not Ray, or denies access.

    Runs in a separate process: Ray's client cannot be interrupted, prints, and may abort.
    """
    command = [sys.executable, "-P", "-c", _HEALTH_CHECK, address]
    try:
        asked = subprocess.run(
            command, capture_output=True, text=True, errors="replace",
            stdin=subprocess.DEVNULL, timeout=_HEALTH_SECONDS,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise UsageError(
            f"run.ray_address: something listens at {address}, but it is not a Ray cluster, or the "
            f"cluster hangs (no answer to Ray's protocol within {_HEALTH_SECONDS:.0f} s); check "
            f"host and port (Ray's usual port is 6379), {_WAY_OUT}"
        ) from None
    if asked.returncode != 0:
        lines = asked.stderr.strip().splitlines() or [f"exit code {asked.returncode}"]
        raise UsageError(_why_no_ray(address, RuntimeError(lines[-1])))


def _why_no_ray(address: str | None, error: Exception) -> str:
    said = str(error).splitlines()[0] if str(error) else type(error).__name__
    if address:
        return (
            f"run.ray_address: the cluster at {address} cannot be joined ({said}); one that asks "
            f"for a token needs RAY_AUTH_MODE=token here; else {_WAY_OUT}"
        )
    if "AF_UNIX" in said:
        folder = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
        return (
            f"Ray does not start: the path of its temporary folder is too long for sockets "
            f"({folder}); set RAY_TMPDIR to a shorter one, such as /tmp"
        )
    return f"Ray does not start: {said}"


def has_own_node() -> bool:
    """Whether this driver's node is alive.

    Without it, Ray ends the driver's job: existing actors die, and new ones wait forever.
    """
    own = ray.get_runtime_context().get_node_id()
    return any(node["Alive"] for node in ray.nodes() if node["NodeID"] == own)


def stop_ray() -> None:
    """Leaves the cluster; a local Ray ends."""
    ray.shutdown()
