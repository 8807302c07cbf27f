"""Describes a placement in words and as JSON types."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from agents.core.plural import many
from runner.core.formatting import slot_word
from runner.placement.groups import RunPlan, notes_of
from runner.placement.packing import Allocation, Node


def engine_lines(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """One line per model about what the engines in a manifest did."""
    lines = []
    for label in dict.fromkeys(entry["label"] for entry in entries):
        of = [entry for entry in entries if entry["label"] == label]
        queries, hits = sum(e["prefix_queries"] for e in of), sum(e["prefix_hits"] for e in of)
        line = (
            f"{label}: {sum(e['prompt_tokens'] for e in of):,} prompt and "
            f"{sum(e['output_tokens'] for e in of):,} output tokens"
        )
        if queries:
            line += f", prefix cache {100 * hits / queries:.1f} %"
        deaths = [cause for e in of for cause in e["death_causes"]]
        if deaths:
            down = sum(e["seconds_down"] for e in of)
            count = sum(e["deaths"] for e in of)
            line += (
                f"; {many(count, 'death')}, {down:,.0f} s without a replica (last: {deaths[-1]})"
            )
        if of[-1]["failed"]:
            line += f"; {of[-1]['failed']}"
        lines.append(line)
    return lines


def describe(run: RunPlan, nodes: Sequence[Node], *, cpu: bool) -> list[str]:
    """Lines for `crsweep plan`: which models go where, in which order, and what does not fit."""
    labels = {key: spec.label for key, spec in run.needs.specs.items()}
    total = sum(node.gpus for node in nodes)
    lines = []
    if labels:
        room = many(total, slot_word(cpu))
        lines.append(f"{many(len(labels), 'engine')} on {room}: {many(run.loads, 'load')}")
    for number, part in enumerate((p for p in run.stages if p.stage is not None), start=1):
        assert part.stage is not None
        keeps = sorted(labels[key] for key in part.stage.engines - set(part.stage.loads))
        lines.append(
            f"  group {number}: {many(len(part.cells), 'cell')}"
            + (f", keeps {', '.join(keeps)}" if keeps else "")
        )
        for key in part.stage.loads:
            where = [one for one in part.stage.allocations if one.engine == key]
            more = ", more where there is room" if run.needs.specs[key].elastic else ""
            lines.append(f"    load {labels[key]}: {replica_words(where, slot_word(cpu))}{more}")
    lines += ["  " + line for line in notes_of(run.needs)]
    for reason in dict.fromkeys(run.misfits.values()):
        count = sum(found == reason for found in run.misfits.values())
        lines.append(f"  does not fit ({many(count, 'cell')}): {reason}")
    return lines


def placement_data(run: RunPlan) -> dict[str, Any]:
    """The placement as JSON types: groups of cells with the engines they load, and what does not
    fit."""
    labels = {key: spec.label for key, spec in run.needs.specs.items()}
    return {
        "groups": [
            {
                "cells": sorted(part.cells),
                "loads": [labels[key] for key in part.stage.loads],
                "allocations": [
                    {
                        "model": labels[one.engine],
                        "replica": one.replica,
                        "node": one.node,
                        "gpus": one.gpus,
                    }
                    for one in part.stage.allocations
                ],
            }
            for part in run.stages
            if part.stage is not None
        ],
        "loads": run.loads,
        "misfits": {str(cell): reason for cell, reason in run.misfits.items()},
    }


def replica_words(allocations: Sequence[Allocation], word: str) -> str:
    """`2 replicas on node-a (1 GPU each)`."""
    nodes = Counter(one.node[:12] for one in allocations)
    listed = ", ".join(
        name if len(nodes) == 1 else f"{name} ({count})" for name, count in nodes.items()
    )
    gpus = allocations[0].gpus
    each = f"{gpus:g} of a {word}" if 0 < gpus < 1 else many(int(gpus), word)
    return f"{many(len(allocations), 'replica')} on {listed}, {each} each"
