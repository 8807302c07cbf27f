"""From a sweep file to a checked plan."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from agents.core.errors import UsageError
from analysis.metrics.core import parse
from runner.driver import manifest as sweep_folder
from runner.driver.budget import check_caps
from runner.locations import (
    check_match,
    check_paths,
)
from sweeps.load import LoadedSweep, load
from sweeps.plan import Plan, make_plan
from workers.models import declare


def load_plan(sweep: Path, overrides: Sequence[str]) -> Plan:
    """Loads, checks and expands a sweep, its metrics too. Nothing is written."""
    loaded = load(sweep, overrides)
    plan = make_plan(loaded, declare, probe=_check_metrics(loaded))
    check_caps(plan)
    check_paths(plan)
    check_match(plan)
    sweep_folder.check_is_ours(loaded.out, loaded.header.name)
    return plan


def _check_metrics(loaded: LoadedSweep) -> bool:
    """Checks the names of the metrics; whether one of them needs the probe."""
    probe = False
    names = loaded.header.metrics
    for index, name in enumerate(names):
        if name in names[:index]:
            raise loaded.origins.refuse(("metrics", index), f"{name!r} is listed twice")
        try:
            probe = parse(name).needs_probe or probe
        except UsageError as error:
            raise loaded.origins.refuse(("metrics", index), error.message) from None
    return probe
