"""A store of dicts, and calls that are never made twice at once."""

import asyncio
from collections import Counter

from agents.core.calls import Completion
from workers.cache.entries import KEY


class Store:
    """A `CallStore` of dicts. `disk` outlives it."""

    def __init__(self, disk=None):
        self.disk = {} if disk is None else disk
        self.known = dict(self.disk)
        self.alive = True
        self.error = None
        self.writes = []

    def find(self, keys):
        return {key: self.known[key] for key in keys if key in self.known}

    def write(self, entries):
        if self.error:
            raise self.error
        if self.alive:
            self.writes.append(len(entries))
            self.disk.update(entries)

    def index(self, entries):
        assert all(self.disk.get(key) for key, _ in entries)
        self.known.update(entries)


class Calls:
    """Makes calls, and watches that no two make the same at once."""

    def __init__(self, seconds=1.0):
        self.seconds = seconds
        self.now = Counter()
        self.made = Counter()

    def maker(self, key, seconds=None, error=None):
        async def make():
            assert not self.now[key], f"{key!r} is made twice at once"
            self.now[key] += 1
            try:
                await asyncio.sleep(self.seconds if seconds is None else seconds)
            finally:
                self.now[key] -= 1
            if error is not None:
                raise error
            self.made[key] += 1
            return reply_to(key, self.made[key])

        return make


def reply_to(key, time=1):
    return Completion(f"{key!r} {time}", "stop", 3, 2, fingerprint="f")


def key(number):
    return number.to_bytes(KEY, "little")


K = key(1)


def asking(cache, calls, which=K, accepted=None, **how):
    return asyncio.create_task(cache.reply(which, accepted, calls.maker(which, **how)))


def nothing_is_left(owner):
    assert not owner._maker
    assert not owner._waiting
    assert not owner._made
    assert not owner._held
    assert not any(client.making for client in owner._clients.values())
