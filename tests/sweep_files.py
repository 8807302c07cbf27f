"""Small sweeps for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from sweeps.load import load
from sweeps.plan import Plan, make_plan
from workers.models import declare

BASE: dict[str, Any] = {
    "name": "small",
    "domain": {"name": "synthetic", "items": 120, "users": 60, "history": 8},
    "cases": {"sample": 4},
    "models": {
        "strong": {"backend": "rules", "skill": 0.9, "knowledge": 0.8},
        "weak": {"backend": "rules", "skill": 0.5, "knowledge": 0.4},
    },
    "roles": {"user": "strong"},
    "grid": {
        "agent": ["zero_shot", {"name": "react", "max_thoughts": 2}],
        "roles.agent": ["strong", "weak"],
        "seed": [0, 1],
    },
    "run": {"executor": "local", "concurrency": 4},
}


def write_sweep(folder: Path, *, name: str = "sweep.yaml", **changes: Any) -> Path:
    """A sweep file in `folder` that writes to `folder/out`; `changes` replace whole keys."""
    data = {**BASE, "out": str(folder / "out"), **changes}
    path = folder / name
    path.write_text(yaml.safe_dump({k: v for k, v in data.items() if v is not None}))
    return path


def plan_of(path: Path, *overrides: str, probe: bool = False, **given: Any) -> Plan:
    return make_plan(load(path, overrides), declare, probe=probe, **given)
