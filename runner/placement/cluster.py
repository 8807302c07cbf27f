"""The GPUs that a sweep will have, determined without starting anything on this machine."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Sequence

from runner.placement.elastic import capped, main_type, of_type
from runner.placement.packing import Node
from sweeps.plan import Plan
from workers.backends.core.backend import ClusterNode


def nodes_of(plan: Plan, gpus: Sequence[int]) -> tuple[list[Node], bool]:
    """The nodes for the engines of `plan`, and whether CPU slots replace GPUs.

    `gpus` describes a hypothetical cluster, with a number for each node. Without it, the sweep's
    cluster is asked, or this machine is examined.
    """
    run = plan.loaded.header.run
    if gpus:
        imagined = [ClusterNode(f"node{i}", count, 0) for i, count in enumerate(gpus)]
        return [Node(n.node_id, n.gpus) for n in capped(imagined, run.gpus)], False
    if run.executor == "local":
        return [], False
    if run.ray_address is not None:
        from workers.executors.ray_cluster import cluster_nodes, start_ray, stop_ray

        start_ray(run.ray_address)
        try:
            return cluster(capped(_of_one_type(cluster_nodes(), mixed=run.mixed_gpus), run.gpus))
        finally:
            stop_ray()
    here = gpu_memories()
    name = socket.gethostname()
    if here:
        return cluster(capped([ClusterNode(name, len(here), 0)], run.gpus))
    return [Node(name, os.cpu_count() or 1)], True


def _of_one_type(nodes: Sequence[ClusterNode], *, mixed: bool) -> Sequence[ClusterNode]:
    return nodes if mixed else of_type(nodes, main_type(nodes))


def gpu_memories() -> list[float]:
    """GiB of each GPU of this machine."""
    command = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
        return [float(line) / 1024 for line in found.stdout.splitlines() if line.strip()]
    except (OSError, ValueError, subprocess.SubprocessError):
        return []  # without the program there is no such GPU


def cluster(found: Sequence[ClusterNode]) -> tuple[list[Node], bool]:
    """The nodes for engines, and whether CPU slots replace GPUs."""
    with_gpus = [Node(node.node_id, node.gpus) for node in found if node.gpus]
    if with_gpus:
        return with_gpus, False
    return [Node(node.node_id, max(1, node.cpus)) for node in found], True
