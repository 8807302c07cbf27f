"""What is started and ended when nodes come and go."""

from collections import Counter
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from runner.commands.nodes import unused_gpus
from runner.placement.elastic import (
    Serving,
    capped,
    main_type,
    of_type,
    replica_changes,
    without_others,
    worker_changes,
)
from workers.backends.core.backend import ClusterNode


def nodes(*gpus, leaving=(), kind="A"):
    return [
        ClusterNode(f"n{i}", count, 8, kind if count else "", f"n{i}" in leaving)
        for i, count in enumerate(gpus)
    ]


def test_every_node_gets_a_worker_and_one_node_alone_gets_two():
    assert worker_changes(nodes(0), {}).start == ["n0", "n0"]
    assert worker_changes(nodes(0, 0, 0), {}).start == ["n0", "n1", "n2"]
    joined = worker_changes(nodes(0, 0), {"a": "n0", "b": "n0"})
    assert joined == (["n1"], [])
    assert worker_changes(nodes(0, 0), {"a": "n0", "b": "n1"}) == ([], [])


def test_workers_of_nodes_that_leave_or_are_gone_end_and_no_other_is_started_there():
    at = {"a": "n0", "b": "n1", "c": "elsewhere"}
    assert worker_changes(nodes(0, 0, 0, leaving=["n1"]), at) == (["n2"], ["b", "c"])
    assert worker_changes(nodes(0, 0, leaving=["n0", "n1"]), at) == ([], [])


NODES = st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=5)


@given(NODES, st.lists(st.integers(0, 6), max_size=8))
def test_after_its_changes_there_is_nothing_left_to_change(given_nodes, places):
    found = [
        ClusterNode(f"n{i}", gpus, 8, "", leaving) for i, (gpus, leaving) in enumerate(given_nodes)
    ]
    workers = {f"w{i}": f"n{place}" for i, place in enumerate(places)}
    changes = worker_changes(found, workers)
    after = {name: node for name, node in workers.items() if name not in changes.end}
    after |= {f"new{i}": node for i, node in enumerate(changes.start)}
    assert worker_changes(found, after) == ([], [])
    stay = {node.node_id for node in found if not node.leaving}
    if stay:
        assert set(after.values()) == stay
        assert len(after) >= 2


def serving(key="e", wanted=None, gpus=1.0, **at):
    return Serving(key, gpus, wanted, {int(name[1:]): node for name, node in at.items()})


def test_replicas_fill_what_is_there_and_follow_nodes_that_join():
    assert replica_changes(nodes(2, 1), [serving(r0="n0")]).start == [("e", "n0"), ("e", "n1")]
    assert replica_changes(nodes(2), [serving(r0="n0", r1="n0")]) == ([], [])


def test_a_replica_goes_to_the_fullest_node_or_to_one_without_its_engine():
    two = [serving(wanted=2, r0="n0")]
    assert replica_changes(nodes(2, 4), two).start == [("e", "n0")]
    assert replica_changes(nodes(2, 4), two, spread=True).start == [("e", "n1")]
    assert replica_changes(nodes(2, 1, 3), two, spread=True).start == [("e", "n2")]


def test_those_with_a_number_come_first_and_what_is_left_is_shared():
    start = replica_changes(
        nodes(6), [serving("auto"), serving("three", 3), serving("other")]
    ).start
    assert Counter(key for key, _ in start) == {"three": 3, "auto": 2, "other": 1}


def test_a_replica_whose_node_is_gone_is_started_elsewhere():
    changes = replica_changes(nodes(2), [serving(wanted=2, r0="n0", r1="gone")])
    assert changes == ([("e", "n0")], [("e", 1)])
    # Without room, the one that is gone is taken out of service all the same.
    assert replica_changes(nodes(1), [serving(wanted=2, r0="n0", r1="gone")]).end == [("e", 1)]


def test_the_last_replica_serves_on_a_node_that_leaves_until_there_is_another():
    leaving = nodes(1, leaving=["n0"])
    assert replica_changes(leaving, [serving(wanted=1, r0="n0")]) == ([], [])
    more = [*leaving, ClusterNode("n1", 1, 8, "A")]
    assert replica_changes(more, [serving(wanted=1, r0="n0")]) == ([("e", "n1")], [("e", 0)])


def test_no_more_gpus_are_held_than_the_sweep_may():
    assert len(replica_changes(nodes(8), [serving(gpus=2.0)], most=5).start) == 2
    assert replica_changes(nodes(8), [serving(r0="n0", r1="n0")], most=2).start == []


def test_a_share_sits_on_one_gpu():
    half = [serving(gpus=0.5, r0="n0"), serving("whole", 1, gpus=1.0)]
    assert Counter(replica_changes(nodes(2), half).start) == {("whole", "n0"): 1, ("e", "n0"): 1}
    third = [serving(gpus=0.7, r0="n0")]
    assert replica_changes(nodes(1), third).start == []


def test_gpus_of_another_type_than_most_are_left_alone():
    first, other, none = ClusterNode("a", 2, 8, "A"), ClusterNode("b", 1, 8, "B"), *nodes(0)
    assert main_type([other, first, none]) == "A"
    assert of_type([first, other, none], "A") == [first, none]
    assert main_type([]) == ""
    assert unused_gpus([first, other, none], mixed=True) == ""
    assert unused_gpus([first, none], mixed=False) == ""
    said = unused_gpus([first, other, none], mixed=False)
    assert "not used: 1 x B" in said
    assert "engines use A" in said
    assert of_type(nodes(2, kind=""), "") == nodes(2, kind="")


def test_a_cap_is_kept_and_what_others_hold_is_not_taken():
    assert [node.gpus for node in capped(nodes(1, 4, 2), 5)] == [0, 4, 1]
    assert [node.gpus for node in capped(nodes(1, 4, 2), None)] == [1, 4, 2]
    left = without_others(nodes(4, 4), {"n0": 1.5, "n1": 4}, {"n0": 1.0})
    assert [node.gpus for node in left] == [2, 4]
    assert [node.gpus for node in without_others(nodes(4), {}, {})] == [0]


@given(
    NODES,
    st.lists(
        st.tuples(st.sampled_from([0.5, 1.0, 2.0]), st.sampled_from([None, 1, 3]),
                  st.lists(st.integers(0, 6), max_size=2)),
        max_size=3,
    ),
    st.sampled_from([None, 1.0, 4.0]),
    st.booleans(),
)  # fmt: skip
def test_in_any_cluster_no_node_gets_more_than_it_has_and_it_settles(
    given_nodes, engines, most, spread
):
    found = [
        ClusterNode(f"n{i}", gpus, 8, "", leaving) for i, (gpus, leaving) in enumerate(given_nodes)
    ]
    asked = [
        Serving(f"e{number}", gpus, wanted, {i: f"n{place}" for i, place in enumerate(places)})
        for number, (gpus, wanted, places) in enumerate(engines)
    ]
    begun = {n.node_id: n.gpus for n in found}
    had = Counter[str]()
    for engine in asked:
        for node in engine.at.values():
            had[node] += engine.gpus
    changes = replica_changes(found, asked, most, spread)
    added = Counter[str]()
    after = []
    for engine in asked:
        at = {i: n for i, n in engine.at.items() if (engine.key, i) not in changes.end}
        for number, (_, node) in enumerate(c for c in changes.start if c[0] == engine.key):
            at[100 + number] = node
            added[node] += engine.gpus
        after.append(replace(engine, at=at))
    for node, gpus in added.items():
        assert had[node] + gpus <= max(begun[node], had[node])
    assert replica_changes(found, after, most, spread).start == []
