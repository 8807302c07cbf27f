"""Two thousand episodes under fire: each exactly once, nothing paid twice without a kill."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.chaos.storm import KILLS, storm


@pytest.mark.ray
def test_nothing_is_lost_and_nothing_paid_twice(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(1_000_000)
    found = storm(tmp_path, episodes=2000, seed=seed)
    assert found["episodes"] == 2000
    assert found["kills"] == len(KILLS)
    assert found["failed"] >= 10  # the broken users of one case in a hundred
    assert found["drivers"] >= 3
