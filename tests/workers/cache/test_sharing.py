"""Owner and clients: whatever is lost, killed or cancelled, every call ends once.

Time is virtual, and a call that would wait for ever is an error of the loop.
"""

import asyncio
import functools
import random
from collections import Counter
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.core.calls import Completion
from agents.core.errors import EngineDead, StoreError
from tests import virtual_time
from workers.cache import client as clients
from workers.cache import owner as owners
from workers.cache.client import CallCache, here
from workers.cache.entries import KEY, decode, encode
from workers.cache.owner import CallOwner, Client


@pytest.fixture(autouse=True, scope="module")
def virtual():
    async def in_a_thread(function, *args):
        await asyncio.sleep(0.01)
        return function(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clients, "time", virtual_time.TIME)
        patch.setattr(owners.asyncio, "to_thread", in_a_thread)
        yield


def in_virtual_time(test):
    @functools.wraps(test)
    def wrapped(**fixtures):
        virtual_time.run(test(**fixtures))

    return wrapped


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


@in_virtual_time
async def test_equal_calls_in_the_air_share_one_request_over_all_workers():
    owner, calls = CallOwner(Store()), Calls()
    caches = [CallCache([here(owner)]) for _ in range(3)]
    found = await asyncio.gather(*(asking(cache, calls) for cache in caches * 5))
    assert calls.made == {K: 1}
    assert sorted(reply.cached for reply in found) == [False] + 14 * [True]
    assert {reply.text for reply in found} == {reply_to(K).text}
    again = await asking(caches[0], calls)
    assert again == reply_to(K)._replace(cached=True)
    nothing_is_left(owner)


@in_virtual_time
async def test_a_reply_is_used_only_when_it_is_durable():
    store = Store()
    cache, calls = CallCache([here(CallOwner(store))]), Calls()
    task = asking(cache, calls)
    await asyncio.sleep(1.005)
    assert calls.made[K]
    assert not task.done()
    assert not store.disk
    await task
    assert decode(store.disk[K]) == reply_to(K)._replace(cached=True)


@in_virtual_time
async def test_what_is_put_during_one_write_shares_the_next():
    store = Store()
    cache, calls = CallCache([here(CallOwner(store))]), Calls()
    await asyncio.gather(*(asking(cache, calls, key(n)) for n in range(50)))
    assert store.writes == [50]
    tasks = [asking(cache, calls, key(100 + n), seconds=n / 1000) for n in range(50)]
    await asyncio.gather(*tasks)
    assert sum(store.writes) == 100
    assert len(store.writes) <= 1 + 50 // 10 + 2


@in_virtual_time
async def test_after_a_call_that_failed_the_next_in_line_makes_it():
    owner, calls = CallOwner(Store()), Calls()
    cache, other = CallCache([here(owner)]), CallCache([here(owner)])
    failing = asking(cache, calls, error=EngineDead("gone"))
    await asyncio.sleep(0.5)
    waiting = [asking(other, calls), asking(cache, calls)]
    with pytest.raises(EngineDead):
        await failing
    found = await asyncio.gather(*waiting)
    assert sorted(reply.cached for reply in found) == [False, True]
    nothing_is_left(owner)


@pytest.mark.parametrize("steps", range(8))
def test_a_claim_that_is_cancelled_at_any_step_leaves_the_call_to_others(steps):
    async def go():
        owner, calls = CallOwner(Store()), Calls()
        cache, other = CallCache([here(owner)]), CallCache([here(owner)])
        cancelled = asking(cache, calls)
        for _ in range(steps):
            await asyncio.sleep(0)
        cancelled.cancel()
        with suppress(asyncio.CancelledError):
            await cancelled
        assert not (await asking(other, calls)).cached
        nothing_is_left(owner)

    virtual_time.run(go())


@in_virtual_time
async def test_a_put_that_is_cancelled_is_kept_all_the_same():
    owner, calls = CallOwner(Store()), Calls()
    cache = CallCache([here(owner)])
    task = asking(cache, calls)
    await asyncio.sleep(1.005)
    task.cancel()
    assert (await asking(cache, calls)).cached
    nothing_is_left(owner)


@in_virtual_time
async def test_one_that_cannot_be_kept_is_given_up():
    owner, calls = CallOwner(Store()), Calls()
    cache = CallCache([here(owner)])

    async def odd():
        return Completion(object(), "stop")  # type: ignore[arg-type]

    with pytest.raises(TypeError):
        await cache.reply(K, None, odd)
    await asking(cache, calls)
    nothing_is_left(owner)


@in_virtual_time
async def test_what_was_made_is_not_made_again_when_its_maker_is_lost_before_it_is_durable():
    owner = CallOwner(Store())
    answers = []
    maker = Client(lambda number, answer: answers.append(("maker", answer)), b"m")
    other = Client(lambda number, answer: answers.append(("other", answer)), b"o")
    owner.take(maker, [owners.Claim(1, K, None)])
    owner.take(other, [owners.Claim(1, K, None)])
    owner.take(maker, [owners.Put(2, K, encode(reply_to(K)))])
    owner.leave(maker)
    await asyncio.sleep(1)
    assert answers == [("maker", "yours"), ("maker", "stored"), ("other", encode(reply_to(K)))]
    nothing_is_left(owner)


@in_virtual_time
async def test_whoever_comes_back_on_a_new_line_goes_on_with_what_it_was_making():
    owner = CallOwner(Store())
    answers = []
    lines = [Client(lambda number, answer, n=n: answers.append((n, answer))) for n in range(3)]
    hello = owners.Hello(b"a", False, ())
    owner.take(lines[0], [hello, owners.Claim(1, K, None), owners.Claim(2, key(2), None)])
    owner.take(lines[2], [owners.Hello(b"b", False, ()), owners.Claim(1, K, None)])
    owner.take(lines[2], [owners.Claim(2, key(2), None)])
    answers.clear()
    owner.take(lines[1], [owners.Hello(b"a", True, (K,))])  # the answer for key 2 was lost
    assert answers == [(2, "yours")]
    owner.lose(lines[0])  # it is heard of late
    await asyncio.sleep(60)
    assert answers == [(2, "yours")]
    owner.take(lines[1], [owners.Put(3, K, b"data")])
    await asyncio.sleep(1)
    assert answers[1:] == [(1, "stored"), (2, b"data")]


@in_virtual_time
async def test_what_a_lost_worker_was_making_is_made_by_the_next_after_a_while():
    owner, calls = CallOwner(Store()), Calls()
    dead = Client(lambda number, answer: None, b"d")
    owner.take(dead, [owners.Claim(1, K, None)])
    waiting = asking(CallCache([here(owner)]), calls)
    await asyncio.sleep(1)
    owner.lose(dead)
    await waiting
    assert 5 <= asyncio.get_running_loop().time() <= 8
    nothing_is_left(owner)


@in_virtual_time
async def test_when_nothing_can_be_kept_everybody_is_told_and_nothing_more_is_made():
    store = Store()
    owner, calls = CallOwner(store), Calls()
    cache, other = CallCache([here(owner)]), CallCache([here(owner)])
    await asking(cache, calls, key(7))
    store.error = StoreError("the disk is full")
    tasks = [asking(cache, calls), asking(other, calls), asking(other, calls, key(2))]
    for error in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(error, StoreError)
    calls.made.clear()
    with pytest.raises(StoreError, match="disk is full"):
        await asking(cache, calls, key(3))
    assert (await asking(cache, calls, key(7))).cached
    assert not calls.made
    nothing_is_left(owner)


@in_virtual_time
async def test_a_fault_of_a_library_ends_in_an_error_too():
    store = Store()
    store.error = ValueError("odd")
    with pytest.raises(StoreError, match="odd"):
        await asking(CallCache([here(CallOwner(store))]), Calls())


@in_virtual_time
async def test_an_owner_that_never_comes_back_is_an_error_after_ten_minutes():
    async def nobody(listener):
        raise OSError("nobody is there")

    cache, calls = CallCache([nobody]), Calls()
    with pytest.raises(StoreError, match="nobody is there"):
        await asking(cache, calls)
    assert 600 <= asyncio.get_running_loop().time() <= 601
    with pytest.raises(StoreError):  # and the next one tries anew
        await asking(cache, calls)


@in_virtual_time
async def test_an_owner_that_can_never_start_is_an_error_at_once():
    async def broken(listener):
        raise StoreError("cannot write the journal")

    with pytest.raises(StoreError, match="the journal"):
        await asking(CallCache([broken]), Calls())
    assert asyncio.get_running_loop().time() < 1


@in_virtual_time
async def test_an_entry_that_is_none_is_made_again_and_replaced(caplog):
    store = Store({K: b"nonsense"})
    cache, calls = CallCache([here(CallOwner(store))]), Calls()
    assert not (await asking(cache, calls)).cached
    assert f"the call {K.hex()} is made again" in caplog.text
    assert (await asking(cache, calls)).cached
    strict = CallCache([here(CallOwner(Store({K: b"nonsense"})))])
    assert not (await asking(strict, calls, accepted=frozenset("f"))).cached


@in_virtual_time
async def test_strict_takes_no_reply_of_what_does_not_serve_now():
    owner, calls = CallOwner(Store({K: encode(reply_to(K)._replace(fingerprint="old"))})), Calls()
    cache = CallCache([here(owner)])
    assert (await asking(cache, calls)).fingerprint == "old"
    both = [asking(cache, calls, accepted=frozenset("f")) for _ in range(2)]
    assert [(r.fingerprint, r.cached) for r in await asyncio.gather(*both)] == [
        ("f", False),
        ("f", True),
    ]
    one = asking(cache, calls, accepted=frozenset("x"))
    two = asking(cache, calls, accepted=frozenset("x"))
    assert not (await one).cached  # what it makes itself it takes
    assert not (await two).cached
    nothing_is_left(owner)


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
        self.cut(told=False)

    def cut(self, told=True):
        if not self.open:
            return
        self.open = False
        loop, chance = asyncio.get_running_loop(), self.network.chance
        if told:
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
            raise OSError("nobody is there")
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
        """Nothing that it does as it dies reaches anybody."""
        for line in self.network.house.lines:
            if line.listener in self.cache._links:
                line.cut(told=False)
        self.cache._links[0]._line = None
        self.cache.close()
        for task in self.tasks:
            task.cancel()


async def rough_weather(seed):
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
def test_in_rough_weather_no_call_is_made_twice_at_once_and_nobody_waits_for_ever(seed):
    virtual_time.run(rough_weather(seed))
