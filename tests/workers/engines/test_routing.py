"""Routing: dialogues stay where they are, and no replica gets more than its share."""

import math

from hypothesis import given
from hypothesis import strategies as st

from workers.engines.routing import _LEAST, _SLACK, Ring, choose

REPLICAS = st.sets(st.integers(0, 20), min_size=1, max_size=8)


@given(REPLICAS, st.text())
def test_an_order_names_every_replica_once_and_is_always_the_same(replicas, key):
    order = Ring(replicas).order(key)
    assert sorted(order) == sorted(replicas)
    assert Ring(sorted(replicas, reverse=True)).order(key) == order


@given(REPLICAS, st.data(), st.text())
def test_when_a_replica_leaves_only_its_own_keys_move(replicas, data, key):
    gone = data.draw(st.sampled_from(sorted(replicas)))
    before = Ring(replicas).order(key)
    assert Ring(replicas - {gone}).order(key) == [r for r in before if r != gone]


def test_shares_are_even():
    ring = Ring(range(4))
    first = [ring.order(f"{seed}/u{case}")[0] for seed in range(4) for case in range(1000)]
    assert all(700 < first.count(replica) < 1300 for replica in range(4))


@given(st.lists(st.integers(0, 40), min_size=1, max_size=8), st.integers(1, 40))
def test_a_call_goes_where_there_is_room_and_waits_only_if_all_are_full(loads, room):
    found = choose(range(len(loads)), loads.__getitem__, room)
    if found is None:
        assert min(loads) >= room
    else:
        assert loads[found] < room
        share = _SLACK * (sum(loads) + 1) / len(loads)
        assert loads[found] + 1 <= max(_LEAST, math.ceil(share))


@given(st.integers(1, 6), st.integers(1, 12),
       st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=200))  # fmt: skip
def test_loads_stay_bounded_whatever_comes_and_goes(size, room, events):
    ring, inside = Ring(range(size)), []
    for key, comes in events:
        if not comes and inside:
            inside.pop(key % len(inside))
            continue
        found = choose(ring.order(f"k{key}"), inside.count, room)
        assert (found is None) == (len(inside) == room * size)
        inside += [] if found is None else [found]
        assert all(inside.count(replica) <= room for replica in range(size))


def test_equal_keys_meet_until_their_replica_is_loaded_above_its_share():
    ring, loads = Ring(range(4)), [0] * 4
    first, second = ring.order("0/u1")[:2]
    for _ in range(_LEAST):
        found = choose(ring.order("0/u1"), loads.__getitem__, 100)
        assert found == first
        loads[first] += 1
    assert choose(ring.order("0/u1"), loads.__getitem__, 100) == second
