"""Builds the manifest of a folder and its cases, and refuses to mix incompatible results."""

from __future__ import annotations

import importlib
import importlib.util
import platform
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

from agents.core import plugins
from agents.core.errors import UsageError
from agents.policies.core.network import POLICIES
from agents.policies.core.recipes import LabelPolicyRecipe
from agents.recommenders.core import RECOMMENDERS, Fit
from runner.core.sent import sent_package
from runner.driver.environment import hardware
from simulators.core.critic import CRITICS
from simulators.core.judge import JUDGES
from sweeps import manifest as manifests
from sweeps.cells import SUCCESS, Cell
from sweeps.identity import RECIPE
from sweeps.judges import PlannedJudge
from sweeps.manifest import (
    ArtifactEntry,
    CellEntry,
    DimensionEntry,
    JudgeEntry,
    Manifest,
    PairEntry,
    SourceEntry,
)
from sweeps.plan import Plan
from sweeps.sources import DOMAINS
from sweeps.speakers import AGENTS, USERS
from sweeps.storage.folder import Folder
from sweeps.storage.records import READABLE, SCHEMA_VERSION, SCHEMAS
from workers.backends.core.backend import Backend
from workers.cache import journal
from workers.core.code import library_versions
from workers.models import BACKENDS
from workers.results.bundles import write_part

_LIBRARIES = ("crsweep", "ray", "pyarrow", "pydantic", "jinja2", "numpy", "rapidfuzz", "openai")


# Files that exist before the first manifest, or that remain if the manifest is gone.
_OURS = {"annotations", "lease.json", "sweep.yaml", "logs", journal.FOLDER, *SCHEMAS}


def check_is_ours(folder: Folder, name: str) -> None:
    """Refuses an output folder that contains something other than the sweep `name`.

    A folder without a manifest (its driver died early, or it was deleted) is accepted if it has a
    lease and nothing foreign.
    """
    manifest = manifests.read(folder)
    if manifest is not None:
        if manifest.name != name:
            raise UsageError(
                f"the output folder {folder} holds the sweep {manifest.name!r}, not {name!r}; "
                "give another `out`"
            )
        return
    try:
        found = folder.names()
    except NotADirectoryError:
        raise UsageError(
            f"the output folder {folder} cannot be written: it, or a folder above it, is a file"
        ) from None
    except OSError as error:
        raise UsageError(
            f"the output folder {folder} cannot be read: {error.strerror or error}"
        ) from None
    foreign = [n for n in found if n not in _OURS or ("lease.json" not in found and n != "logs")]
    if foreign:
        raise UsageError(
            f"the output folder {folder} is not empty and contains no sweep (found {foreign[0]!r})"
        )


def check_sources(plan: Plan, manifest: Manifest | None, accept: bool) -> None:
    """Refuses to mix results of changed code: same plug-in and version, but different source.

    Raises UsageError, which shows both hashes and the flag that accepts the change. Ids of another
    recipe never recur, so nothing is mixed with them.
    """
    if manifest is None or accept or manifest.recipe != RECIPE:
        return
    for name, now in _engine_versions(plan).items():
        then = manifest.versions.get(name)
        if then and then != now:
            raise UsageError(
                f"this folder was written with {name} {then}, but {now} is installed: the same "
                "seeds may give other replies. Pass --accept-source-change to continue with it"
            )
    for name, now in plugin_sources(plan).items():
        then = manifest.plugin_sources.get(name)
        if then is None or then["version"] != now["version"] or then["hash"] == now["hash"]:
            continue
        raise UsageError(
            f"the source of {name} (version {now['version']}) has changed since this folder was "
            f"written: then {then['hash'][:12]}, now {now['hash'][:12]}. Raise its `version` to "
            "rerun its episodes, or pass --accept-source-change to keep finished ones (with "
            "--retry, failed ones run again)"
        )


def recipe_line(manifest: Manifest | None) -> str | None:
    """Why every episode is planned again, if the folder's ids use another recipe."""
    if manifest is None or manifest.recipe == RECIPE:
        return None
    return (
        f"these results use recipe {manifest.recipe} for episode ids; this crsweep uses recipe "
        f"{RECIPE}, so all episodes are planned again, and tables show only the new ones (to keep "
        "the table of the old ones, set another `out`)"
    )


def plugin_sources(plan: Plan) -> dict[str, dict[str, Any]]:
    """Version and source hash of every plug-in in use and of the shared code."""
    used: dict[str, int] = {"agents.core": 1, "simulators.core": 1}
    for cell in plan.cells:
        config = cell.config
        named = [
            (DOMAINS, config.domain.name),
            (AGENTS, config.agent.name),
            (USERS, config.simulator.name),
            (SUCCESS, config.success.name),
            *([] if config.critic is None else [(CRITICS, config.critic.name)]),
            *((BACKENDS, config.models[m].backend) for m in cell.models),
            *(
                (RECOMMENDERS, need.recipe.ref.name)
                for need in cell.needs
                if isinstance(need.recipe, Fit)
            ),
            *(
                (POLICIES, each.recipe.network.name)
                for need in cell.needs
                for each in need.whole()
                if isinstance(each.recipe, LabelPolicyRecipe)
            ),
        ]
        for package, name in named:
            found = plugins.module(package, name, "plug-in").__name__
            used[found] = getattr(plugins.load(package, name, "plug-in"), "version", 1)
            shared = f"{package}.core"
            if importlib.util.find_spec(shared) is not None:
                used[shared] = 1
    for judge in plan.judges:
        found = plugins.module(JUDGES, judge.ref.name, "judge").__name__
        used[found] = judge.identity["version"]
    return {
        name: {"version": version, "hash": plugins.source_hash(importlib.import_module(name))}
        for name, version in sorted(used.items())
    }


def _oldest_parts(epoch: int, before: Manifest | None) -> int:
    if before is not None:
        return min(before.oldest_parts, before.schema_version)
    return SCHEMA_VERSION if epoch == 1 else min(READABLE)  # the lost manifest had it


def make_manifest(plan: Plan, epoch: int, before: Manifest | None, cases_file: str) -> Manifest:
    """The manifest for a plan; `before` is the manifest that it replaces."""
    loaded = plan.loaded
    revision, dirty = _git_state()
    return Manifest(
        schema_version=SCHEMA_VERSION,
        oldest_parts=_oldest_parts(epoch, before),
        recipe=RECIPE,
        name=loaded.header.name,
        driver_epoch=epoch,
        cells=[
            CellEntry(
                cell_id=cell.cell_id,
                source_id=plan.sources[cell.source].source_id,
                axes=cell.axes,
                backends={
                    role: cell.config.models[name].backend for role, name in cell.roles.items()
                },
                seeds=[list(seeds) for seeds in cell.seeds],
                fixed_sentences=plugins.load(
                    AGENTS, cell.config.agent.name, "agent"
                ).asks_about_attributes,
                settings=loaded.as_written(_settings(cell)),
            )
            for cell in plan.cells
        ],
        sources=source_entries(plan),
        watermark=_watermark(plan),
        judges=[_judge_entry(plan, judge) for judge in plan.judges],
        seeds=sorted({seeds.sampling for cell in plan.cells for seeds in cell.seeds}),
        seed_varies=seed_varies(plan),
        metrics=loaded.header.metrics,
        cases_file=cases_file,
        plugin_sources={**_earlier_sources(before), **plugin_sources(plan)},
        versions=_versions(plan),
        host={
            "name": socket.gethostname(),
            "platform": platform.platform(),
            "python": platform.python_version(),
            "processor": platform.machine(),
            **hardware(),
        },
        revision=revision,
        dirty=dirty,
        config=loaded.recorded,
        started=time.time(),
        engines=before.engines if before else [],
        runs=before.runs if before else [],
        artifacts=[
            ArtifactEntry(
                key=found.key,
                title=found.title,
                kind=found.recipe.kind,
                name=found.title.removesuffix(f", seed {found.seed}"),
                seed=found.seed,
                cells=list(found.cells),
            )
            for found in plan.artifacts.values()
        ],
    )


def source_entries(plan: Plan) -> list[SourceEntry]:
    """The manifest entries for the plan's sources of cases."""
    return [
        SourceEntry(
            source_id=source.source_id,
            domain=source.domain_ref.name,
            split=source.split,
            sample=len(source),
            fingerprint=source.domain.fingerprint(),
            dataset=source.domain.dataset,
            profiles="" if source.written is None else source.written.digest,
        )
        for source in plan.sources
    ]


def _judge_entry(plan: Plan, judge: PlannedJudge) -> JudgeEntry:
    models = plan.cells[0].judges  # the same in all cells
    return JudgeEntry(
        title=judge.title,
        name=judge.ref.name,
        digest=judge.digest,
        samples=judge.ref.samples,
        dimensions=[DimensionEntry(**dimension._asdict()) for dimension in judge.dimensions],
        models={role: models[role] for role in judge.roles},
        options=plan.loaded.as_written(judge.ref.options),
        pairs=None if judge.pairs is None else PairEntry(**judge.pairs._asdict()),
    )


def _earlier_sources(before: Manifest | None) -> dict[str, dict[str, Any]]:
    """Entries of plug-ins that only earlier plans used, because their episodes may
    still be here."""
    return before.plugin_sources if before is not None and before.recipe == RECIPE else {}


def _settings(cell: Cell) -> dict[str, Any]:
    """The value of `CellEntry.settings`, with environment variables expanded."""
    config = cell.config
    named = {
        "domain": (DOMAINS, config.domain),
        "agent": (AGENTS, config.agent),
        "simulator": (USERS, config.simulator),
    }
    if config.critic is not None:
        named["critic"] = (CRITICS, config.critic)
    found: dict[str, Any] = {"success": {"name": config.success.name}}
    for key, (package, ref) in named.items():
        options = plugins.build_options(plugins.load(package, ref.name, key).Options, ref.options)
        found[key] = {"name": ref.name, **options.model_dump(mode="json")}
    models = {
        role: config.models[name].model_dump(mode="json") for role, name in cell.roles.items()
    }
    return {
        **found,
        "cases": config.cases.model_dump(mode="json"),
        "limits": config.limits.model_dump(mode="json"),
        "models": models,
    }


def seed_varies(plan: Plan) -> str:
    """What differs between repetitions, in words: `sampling, training and order`.

    The training seed counts only if something is trained with it.
    """
    made = {artifact.seed for artifact in plan.artifacts.values()}
    seeds = {s for cell in plan.cells for s in cell.seeds}
    varied = [
        name
        for index, name in enumerate(("sampling", "training", "order"))
        if len({s[index] for s in seeds}) > 1 and (name != "training" or len(made) > 1)
    ]
    return " and ".join([", ".join(varied[:-1]), varied[-1]] if varied[1:] else varied) or "nothing"


def write_cases(plan: Plan, folder: Folder, epoch: int) -> str:
    """Stores the cases of the plan and returns the file's name under `cases/`."""
    rows = []
    for source in plan.sources:
        for position in range(len(source)):
            case_id = source.case_id(position)
            case = source.domain.case(source.split, case_id)
            rows.append(
                {
                    "source_id": source.source_id,
                    "position": position,
                    "case_id": case_id,
                    "targets": [item.id for item in case.hidden.targets],
                    "history_length": len(case.visible.history),
                    "groups": list(source.groups(position)),
                }
            )
    name = f"{epoch:06d}-driver-000001.parquet"
    stamp = {"bundle_id": name.removesuffix(".parquet"), "driver_epoch": epoch}
    write_part(folder, f"cases/{name}", "cases", rows, stamp)
    return name


def _watermark(plan: Plan) -> list[str]:
    """The backends in use that are not language models."""
    return [name for name in plan.backends if plugins.load(BACKENDS, name, "backend").watermark]


def _engine_versions(plan: Plan) -> dict[str, str]:
    """By name of each backend whose engines could run here."""
    used: dict[str, type[Backend]] = {
        name: plugins.load(BACKENDS, name, "backend") for name in plan.backends
    }
    return {name: found for name, cls in used.items() if (found := cls.engine_version())}


def _versions(plan: Plan) -> dict[str, str]:
    installed = library_versions(_LIBRARIES)
    return {
        **_engine_versions(plan),
        **{name: installed.get(name, "not installed") for name in _LIBRARIES},
    }


def _git_state() -> tuple[str | None, bool | None]:
    """The commit of the checkout that crsweep runs or was sent from, and whether it has changes."""
    if (sent := sent_package()) is not None:
        return sent.revision, sent.dirty
    root = Path(__file__).parent.parent

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", *words], cwd=root, capture_output=True, text=True, timeout=10, check=True
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    revision, status = (
        git("rev-parse", "HEAD"),
        git("status", "--porcelain", "--untracked-files=no"),
    )
    return revision, None if status is None else bool(status)
