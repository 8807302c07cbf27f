"""Random cuts, kills and restarts: no call is made twice at once, and every call ends.

Time is virtual, and a call that would wait forever is an error of the loop.
"""

import asyncio
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.core.errors import EngineDead
from tests import virtual_time
from tests.workers.cache.shared_calls import Calls, Store, asking, key, nothing_is_left
from workers.cache.client import CallCache
from workers.cache.entries import decode
from workers.cache.owner import CallOwner, Client

pytestmark = pytest.mark.usefixtures("virtual_clock")


class Line:
    """A way to an owner through a network: everything takes time, and what is on its way is lost
    with it. Either side may hear of that later than the other."""

    def __init__(self, network, house, listener):
        self.network, self.house, self.listener = network, house, listener
        self.open = True
        self.client = Client(lambda number, answer: self._go(self._to_client, (number, answer)))
        self._clocks = {}

    def send(self, message):
        self._go(self._to_owner, message)

    def close(self):
        self.cut(heard=False)

    def cut(self, heard=True):
        if not self.open:
            return
        self.open = False
        loop, chance = asyncio.get_running_loop(), self.network.chance
        if heard:
            loop.call_later(chance.random() * 2, self.listener.lost, "cut")
        loop.call_later(chance.choice([0, 1, 20]) * chance.random(), self._tell_owner)

    def _tell_owner(self):
        if self.house.alive:
            self.house.owner.lose(self.client)

    def _go(self, deliver, what):
        """In order, each after some time of its own."""
        loop = asyncio.get_running_loop()
        due = max(self._clocks.get(deliver, 0.0), loop.time() + self.network.chance.random() / 50)
        self._clocks[deliver] = due + 1e-6
        loop.call_at(due, deliver, what)

    def _to_client(self, what):
        if self.open:
            self.listener.receive([what])

    def _to_owner(self, what):
        if self.open and self.house.alive:
            self.house.owner.take(self.client, [what])


class House:
    """One incarnation of an owner."""

    def __init__(self, network, disk, clients):
        self.alive = True
        self.store = Store(disk)
        self.owner = CallOwner(self.store, clients)
        self.lines = []

    def kill(self):
        self.alive = self.store.alive = False
        for line in self.lines:
            line.cut()


class Network:
    def __init__(self, chance, workers):
        self.chance, self.workers = chance, workers
        self.disk = {}
        self.house = House(self, self.disk, 0)

    async def dial(self, listener):
        await asyncio.sleep(self.chance.random() / 2)
        if not self.house.alive:
            raise OSError("no listener")
        line = Line(self, self.house, listener)
        self.house.lines.append(line)
        return line

    async def restart(self):
        self.house.kill()
        await asyncio.sleep(self.chance.random() * 3)
        self.house = House(self, self.disk, self.workers)


class Worker:
    """Some dialogues that ask for a few keys over and over, each sure that its reply is kept."""

    def __init__(self, network, calls):
        self.network, self.calls = network, calls
        self.cache = CallCache([network.dial])
        self.tasks = [asyncio.create_task(self._ask()) for _ in range(4)]

    async def _ask(self):
        chance = self.network.chance
        for _ in range(10):
            which = key(chance.randrange(12))
            how = {"seconds": chance.choice([0.0, 0.1, 3.0, 40.0])}
            if chance.random() < 0.2:
                how["error"] = EngineDead("chance")
            ask = asking(self.cache, self.calls, which, **how)
            if chance.random() < 0.15:
                asyncio.get_running_loop().call_later(chance.random() * 3, ask.cancel)
            try:
                await asyncio.wait((ask,))
            except asyncio.CancelledError:
                ask.cancel()
                raise
            if ask.cancelled() or isinstance(ask.exception(), EngineDead):
                continue
            used = ask.result()._replace(cached=True)
            assert decode(self.network.disk[which]) == used
            await asyncio.sleep(chance.choice([0.0, 0.2]))

    def kill(self):
        """Nothing that it does as it dies reaches a client."""
        for line in self.network.house.lines:
            if line.listener in self.cache._links:
                line.cut(heard=False)
        self.cache._links[0]._line = None
        self.cache.close()
        for task in self.tasks:
            task.cancel()


async def random_failures(seed):
    chance = random.Random(seed)
    count = chance.randint(1, 4)
    network, calls = Network(chance, count), Calls()
    workers = [Worker(network, calls) for _ in range(count)]

    async def weather():
        for _ in range(chance.randint(0, 5)):
            await asyncio.sleep(chance.random() * 6)
            what = chance.random()
            if what < 0.4:
                await network.restart()
                if chance.random() < 0.4:  # twice, at once or soon
                    await asyncio.sleep(chance.choice([0, 0.3, 4]))
                    await network.restart()
            elif what < 0.7 and network.house.lines:
                chance.choice(network.house.lines).cut()
            else:
                workers.pop(chance.randrange(len(workers))).kill()
                workers.append(Worker(network, calls))

    await weather()
    await asyncio.gather(*(task for worker in workers for task in worker.tasks))
    await asyncio.sleep(60)
    for which, data in network.disk.items():
        assert decode(data).text.startswith(repr(which))
    nothing_is_left(network.house.owner)
    for worker in workers:
        assert not worker.cache._links[0]._asked
        assert not worker.cache._links[0]._making


@settings(max_examples=300)
@given(st.integers(0, 2**32))
def test_under_random_failures_no_call_is_in_flight_twice_and_no_client_waits_forever(seed):
    virtual_time.run(random_failures(seed))
