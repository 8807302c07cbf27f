"""What the nodes of a cluster need for a sweep (`crsweep env`), and what they have (`doctor`)."""

from __future__ import annotations

import json
import platform
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from agents.core.errors import UsageError
from agents.core.plural import many
from analysis.tables import sheets
from runner.driver.environment import environment_of
from runner.placement.elastic import main_type, unused_types
from sweeps.load import load
from sweeps.plan import Plan
from workers.backends.core.backend import ClusterNode
from workers.core.code import code_digest, library_versions

if TYPE_CHECKING:
    from workers.executors.nodes import NodeFacts, NodeQuestion

_ENGINES = {"vllm": "vllm", "sentence_transformers": "sentence-transformers"}
"""Backends whose engines run on the nodes, and their libraries."""
_CORE = (
    "duckdb", "jinja2", "msgpack", "numpy", "omegaconf", "openai", "pyarrow", "pydantic",
    "rapidfuzz", "scipy",
)  # fmt: skip
_OF_EXTRAS = {
    "s3": ["boto3"],
    "train": ["torch"],
    "vllm": ["torch"],
    "sentence-transformers": ["torch"],
}
_LIBRARIES = ("ray", *_ENGINES.values(), *_CORE, "torch", "boto3")


def show_needs(
    sweep: Path | None, overrides: Sequence[str], *, as_json: bool, console: Console
) -> None:
    """Prints what every node must have for a sweep, or for any sweep if none is given."""
    extras, engines, variables, outside, out = ["cluster"], list(_ENGINES.values()), {}, [], ""
    tested = [*_CORE, "torch", "boto3"]
    if sweep is not None:
        from runner.submit.needs import backends_of, extras_of, variables_of
        from runner.submit.package import make_package

        loaded = load(sweep, overrides, elsewhere=True)
        out = loaded.out_elsewhere
        extras = extras_of(loaded)
        backends = backends_of(loaded)
        engines = [library for name, library in _ENGINES.items() if name in backends]
        tested = [*_CORE, *dict.fromkeys(name for e in extras for name in _OF_EXTRAS.get(e, ()))]
        variables = variables_of(loaded)
        outside = make_package(loaded, overrides).installed
    # Ray refuses other versions than the driver's, and other engines give other replies.
    exact = ["ray", *engines]
    versions = library_versions([*exact, *tested])
    needs: dict[str, Any] = {
        "python": platform.python_version(),
        "code": code_digest(),
        "extras": extras,
        "libraries": versions,
        "exact": exact if sweep is not None else [name for name in exact if name in versions],
        "plugins": {name: _owner_of(name) for name in outside},
        "variables": [name for name, needed in variables.items() if needed],
        "optional_variables": [name for name, needed in variables.items() if not needed],
        "out": out,
    }
    if as_json:
        print(json.dumps(needs, indent=1))
        return
    minor = ".".join(needs["python"].split(".")[:2])
    lines = [
        "every node needs:",
        f"Python {minor} (here: {needs['python']})",
        f"crsweep[{','.join(extras)}], installed with constraints.txt; code digest "
        f"{needs['code'][:12]} (crsweep submit sends the code)",
        "exactly: "
        + ", ".join(f"{n} {versions.get(n, '(not installed here)')}" for n in needs["exact"]),
        "tested with: "
        + ", ".join(f"{n} {v}" for n, v in versions.items() if n not in needs["exact"]),
    ]
    lines += [f"installed: {owner} (plug-ins of {n})" for n, owner in needs["plugins"].items()]
    if variables:
        names = [n if needed else f"{n} (has a default)" for n, needed in variables.items()]
        lines.append(f"environment variables: {', '.join(names)}")
    if out:
        from runner.commands.submit import problem_of_place

        problem = problem_of_place(out)
        lines.append(
            f"read and write access to {out}"
            if problem is None
            else f"an output folder: pass --out URI to `submit`, because {out} {problem}"
        )
    for line in lines:
        console.print(line, soft_wrap=True, markup=False)


def node_question(plan: Plan) -> NodeQuestion:
    """The question that doctor asks every node."""
    from workers.executors.nodes import NodeQuestion

    domains = {str(source.domain_ref): source.domain_ref for source in plan.sources}
    return NodeQuestion(
        packages=_LIBRARIES,
        domains=list(domains.values()),
        out=plan.loaded.out.absolute(),
        probe=f".doctor-{uuid.uuid4().hex}",
    )


def examine_cluster(plan: Plan, nodes: Sequence[str], console: Console) -> str:
    """Prints a table of the nodes. Raises UsageError if one lacks something. Ray must
    be running."""
    from workers.executors.nodes import examine_nodes, facts_here

    question = node_question(plan)
    found = examine_nodes(question, environment_of(plan), nodes)
    here = facts_here(question)
    needed = ["ray", *(library for name, library in _ENGINES.items() if name in plan.backends)]
    problems = [list(problems_of(facts, here, needed)) for facts in found]
    table = Table("node", "Python", "crsweep", *needed, "CPUs", "GPUs", "data", "out", "problems",
                  box=None, pad_edge=False)  # fmt: skip
    for facts, wrong in zip(found, problems, strict=True):
        if facts.problem:
            table.add_row(facts.node_id[:12], *[""] * (len(table.columns) - 2), facts.problem)
            continue
        table.add_row(
            escape(facts.host), facts.python, facts.code[:8],
            *(facts.versions.get(name, "none") for name in needed),
            str(facts.cpus), escape(_summed(facts.gpus)),
            "ok" if facts.data == here.data else "no", "no" if facts.out else "ok",
            escape("; ".join(wrong)) or "none",
        )  # fmt: skip
    sheets.print_whole(table, console)
    bad = [(f, w) for f, w in zip(found, problems, strict=True) if w]
    if bad:
        facts, wrong = bad[0]
        raise UsageError(
            f"{len(bad)} of {many(len(found), 'node')} cannot run this sweep: "
            f"{facts.host or facts.node_id[:12]}: {wrong[0]}"
        )
    gpus = sum(len(facts.gpus) for facts in found)
    return (
        f"{many(len(found), 'node')}, {many(gpus, 'GPU')}, "
        f"{many(len(question.domains), 'data set')} read on each"
    )


def unused_gpus(nodes: Sequence[ClusterNode], *, mixed: bool) -> str:
    """What doctor says of GPUs that no engine will use, since most are of another type."""
    unused = {} if mixed else unused_types(nodes)
    if not unused:
        return ""
    types = ", ".join(f"{count} x {name or 'unknown'}" for name, count in sorted(unused.items()))
    return (
        f"; not used: {types} (engines use {main_type(nodes) or 'unknown'}, the most common type; "
        "run.mixed_gpus: true uses all)"
    )


def problems_of(facts: NodeFacts, driver: NodeFacts, needed: Sequence[str]) -> Iterator[str]:
    """The reasons why a node cannot run what the driver can run."""
    if facts.problem:
        yield facts.problem
        return
    if facts.python.split(".")[:2] != driver.python.split(".")[:2]:
        yield f"Python {facts.python}, the driver has {driver.python}"
    if facts.code != driver.code:
        yield f"different crsweep code: digest {facts.code[:12]}, the driver has {driver.code[:12]}"
    for name in needed:
        has, wanted = facts.versions.get(name), driver.versions.get(name)
        if has != wanted:
            yield f"{name} {has or 'is not installed'}, the driver has {wanted or 'none'}"
    for has, wanted in zip(facts.data, driver.data, strict=True):
        if has != wanted:
            yield has if has.startswith("cannot") else "the data set differs from the driver's"
    if facts.out:
        yield f"out: {facts.out}"


def _summed(gpus: Sequence[str]) -> str:
    return ", ".join(f"{count} x {name}" for name, count in Counter(gpus).items()) or "none"


def _owner_of(package: str) -> str:
    owners = metadata.packages_distributions().get(package, [])
    return f"{owners[0]} {metadata.version(owners[0])}" if owners else package
