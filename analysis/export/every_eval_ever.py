"""Results as records of Every Eval Ever: one JSON file for each cell.

The format is version 0.3.0 of the schema in the package every-eval-ever: `eval.schema.json`. Files
are at `data/BENCHMARK/DEVELOPER/MODEL/UUID.json`, where the benchmark is the sweep and the model
that of the role `agent`.
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agents.core.errors import UsageError
from analysis.figures.data import CellGroup, Point, metric_points
from analysis.metrics.core import MACRO, Metric
from analysis.results import Results
from analysis.tables.table import Table, Value, make_table
from sweeps.manifest import CellEntry

VERSION = "0.3.0"
_SAMPLING = {"temperature": float, "top_p": float, "top_k": float, "max_tokens": int}
"""Options of sampling that the schema names, and their types."""


def write_records(results: Results, folder: Path, organization: str) -> int:
    """Writes a record for each cell with a figure. Returns how many.

    UsageError for results of backends that are not language models, and where no metric is defined.
    """
    if results.manifest.watermark:
        raise UsageError(
            f"{results.folder}: these results are made with the "
            f"{' and '.join(results.manifest.watermark)} backend, not a language model; they are "
            "not exported as evaluations of one"
        )
    table = make_table(results, results.manifest.metrics)
    groups = [CellGroup("", [n]) for n in range(len(table.rows))]
    spreads = [
        None if m.group == MACRO else metric_points(results, m, groups) for m in table.metrics
    ]
    written = 0
    for index, cell in enumerate(results.manifest.cells):
        found = [
            _result(results, cell, metric, value, spread[index] if spread else None)
            for metric, value, spread in zip(
                table.metrics, table.rows[index].values, spreads, strict=True
            )
            if value.mean is not None
        ]
        if found:
            _write(folder, results, cell, _record(results, cell, table, index, found, organization))
            written += 1
    if not written:
        raise UsageError(
            f"{results.folder}: no case that all cells and seeds have finished defines a metric; "
            "nothing to export"
        )
    return written


def _write(folder: Path, results: Results, cell: CellEntry, record: dict[str, Any]) -> None:
    model = record["model_info"]
    place = folder / "data" / _safe(results.manifest.name)
    place = place / _safe(model["developer"]) / _safe(model["name"])
    place.mkdir(parents=True, exist_ok=True)
    name = uuid.uuid5(uuid.NAMESPACE_OID, f"crsweep/{results.manifest.name}/{cell.cell_id}")
    text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False)
    (place / f"{name}.json").write_text(f"{text}\n", encoding="utf-8")


def _record(
    results: Results,
    cell: CellEntry,
    table: Table,
    index: int,
    found: list[dict[str, Any]],
    organization: str,
) -> dict[str, Any]:
    m = results.manifest
    model = _model(results, cell)
    row = table.rows[index]
    when = str(m.ended or m.started)
    return {
        "schema_version": VERSION,
        "evaluation_id": f"{m.name}/{model['id']}/{cell.cell_id}/{when}",
        "evaluation_timestamp": str(m.started),
        "retrieved_timestamp": when,
        "source_metadata": {
            "source_name": m.name,
            "source_type": "evaluation_run",
            "source_organization_name": organization,
            "evaluator_relationship": "third_party",
        },
        "eval_library": {
            "name": "crsweep",
            "version": m.versions.get("crsweep", "unknown"),
            "additional_details": _texts(
                {
                    "revision": m.revision,
                    "episodes": f"{row.counted} of {row.planned} planned",
                    "between_seeds_varies": m.seed_varies,
                    "cell_id": cell.cell_id,
                }
            ),
        },
        "model_info": model,
        "evaluation_results": found,
    }


def _model(results: Results, cell: CellEntry) -> dict[str, Any]:
    """The agent's model. What the agent is, and who plays the user, are details of it."""
    models: Mapping[str, Any] = cell.settings.get("models") or {}
    declared = models.get("agent") or {}
    backend = str(declared.get("backend") or cell.backends.get("agent") or "unknown")
    identity = str(declared.get("model") or f"unknown/{backend}")
    developer, _, name = identity.rpartition("/")
    agent, simulator = (cell.settings.get(part) or {} for part in ("agent", "simulator"))
    served_here = backend == "vllm"
    details = {
        "deployment_type": "self_deployed" if served_here else "unknown",
        "model_availability": "open_weights" if served_here else "unknown",
        "agent": agent.get("name") or cell.axes.get("agent"),
        "agent_options": _without(agent, "name"),
        "simulator": simulator.get("name"),
        "simulator_options": _without(simulator, "name"),
        **{f"axis_{axis}": label for axis, label in cell.axes.items()},
        **{f"model_of_{role}": part for role, part in models.items() if role != "agent"},
        **{key: part for key, part in declared.items() if key not in ("model", "sampling")},
    }
    return {
        "name": name,
        "id": identity,
        "developer": developer.rpartition("/")[2] or "unknown",
        "inference_engine": {
            "name": backend,
            "version": results.manifest.versions.get(backend, "unknown"),
        },
        "additional_details": _texts(details),
    }


def _result(
    results: Results, cell: CellEntry, metric: Metric, value: Value, point: Point | None
) -> dict[str, Any]:
    source = next(s for s in results.manifest.sources if s.source_id == cell.source_id)
    config: dict[str, Any] = {
        "metric_id": f"crsweep.{metric.name}",
        "metric_name": metric.name,
        "lower_is_better": metric.better == "lower",
    }
    if metric.most is not None:
        bounds = {"score_type": "continuous", "min_score": 0, "max_score": metric.most}
        config |= bounds | {"metric_unit": "proportion" if metric.most == 1 else "percent"}
    score: dict[str, Any] = {"score": value.mean}
    uncertainty: dict[str, Any] = {"num_samples": value.episodes}
    if point is not None and math.isfinite(point.low) and math.isfinite(point.high):
        uncertainty["confidence_interval"] = {
            "lower": point.low,
            "upper": point.high,
            "confidence_level": 0.95,
            "method": "Wilson, effective trials" if metric.most is not None else "t over cases",
        }
    score["uncertainty"] = uncertainty
    score["details"] = _texts({"seeds": value.seeds, "standard_deviation_over_seeds": value.std})
    return {
        "evaluation_name": f"{source.dataset or source.domain}: {metric.name}",
        "source_data": {
            "dataset_name": source.dataset or source.domain,
            "source_type": "other",
            "additional_details": _texts(
                {"split": source.split, "cases": source.sample, "fingerprint": source.fingerprint}
            ),
        },
        "metric_config": config,
        "score_details": score,
        "generation_config": _generation(cell),
    }


def _generation(cell: CellEntry) -> dict[str, Any]:
    declared = (cell.settings.get("models") or {}).get("agent") or {}
    sampling: Mapping[str, Any] = declared.get("sampling") or {}
    args = {
        name: kind(sampling[name])
        for name, kind in _SAMPLING.items()
        if isinstance(sampling.get(name), (int, float))
    }
    others = {key: part for key, part in sampling.items() if key not in args}
    limits = cell.settings.get("limits") or {}
    return {
        "generation_args": args,
        "additional_details": _texts({**others, **{f"limit_{k}": v for k, v in limits.items()}}),
    }


def _without(value: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {k: part for k, part in value.items() if k not in keys and part is not None}


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    """Details are texts in this schema; what is unset or empty is left out."""
    return {
        key: part if isinstance(part, str) else json.dumps(part, ensure_ascii=False)
        for key, part in values.items()
        if part is not None and part != {}
    }


def _safe(text: str) -> str:
    """A name of a folder; never `..`."""
    kept = "".join(c if c.isalnum() or c in "._-" else "_" for c in text).lstrip(".")
    return kept or "unknown"
