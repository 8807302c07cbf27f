"""How runs with real engines end, and what is gone then."""

import signal

import pytest

from tests.runner.processes import assert_gone, below, end_of, wait_for
from tests.runner.vllm.tiny_sweeps import manifest, small_sweep, wait_for_episodes

pytestmark = [pytest.mark.vllm, pytest.mark.ray]


@pytest.mark.parametrize("end", ["raylet", "ctrl-c", "local driver"])
def test_no_engine_process_and_no_socket_is_left_behind(tmp_path, models, end, start, sockets):
    """What a killed driver leaves to Ray ends as a killed replica does: see test_faults.py."""
    local = end == "local driver"
    run = {"executor": "local" if local else "ray", "episode_workers": 1, "concurrency": 8}
    path = small_sweep(tmp_path / "a", models, cases=2000, run=run)
    process, out = start(path), path.parent / "out"
    wait_for_episodes(process, out)
    wait_for(lambda: below(process, "VLLM::"), process, "an engine")
    engines, replicas = (below(process, words) for words in ("VLLM::", "ModelReplica"))
    started = [*engines, *replicas, *below(process, "EpisodeWorker")]
    assert len(engines) >= 1
    if not local:
        assert len(replicas) == 1
        assert len(started) == len(engines) + 2
    if end == "ctrl-c":
        process.send_signal(signal.SIGINT)
    elif end == "raylet":
        below(process, "raylet/raylet")[0].kill()
    else:
        process.kill()
    printed = end_of(process)
    assert_gone(started)
    assert local or manifest(out)["engines"][0]["fingerprints"], (
        "calls whose fingerprint nothing explains"
    )
    assert process.returncode == {"ctrl-c": 3, "local driver": -9, "raylet": 3}[end], printed
    assert "Traceback" not in printed
    assert list(sockets.iterdir()) == []
