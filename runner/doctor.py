"""`crsweep doctor`: checks everything that a sweep needs, before it costs anything."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from agents.core.errors import CrsweepError, UsageError
from runner.rehearse import rehearse
from runner.run import check_metrics, prepare
from simulators.core.cases import Domain
from sweeps.origins import Origins
from sweeps.plan import Plan
from workers import lease
from workers.backends.core import BackendContext
from workers.models import backend_of

_REHEARSED = 24  # cells whose prompts are rendered; more would only repeat the same templates


def examine(sweep: Path, overrides: Sequence[str], console: Console) -> bool:
    """Prints a line a check; whether all passed. UsageError where the sweep file is wrong."""
    plan = prepare(sweep, overrides)
    console.print(f"ok    sweep file: {len(plan.cells)} cells, {plan.episodes:,} episodes")
    checks: list[tuple[str, Callable[[], str]]] = [
        ("output folder", lambda: _folder(plan)),
        *((f"domain {s.domain_ref.name}", lambda s=s: _statistics(s.domain)) for s in plan.sources),
        ("prompts", lambda: _prompts(plan)),
        *((f"model {name}", check) for name, check in _models(plan)),
    ]
    if plan.loaded.header.run.executor == "ray":
        checks.append(("ray", lambda: _ray(plan)))
    passed = True
    for name, check in checks:
        try:
            found = check()
        except CrsweepError as error:
            passed = False
            console.print(f"[red]FAIL[/]  {escape(name)}: {escape(error.message)}", soft_wrap=True)
        else:
            console.print(f"ok    {escape(name)}: {escape(found)}", soft_wrap=True)
    return passed


def _folder(plan: Plan) -> str:
    out = plan.loaded.out
    there = out
    while not there.exists():
        there = there.parent
    if not os.access(there, os.W_OK):
        raise UsageError(f"{there} cannot be written")
    held = lease.holder(out)
    if held is not None:
        raise UsageError(f"{out} is in use: host {held['host']}, pid {held['pid']}")
    free = shutil.disk_usage(there).free / 2**30
    return f"{out}, {free:,.0f} GiB free"


def _statistics(domain: Domain) -> str:
    return ", ".join(f"{count:,} {what}" for what, count in domain.statistics().items())


def _prompts(plan: Plan) -> str:
    """Plays one dialogue a cell with the rules backend; a prompt that breaks, breaks here."""
    step = max(1, len(plan.cells) // _REHEARSED)
    attempts = rehearse(plan, range(0, len(plan.cells), step), 1, probe=check_metrics(plan.loaded))
    for attempt in attempts:
        if attempt.error is not None:
            raise attempt.error
    longest = max(len(m.content) for a in attempts for r in a.journal.records
                  for m in r.call.messages)  # fmt: skip
    return f"{len(attempts)} dialogues rehearsed, longest prompt {longest:,} characters"


def _models(plan: Plan) -> list[tuple[str, Callable[[], str]]]:
    """A check for every model that a dialogue of the plan speaks with."""
    found: dict[str, Callable[[], str]] = {}
    for cell in plan.cells:
        for name in cell.roles.values():
            spec = cell.config.models[name]
            source = plan.sources[cell.source]

            def check(name: str = name, spec=spec, source=source) -> str:
                cls, options = backend_of(spec, Origins(), ("models", name))

                async def ask() -> str:
                    with tempfile.TemporaryDirectory() as logs:
                        backend = cls(
                            options,
                            BackendContext(
                                name, "local", "doctor", Path(logs), lambda: source.domain.catalogue
                            ),
                        )
                        try:
                            return await backend.check()
                        finally:
                            await backend.close()

                return f"{spec.backend}, {asyncio.run(ask())}"

            found[name] = check
    return list(found.items())


def _ray(plan: Plan) -> str:
    from workers.on_ray import start_ray, stop_ray

    try:
        resources = start_ray(plan.loaded.header.run.ray_address)
    except (ConnectionError, RuntimeError, OSError) as error:
        raise UsageError(f"Ray does not start: {str(error).splitlines()[0]}") from None
    try:
        return f"{resources.get('CPU', 0):.0f} CPUs, {resources.get('GPU', 0):.0f} GPUs"
    finally:
        stop_ray()
