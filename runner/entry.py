"""The first code that runs: is this crsweep made of its own packages? Then the command line."""

from __future__ import annotations

import importlib.util
import sys
from importlib import metadata
from pathlib import Path

INTERRUPTED = 130
"""The exit code of what Ctrl-C ends before it has anything to say, as in shells."""
PACKAGES = ("agents", "simulators", "sweeps", "workers", "analysis", "runner")


def shadowed(root: Path) -> str | None:
    """A message if one of the six packages would be imported from elsewhere than `root`.

    Names such as `agents` are common; a library that ships one must not replace ours unseen.
    """
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        origin = Path(spec.origin).resolve() if spec and spec.origin else None
        if origin is not None and origin.is_relative_to(root / name):
            continue
        owners = metadata.packages_distributions().get(name, [])
        others = [owner for owner in owners if owner != "crsweep"]
        blame = f" (installed by {', '.join(others)})" if others else ""
        return (
            f"the package {name!r} comes from {origin or 'nowhere'}{blame}, not from {root}; "
            "install crsweep in its own virtual environment"
        )
    return None


def main() -> None:
    """The console script `crsweep`, and `python -m runner`."""
    problem = shadowed(Path(__file__).resolve().parent.parent)
    if problem is not None:
        print(f"error: {problem}", file=sys.stderr)
        raise SystemExit(2)
    try:
        from runner.cli import main as command_line

        raise SystemExit(command_line(sys.argv[1:]))
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
