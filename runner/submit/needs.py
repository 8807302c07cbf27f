"""Which extras of crsweep the nodes of a cluster need for a sweep."""

from __future__ import annotations

from typing import Any

from agents.core import plugins
from agents.recommenders.core import RECOMMENDERS
from sweeps.load import LoadedSweep


def extras_of(loaded: LoadedSweep) -> list[str]:
    """The extras that a sweep needs, `cluster` first."""
    backends = {str(spec.get("backend")) for spec in loaded.cell.get("models", {}).values()}
    wanted = {
        "s3": str(loaded.recorded["out"]).startswith("s3://"),
        "train": _trains(loaded.recorded),
        "vllm": "vllm" in backends,
    }
    return ["cluster", *(extra for extra, needed in wanted.items() if needed)]


def _trains(part: Any) -> bool:
    """Whether a part of a sweep names a recommender whose training needs torch."""
    if isinstance(part, dict):
        return any(_trains(each) for each in part.values())
    if isinstance(part, list):
        return any(_trains(each) for each in part)
    if part not in plugins.names(RECOMMENDERS):
        return False
    return "torch" in getattr(plugins.load(RECOMMENDERS, part, "recommender"), "packages", ())
