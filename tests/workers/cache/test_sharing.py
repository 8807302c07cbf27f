"""Owner and clients: whatever is lost, killed or cancelled, every call ends once.

Time is virtual, and a call that would wait forever is an error of the loop.
"""

import asyncio
from contextlib import suppress

import pytest

from agents.core.calls import Completion
from agents.core.errors import EngineDead, StoreError
from tests import virtual_time
from tests.virtual_time import in_virtual_time
from tests.workers.cache.shared_calls import (
    Calls,
    K,
    Store,
    asking,
    key,
    nothing_is_left,
    reply_to,
)
from workers.cache import owner as owners
from workers.cache.client import CallCache, in_process
from workers.cache.entries import decode, encode
from workers.cache.owner import CallOwner, Client

pytestmark = pytest.mark.usefixtures("virtual_clock")


@in_virtual_time
async def test_equal_calls_in_flight_share_one_request_over_all_workers():
    owner, calls = CallOwner(Store()), Calls()
    caches = [CallCache([in_process(owner)]) for _ in range(3)]
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
    cache, calls = CallCache([in_process(CallOwner(store))]), Calls()
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
    cache, calls = CallCache([in_process(CallOwner(store))]), Calls()
    await asyncio.gather(*(asking(cache, calls, key(n)) for n in range(50)))
    assert store.writes == [50]
    tasks = [asking(cache, calls, key(100 + n), seconds=n / 1000) for n in range(50)]
    await asyncio.gather(*tasks)
    assert sum(store.writes) == 100
    assert len(store.writes) <= 1 + 50 // 10 + 2


@in_virtual_time
async def test_after_a_call_that_failed_the_next_in_line_makes_it():
    owner, calls = CallOwner(Store()), Calls()
    cache, other = CallCache([in_process(owner)]), CallCache([in_process(owner)])
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
        cache, other = CallCache([in_process(owner)]), CallCache([in_process(owner)])
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
    cache = CallCache([in_process(owner)])
    task = asking(cache, calls)
    await asyncio.sleep(1.005)
    task.cancel()
    assert (await asking(cache, calls)).cached
    nothing_is_left(owner)


@in_virtual_time
async def test_a_call_whose_reply_cannot_be_kept_is_given_up():
    owner, calls = CallOwner(Store()), Calls()
    cache = CallCache([in_process(owner)])

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
async def test_a_client_that_returns_on_a_new_line_continues_what_it_was_making():
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
    waiting = asking(CallCache([in_process(owner)]), calls)
    await asyncio.sleep(1)
    owner.lose(dead)
    await waiting
    assert 5 <= asyncio.get_running_loop().time() <= 8
    nothing_is_left(owner)


@in_virtual_time
async def test_after_a_failed_write_all_waiting_calls_fail_and_no_more_are_made():
    store = Store()
    owner, calls = CallOwner(store), Calls()
    cache, other = CallCache([in_process(owner)]), CallCache([in_process(owner)])
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
        await asking(CallCache([in_process(CallOwner(store))]), Calls())


@in_virtual_time
async def test_an_owner_that_never_comes_back_is_an_error_after_ten_minutes():
    async def unreachable(listener):
        raise OSError("no listener")

    cache, calls = CallCache([unreachable]), Calls()
    with pytest.raises(StoreError, match="no listener"):
        await asking(cache, calls)
    assert 600 <= asyncio.get_running_loop().time() <= 601
    with pytest.raises(StoreError):  # and the next one tries again
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
    cache, calls = CallCache([in_process(CallOwner(store))]), Calls()
    assert not (await asking(cache, calls)).cached
    assert f"the call {K.hex()} is made again" in caplog.text
    assert (await asking(cache, calls)).cached
    strict = CallCache([in_process(CallOwner(Store({K: b"nonsense"})))])
    assert not (await asking(strict, calls, accepted=frozenset("f"))).cached


@in_virtual_time
async def test_strict_takes_no_reply_of_what_does_not_serve_now():
    owner, calls = CallOwner(Store({K: encode(reply_to(K)._replace(fingerprint="old"))})), Calls()
    cache = CallCache([in_process(owner)])
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
