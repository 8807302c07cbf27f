"""The first code that runs. Checks that crsweep consists of its own packages, then starts the
command line."""

from __future__ import annotations

import importlib.util
import os
import sys
from contextlib import suppress
from importlib import metadata
from pathlib import Path

from runner.core.exit_codes import ExitCode
from runner.core.sent import altered

PACKAGES = ("agents", "simulators", "sweeps", "workers", "analysis", "runner")


def shadowing_error(root: Path) -> str | None:
    """A message if one of the six packages would be imported from outside `root`.

    Names such as `agents` are common, and a library that installs one must not silently replace
    ours.
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
            f"the package {name!r} comes from {origin or 'elsewhere'}{blame}, not from {root}; "
            "install crsweep in its own virtual environment"
        )
    return None


def add_working_folder() -> None:
    """Lets Python find plug-ins in the working folder, after everything else that it finds.

    `python -m runner` does so by itself, and Ray passes the working folder to its workers.
    """
    with suppress(FileNotFoundError):  # the folder was deleted
        here = str(Path.cwd())
        if here not in sys.path and "" not in sys.path:
            sys.path.append(here)


def open_standard_streams() -> None:
    """Opens /dev/null in place of closed standard streams (`>&-`, some schedulers).

    Otherwise the next opened file would take their number, and libraries would write to it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            os.set_inheritable(number, True)
    for number, (name, mode) in enumerate([("stdin", "r"), ("stdout", "w"), ("stderr", "w")]):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))


def main() -> None:
    """The console script `crsweep`, and `python -m runner`."""
    open_standard_streams()
    problem = shadowing_error(Path(__file__).resolve().parent.parent) or altered()
    if problem is not None:
        print(f"error: {problem}", file=sys.stderr)
        raise SystemExit(ExitCode.BAD_INPUT)
    add_working_folder()
    try:
        from runner.cli.main import main as command_line

        raise SystemExit(command_line(sys.argv[1:]))
    except KeyboardInterrupt:
        raise SystemExit(ExitCode.INTERRUPTED) from None
