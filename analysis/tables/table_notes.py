"""Notes under a table: what varied between seeds, and what its metrics could not count."""

from __future__ import annotations

import re
from collections.abc import Sequence

from agents.core.plural import many
from analysis.metrics.core import Metric
from analysis.results import Results

# What numbers made with a backend are. Named here because analysis knows no workers.
_WATERMARKS = {
    "rules": "made with the rules backend: they test the plumbing, not language models, and must "
    "never be compared with published numbers",
    "latency": "made with the latency backend: random replies, for measuring speed",
}

_AT_TURN = re.compile(r"sr(?:_\w+)?@(\d+)(?:\[.*\])?")


def origin_notes(results: Results) -> list[str]:
    """Notes on what varies between seeds, and on backends that are not language models."""
    manifest = results.manifest
    seeds = max((len(c.seeds) for c in manifest.cells), default=0)
    notes = [
        f"mean ± sample standard deviation over {seeds} seeds, which vary: {manifest.seed_varies}"
        if seeds > 1
        else "one seed: no standard deviation"
    ]
    return [*notes, *watermarks(results)]


def watermarks(results: Results) -> list[str]:
    """A note on each backend that is not a language model."""
    words = (
        _WATERMARKS.get(backend, f"made with the {backend} backend: no language model")
        for backend in results.manifest.watermark
    )
    return [f"WATERMARK: these numbers are {each}" for each in words]


def beyond_the_end(results: Results, metrics: Sequence[Metric]) -> list[str]:
    """Notes on success by a turn that no dialogue of the results can have, and on cells that end
    before others.

    This is not an error: where the limit is an axis or overridden, other cells have the turn.
    """
    if not any(metric.of_success for metric in metrics):
        return []
    found = results.query("SELECT DISTINCT max_turns FROM episodes ORDER BY max_turns").fetchall()
    limits = [most for (most,) in found]
    notes = [beyond(metric.name, limits[-1]) for metric in metrics if limits]
    if len(limits) > 1:
        words = ", ".join(map(str, limits[:-1]))
        notes.append(
            f"dialogues of some cells end after {words} turns, those of others after {limits[-1]}: "
            "these cells have no success rate by a later turn and no average turns"
        )
    return [note for note in notes if note]


def beyond(metric: str, turns: int) -> str:
    """A note on success by a later turn than `turns`, where all dialogues end; else empty."""
    at = _AT_TURN.fullmatch(metric)
    if at is None or int(at[1]) <= turns:
        return ""
    return f"{metric}: dialogues end after {many(turns, 'turn')}, so this is the value at {turns}"


def over_published(metrics: Sequence[Metric]) -> list[str]:
    """Notes on metrics that compare with what a paper printed."""
    return [
        f"{metric.name}: relative to printed numbers, not to a run; 1 is 100 %"
        for metric in metrics
        if metric.name.startswith("improve_over@published:")
    ]


def shorter_rankings(results: Results, metrics: Sequence[Metric]) -> list[str]:
    """A note on metrics that read a ranking further than the agent gave it."""
    reading = [metric for metric in metrics if metric.depth]
    if not reading:
        return []
    counted = [("e.done" if m.completed_only else "e.ours", m.depth) for m in reading]
    # Where older folders have 100 items, the ranking may have been longer.
    [counts] = results.query(
        "SELECT "
        + ", ".join(
            f"count(*) FILTER ({of}), count(*) FILTER ({of} AND r.ranked < {depth})"
            for of, depth in counted
        )
        + " FROM scored e JOIN (SELECT attempt_id, arg_max(coalesce(ranked, "
        "CASE WHEN len(ranking) <> 100 THEN len(ranking) END), turn) AS ranked "
        "FROM turns WHERE ranking IS NOT NULL GROUP BY attempt_id) r USING (attempt_id)"
    ).fetchall()
    found = [
        f"{metric.name} ({short:,} of {whole:,})"
        for metric, whole, short in zip(reading, counts[::2], counts[1::2], strict=True)
        if short
    ]
    if not found:
        return []
    return [
        "rankings with fewer items than the metric reads, where a target that is not among them is "
        f"missed: {', '.join(found)}"
    ]
