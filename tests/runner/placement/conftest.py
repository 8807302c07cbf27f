"""Virtual time for the fleet and what loads its engines."""

from collections.abc import Iterator

import pytest

from runner.driver import engine_loader
from tests import virtual_time
from workers.engines import fleet


@pytest.fixture(scope="module")
def virtual_clock() -> Iterator[None]:
    with virtual_time.clock_of(fleet, engine_loader):
        yield
