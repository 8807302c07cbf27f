"""Clients of replicas within one process, and a driver that restarts the replicas."""

import asyncio

from tests.workers.engines.connections import Replica, dial, request
from workers.core import retry
from workers.engines.clients import EngineClient, EngineView


def client_of(*replicas, room=4):
    client = EngineClient("tiny", room, dial)
    client.update(EngineView(tuple(replica.ref for replica in replicas)))
    return client


def retrying(call, transient):
    return retry.retrying(call, transient, retry.Throttle(60))


def asking(client, words, route=None):
    return asyncio.create_task(client.ask(route or words, request(words)))


def view(*replicas, failed=""):
    return EngineView(tuple(replica.ref for replica in replicas), failed)


class Driver:
    """Starts a replica again `down` seconds after it died, and informs the clients."""

    def __init__(self, clients, count, down=5.0, **options):
        self.clients, self.down, self.options = clients, down, options
        self.deaths = 0
        self.replicas = [Replica(f"{i}.0", i, **options) for i in range(count)]
        self._tell()

    async def run(self):
        while True:
            await asyncio.sleep(1)
            for at, replica in enumerate(self.replicas):
                if replica is not None and replica.cause:
                    self.replicas[at] = None
                    self.deaths += 1
                    asyncio.get_running_loop().call_later(self.down, self._start, at)
            self._tell()

    def up(self):
        return [each for each in self.replicas if each is not None and not each.cause]

    def forget(self, client):
        self.clients = [each for each in self.clients if each is not client]

    def _start(self, at):
        self.replicas[at] = Replica(f"{at}.{self.deaths}", at, **self.options)
        self._tell()

    def _tell(self):
        for client in self.clients:
            client.update(view(*(r for r in self.replicas if r is not None)))
