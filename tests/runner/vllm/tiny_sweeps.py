"""Small sweeps of tiny models on a real vLLM, and what their runs leave behind."""

import json
import re

from tests.runner.processes import below, wait_for
from tests.runner.reading import raw
from tests.sweep_files import write_sweep
from workers.cache import journal


def tiny(models, family="llama", **options):
    return {
        "backend": "vllm",
        "model": models[family],
        "max_model_len": 4096,
        "max_inflight": 32,
        "sampling": {"temperature": 0.7, "max_tokens": 600},
        **options,
    }


def small_sweep(folder, checkpoints, *, cases=4, turns=2, **changes):
    """One agent and one user on one tiny Llama. One worker is enough if its death does not matter.

    Each more costs its start.
    """
    folder.mkdir(exist_ok=True)
    settings = {
        "models": {"tiny": tiny(checkpoints)},
        "roles": {"user": "tiny", "agent": "tiny"},
        "grid": {"agent": ["zero_shot"], "seed": [0]},
        "domain": {"name": "synthetic", "items": 120, "users": 5000},
        "cases": {"sample": cases},
        "limits": {"max_turns": turns, "shown_items": 3},
        "cache": {"path": str(folder / "cache")},  # what another test has paid for must not help
        "run": {"executor": "ray", "episode_workers": 1, "concurrency": 24},
        **changes,
    }
    return write_sweep(folder, **settings)


def committed(out):
    return len(raw(out, "episodes")) if list((out / "episodes").glob("*.parquet")) else 0


def wait_for_episodes(process, out):
    """Until the first are committed; the run is in full swing then."""
    wait_for(lambda: committed(out), process, "the first episodes")


def answered(out):
    """How many calls were answered so far, committed or not."""
    return sum(sum(1 for _ in journal.read(file)) for file in journal.files(out))


def ready(process, out, model, times=1):
    """The pid of the model's newest replica, once one has come up for that many `times`."""

    def there():
        log = out / "logs" / "000001-driver.log"
        text = log.read_text() if log.exists() else ""
        found = re.findall(rf"{model}, replica \d is ready, pid (\d+)", text)
        return found if len(found) >= times else []

    return int(wait_for(there, process, f"{model} to come up")[-1])


def wait_for_calls(process, out):
    """Until more calls are answered than so far."""
    before = answered(out)
    wait_for(lambda: answered(out) > before, process, "calls")


def engine_of(process, replica):
    # Looked for again: where another process ends during a look, the look is cut short.
    found = wait_for(
        lambda: [each for each in below(process, "VLLM::EngineCore") if each.ppid() == replica],
        process,
        f"the engine of the replica {replica}",
    )
    [engine] = found
    return engine


def manifest(out):
    return json.loads((out / "manifest.json").read_text())
