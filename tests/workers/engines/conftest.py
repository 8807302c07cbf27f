"""Virtual time for what runs in the driver and its workers."""

from collections.abc import Iterator

import pytest

from tests import virtual_time
from workers.engines import clients, fleet


@pytest.fixture(scope="module")
def virtual_clock() -> Iterator[None]:
    """Clients and the fleet read the loop's virtual time."""
    with virtual_time.clock_of(clients, fleet):
        yield
