"""Virtual time for the fleet and what loads its engines."""

from collections.abc import Iterator

import pytest

from runner.driver import engine_loader
from tests import virtual_time
from workers.engines import fleet


@pytest.fixture(scope="module")
def virtual_clock() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fleet, "time", virtual_time.TIME)
        patch.setattr(engine_loader, "time", virtual_time.TIME)
        yield
