"""What each node of a cluster has: versions, code, GPUs, data, and access to `out`.

One actor per node, pinned to it, answers a question and ends. Nothing remains in `out`.
"""

from __future__ import annotations

import os
import platform
import socket
import subprocess
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from agents.core.errors import CrsweepError
from sweeps.origins import Origins
from sweeps.schema import PluginRef
from sweeps.sources import make_domain
from sweeps.storage import folder as folders
from sweeps.storage.folder import Folder
from workers.core.code import code_digest, library_versions
from workers.core.environment import Environment

_ANSWER_SECONDS = 300.0  # to start a process, load libraries and read the data


@dataclass(frozen=True)
class NodeQuestion:
    """What to find out about every node."""

    packages: Sequence[str]
    domains: Sequence[PluginRef]
    out: Folder
    probe: str
    """The name and content of a file that the driver has written to `out`."""


@dataclass(frozen=True)
class NodeFacts:
    """A node's answer. `problem` is set if it could not answer."""

    node_id: str
    host: str = ""
    python: str = ""
    code: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    gpus: tuple[str, ...] = ()
    cpus: int = 0
    data: tuple[str, ...] = ()
    """For each domain: its fingerprint, or why it cannot be read."""
    out: str = ""
    """Why it cannot read and write `out`; empty if it can."""
    problem: str = ""


class NodeExaminer:
    """The actor."""

    def examine(self, question: NodeQuestion, environment: Environment, node: str) -> NodeFacts:
        replace(environment, code="").take()  # different code is reported, not raised
        return replace(
            facts_here(question), node_id=node, out=_reach(question.out, question.probe, node)
        )


def facts_here(question: NodeQuestion) -> NodeFacts:
    """The facts of this machine, without access to `out`."""
    return NodeFacts(
        node_id="",
        host=socket.gethostname(),
        python=platform.python_version(),
        code=code_digest(),
        versions=library_versions(question.packages),
        gpus=_gpus(),
        cpus=os.cpu_count() or 1,
        data=tuple(_fingerprint(ref) for ref in question.domains),
    )


def examine_nodes(
    question: NodeQuestion, environment: Environment, nodes: Iterable[str]
) -> list[NodeFacts]:
    """Asks all nodes at once. Ray must be running."""
    folders.write(question.out, question.probe, question.probe.encode())
    written = [question.probe]
    try:
        asked: list[tuple[str, Any, Any]] = []
        for node in nodes:
            actor: Any = ray.remote(NodeExaminer)
            pinned = NodeAffinitySchedulingStrategy(node, soft=False)
            made = actor.options(num_cpus=0, scheduling_strategy=pinned).remote()
            asked.append((node, made, made.examine.remote(question, environment, node)))
            written.append(_answer_name(question.probe, node))
        found = []
        for node, actor, answer in asked:
            try:
                answered: Any = ray.get(answer, timeout=_ANSWER_SECONDS)
            except GetTimeoutError:
                facts = NodeFacts(node, problem=f"no answer within {_ANSWER_SECONDS:.0f} s")
            except RayError as error:
                facts = NodeFacts(node, problem=str(error).strip().splitlines()[-1])
            else:
                facts = _with_answer(answered, question)
            ray.kill(actor)
            found.append(facts)
        return found
    finally:
        for name in written:
            with suppress(OSError):
                question.out.delete(name)


def _with_answer(facts: NodeFacts, question: NodeQuestion) -> NodeFacts:
    """The facts, completed by whether the driver sees the file that the node says it
    has written."""
    if facts.out:
        return facts
    name = _answer_name(question.probe, facts.node_id)
    try:
        folders.read(question.out, name)
    except OSError:
        return replace(facts, out="the driver does not see what the node writes there")
    return facts


def _answer_name(probe: str, node: str) -> str:
    return f"{probe}-{node[:12]}"


def _reach(out: Folder, probe: str, node: str) -> str:
    try:
        if folders.read(out, probe) != probe.encode():
            return "the node reads something else than the driver has written there"
        folders.write(out, _answer_name(probe, node), b"")
    except FileNotFoundError:
        return "the node does not see what the driver has written there"
    except OSError as error:
        return str(error.strerror or error)
    return ""


def _fingerprint(ref: PluginRef) -> str:
    try:
        return make_domain(ref, Origins()).fingerprint()
    except CrsweepError as error:
        return f"cannot be read: {error.message}"


def _gpus() -> tuple[str, ...]:
    command = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return ()  # no such program: no such GPU
    return tuple(line.strip() for line in asked.stdout.splitlines() if line.strip())
