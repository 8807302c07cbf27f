"""Virtual time for owners and clients."""

import asyncio
from collections.abc import Iterator

import pytest

from tests import virtual_time
from workers.cache import client, owner


@pytest.fixture(scope="module")
def virtual_clock() -> Iterator[None]:
    """Clients read the loop's virtual time, and a write of the owner takes 10 ms of it."""

    async def in_a_thread(function, *args):
        await asyncio.sleep(0.01)
        return function(*args)

    with virtual_time.clock_of(client) as patch:
        patch.setattr(owner.asyncio, "to_thread", in_a_thread)
        yield
