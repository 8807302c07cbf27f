"""The environment variables that a sweep needs: checked before anything starts, and sent to other
nodes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from sweeps.origins import Origins
from sweeps.plan import Plan
from workers.core.environment import Environment, Variables, check_transport
from workers.models import backend_of

# Of an object store, as all tools for it read them.
_S3 = Variables(
    secrets=("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
    places=(
        "AWS_PROFILE",
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
        "AWS_ENDPOINT_URL",
        "AWS_ENDPOINT_URL_S3",
        "AWS_CA_BUNDLE",
    ),
)


def environment_of(plan: Plan) -> Environment:
    """The variables of this process that models of `plan`, and its folder, need on every node."""
    needs = [*_of_models(plan), Variables(secrets=plan.loaded.header.run.env_from)]
    return Environment.of_here([*needs, _S3] if str(plan.loaded.out).startswith("s3://") else needs)


def check_environment(plan: Plan) -> None:
    """Raises UsageError for a variable that makes the models of `plan` unreachable."""
    if any(need.network for need in _of_models(plan)):
        check_transport()


def hardware() -> dict[str, str | int]:
    """What this machine has, as far as its system says: `cpu`, `cores`, `memory_gib`."""
    found: dict[str, str | int] = {}
    with suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        name = next(line for line in lines if line.startswith("model name"))
        found["cpu"] = name.partition(":")[2].strip()
    if cores := os.cpu_count():
        found["cores"] = cores
    with suppress(OSError, ValueError):
        found["memory_gib"] = round(
            os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
        )
    return found


def _of_models(plan: Plan) -> Sequence[Variables]:
    found: dict[int, Variables] = {}
    for cell in plan.cells:
        for name in cell.models:
            spec = cell.config.models[name]
            if id(spec) not in found:
                cls, options = backend_of(spec, Origins(), ("models", name))
                found[id(spec)] = cls.environment(options)
    return list(found.values())
