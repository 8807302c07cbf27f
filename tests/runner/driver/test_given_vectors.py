"""A sweep whose dense retriever has the items' vectors from a file."""

import hashlib

import numpy as np
import pytest

from agents.core.calls import REHEARSED_WIDTH
from tests.sweep_files import plan_of, write_sweep


def sweep(folder, width, sha256=None):
    """Dialogues of `pc_crs`, with a file of vectors of this width for the synthetic catalogue."""
    domain = plan_of(write_sweep(folder)).sources[0].domain
    ids = [item.id for item in domain.catalogue.items]
    file = folder / f"{width}.npz"
    rng = np.random.default_rng(0)
    np.savez(file, item_ids=np.array(ids), items=rng.standard_normal((len(ids), width)))
    digest = sha256 or hashlib.sha256(file.read_bytes()).hexdigest()
    vectors = {"path": str(file), "sha256": digest}
    agent = {"name": "pc_crs", "rounds": 0, "retriever": "dense", "vectors": vectors}
    return write_sweep(
        folder,
        roles={"user": "strong", "agent": "strong"},
        grid={"agent": [agent], "seed": [0]},
        cases={"sample": 2},
        limits={"max_turns": 2},
        artifacts={"path": str(folder / "store")},
    )


@pytest.mark.parametrize(
    ("width", "sha256", "code", "said"),
    [
        (REHEARSED_WIDTH, None, 0, ["2 episodes (0 failed)"]),
        (3, None, 3, [f"embeds queries in {REHEARSED_WIDTH} dimensions", "the items have 3"]),
        (3, "0" * 64, 2, ["3.npz: found a file with the SHA-256", f"expected {'0' * 64}"]),
    ],
)
def test_a_run_reads_the_file_and_stops_if_it_does_not_fit(
    tmp_path, crsweep, width, sha256, code, said
):
    done = crsweep("run", sweep(tmp_path, width, sha256), check=code)
    for words in said:
        assert words in done.stdout + done.stderr
