"""The placement: there is room for what is resident, loads are few, misfits truly do not fit."""

import itertools
import random
from collections import Counter, deque
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.placement.packing import Node, PlacementEngine
from runner.placement.place import place


def engines(count, gpus=None, replicas=None):
    return [
        PlacementEngine(f"e{i}", f"m{i}", replicas[i] if replicas else 1, gpus[i] if gpus else 1)
        for i in range(count)
    ]


def demands(sets):
    return [frozenset(f"e{i}" for i in members) for members in sets]


def grid(agents, users):
    return demands((a, agents + u) for a in range(agents) for u in range(users))


# --- An independent judge of packings: replicas one by one into free amounts, nothing clever -----


def holds(nodes, amounts):
    """Whether the amounts, a list of GPUs a replica, fit: plain search."""
    if sum(amounts) > sum(nodes):
        return False
    seen = set()

    def put(rest, free, opened):
        if not rest:
            return True
        key = (len(rest), tuple(sorted(free)), tuple(sorted(opened)))
        if key in seen:
            return False
        seen.add(key)
        size, *rest = rest
        if size >= 1:
            return any(
                put(rest, [*free[:i], room - size, *free[i + 1 :]], opened)
                for i, room in enumerate(free)
                if room >= size and room not in free[:i]
            )
        return any(
            put(rest, free, [*opened[:i], room - size, *opened[i + 1 :]])
            for i, room in enumerate(opened)
            if room >= size and room not in opened[:i]
        ) or any(
            put(rest, [*free[:i], room - 1, *free[i + 1 :]], [*opened, 1 - size])
            for i, room in enumerate(free)
            if room >= 1 and room not in free[:i]
        )

    return put(sorted(amounts, reverse=True), list(nodes), [])


def amounts(given_engines):
    return [
        Fraction(e.gpus).limit_denominator(1000) for e in given_engines for _ in range(e.replicas)
    ]


def fewest_loads(given_engines, nodes, given_demands):
    """Breadth-first over every resident set and every set of served demands; seats left aside."""
    sizes = [node.gpus for node in nodes]
    keys = [e.key for e in given_engines]
    fits = {
        frozenset(chosen): holds(sizes, amounts(e for e in given_engines if e.key in chosen))
        for count in range(len(keys) + 1)
        for chosen in itertools.combinations(keys, count)
    }

    def unserved(resident, left):
        return frozenset(demand for demand in left if not demand <= resident)

    start = unserved(frozenset(), frozenset(demand for demand in given_demands if fits[demand]))
    queue, seen = deque([(0, frozenset(), start)]), set()
    while queue:
        loads, resident, left = queue.popleft()
        if (resident, left) in seen:
            continue
        seen.add((resident, left))
        if not left:
            return loads
        for key in resident:  # unloading is free, so it goes to the front
            queue.appendleft((loads, resident - {key}, left))
        for key in keys:
            if key not in resident and fits[resident | {key}]:
                queue.append((loads + 1, resident | {key}, unserved(resident | {key}, left)))
    raise AssertionError("no way to serve what fits")


def verify(given_engines, nodes, given_demands, plan):
    """Everything that must hold whatever the input."""
    by_key = {e.key: e for e in given_engines}
    served = Counter(i for stage in plan.stages for i in stage.demands)
    assert all(times == 1 for times in served.values())
    assert served.keys() | plan.misfits.keys() == set(range(len(given_demands)))
    assert not served.keys() & plan.misfits.keys()
    before = {}
    for number, stage in enumerate(plan.stages):
        assert stage.demands
        for i in stage.demands:
            assert given_demands[i] <= stage.engines
        now = {key: [] for key in stage.engines}
        for one in stage.allocations:
            assert one.replica == len(now[one.engine])
            assert one.gpus == by_key[one.engine].gpus
            now[one.engine].append(one)
        for node in nodes:
            assert holds([node.gpus], amounts_on(node, now))
        assert all(len(where) == by_key[key].replicas for key, where in now.items())
        changed = {key for key in now if before.get(key) != now[key]}
        assert set(stage.loads) == changed
        assert all(one.since == number for key in changed for one in now[key])
        before = now
    assert plan.loads == sum(len(stage.loads) for stage in plan.stages)


def amounts_on(node, now):
    return [
        Fraction(one.gpus).limit_denominator(1000)
        for where in now.values()
        for one in where
        if one.node == node.name
    ]


sizes = st.sampled_from([0.25, 0.3, 1 / 3, 0.5, 0.6, 1, 1, 2, 3, 4])


@st.composite
def problems(draw, most_engines, most_demands, most_nodes, most_gpus):
    count = draw(st.integers(1, most_engines))
    given_engines = [
        PlacementEngine(f"e{i}", f"m{i}", draw(st.integers(1, 3)), draw(sizes))
        for i in range(count)
    ]
    nodes = [
        Node(f"n{i}", draw(st.integers(1, most_gpus)))
        for i in range(draw(st.integers(1, most_nodes)))
    ]
    members = st.frozensets(st.sampled_from([e.key for e in given_engines]), max_size=3)
    given_demands = [draw(members) for _ in range(draw(st.integers(0, most_demands)))]
    return given_engines, nodes, given_demands


@settings(max_examples=60)
@given(problems(most_engines=10, most_demands=14, most_nodes=8, most_gpus=8), st.booleans())
def test_placements_are_valid_on_clusters_of_1_to_64_gpus(problem, spread):
    given_engines, nodes, given_demands = problem
    plan = place(*problem, spread)
    verify(given_engines, nodes, given_demands, plan)
    assert plan == place(*problem, spread)


@settings(max_examples=60)
@given(problems(most_engines=5, most_demands=6, most_nodes=3, most_gpus=4), st.booleans())
def test_a_misfit_is_impossible_alone_and_nothing_else_is_one(problem, spread):
    given_engines, nodes, given_demands = problem
    plan = place(*problem, spread)
    for i, demand in enumerate(given_demands):
        alone = holds(
            [node.gpus for node in nodes],
            amounts(e for e in given_engines if e.key in demand),
        )
        assert (i in plan.misfits) is not alone


def test_replicas_fill_node_after_node_or_spread_over_all():
    given_engines = engines(2, gpus=[1, 0.5], replicas=[3, 2])
    nodes = [Node("n", 4), Node("m", 4), Node("k", 4)]

    def where(spread):
        (stage,) = place(given_engines, nodes, demands([(0, 1)]), spread).stages
        return Counter((one.engine, one.node) for one in stage.allocations)

    assert where(False) == {("e0", "n"): 3, ("e1", "n"): 2}
    assert where(True) == {
        ("e0", "n"): 1, ("e0", "m"): 1, ("e0", "k"): 1, ("e1", "n"): 1, ("e1", "m"): 1
    }  # fmt: skip
    # Where one model needs a whole node, the others leave it one.
    large = engines(2, gpus=[4, 1], replicas=[1, 3])
    plan = place(large, nodes, demands([(0, 1)]), spread=True)
    assert not plan.misfits and plan.loads == 2


# --- Few loads ------------------------------------------------------------------------------------


def mixes(count):
    """Random mixes of up to 5 engines: shares and whole GPUs, one or two nodes."""
    for seed in range(count):
        chance = random.Random(seed)
        given_engines = [
            PlacementEngine(
                f"e{i}", f"m{i}", chance.choice([1, 1, 1, 2]), chance.choice([0.5, 0.5, 1, 1, 2])
            )
            for i in range(chance.randint(2, 5))
        ]
        nodes = [Node("n", chance.choice([1, 2, 3, 4])), Node("m", chance.choice([0, 0, 1, 2]))]
        keys = [e.key for e in given_engines]
        given_demands = [
            frozenset(chance.sample(keys, chance.randint(1, min(3, len(keys)))))
            for _ in range(chance.randint(2, 7))
        ]
        yield given_engines, nodes, given_demands


def test_random_mixes_take_hardly_more_loads_than_the_fewest():
    # Found by brute force, which counts no moves: the fewest may be fewer than there can be.
    more = Counter()
    for given_engines, nodes, given_demands in mixes(150):
        plan = place(given_engines, nodes, given_demands)
        verify(given_engines, nodes, given_demands, plan)
        more[plan.loads - fewest_loads(given_engines, nodes, given_demands)] += 1
    assert min(more) == 0
    assert sum(times for loads, times in more.items() if loads) <= 0.05 * more.total()
    assert max(more) <= 2


def shared_models():
    """Instances with a known least number of loads: what sweeps look like."""
    for capacity in range(2, 7):
        one_user = demands((0, i) for i in range(1, 16))
        yield f"one user, room for {capacity}", 16, capacity, one_user, 16
        # Both users stay, or each agent is loaded for one user after the other.
        fewest = 2 + 12 + (11 if capacity == 2 else 0)
        yield f"two users, room for {capacity}", 14, capacity, grid(12, 2), fewest
    for capacity in (3, 4, 5, 6):
        with_critic = demands((0, 1, i) for i in range(2, 16))
        yield f"user and critic, room for {capacity}", 16, capacity, with_critic, 16
    for agents, users in [(4, 4), (8, 8), (12, 4)]:
        # Room for two: every pair but the first changes one model.
        pairs = agents * users + 1
        yield f"{agents} x {users}, room for 2", agents + users, 2, grid(agents, users), pairs
    for users in (1, 2, 3, 4):
        everyone = grid(10, users)
        yield f"10 x {users}, room for all users", 10 + users, users + 1, everyone, 10 + users
    yield "four agents at once in one dialogue", 6, 4, demands([(0, 1, 2, 3), (0, 1, 4, 5)]), 6


@pytest.mark.parametrize(
    ("models", "capacity", "given_demands", "fewest"),
    [pytest.param(*rest, id=name) for name, *rest in shared_models()],
)
def test_models_that_share_users_and_critics_take_the_fewest_loads(
    models, capacity, given_demands, fewest
):
    nodes = [Node("n", capacity)]
    plan = place(engines(models), nodes, given_demands)
    verify(engines(models), nodes, given_demands, plan)
    assert plan.loads == fewest


@pytest.mark.parametrize(
    ("agents", "users", "capacity"), [(8, 8, 4), (8, 8, 6), (12, 4, 4), (6, 6, 4), (10, 3, 3)]
)
def test_full_grids_cost_no_more_than_groups_of_users(agents, users, capacity):
    # The plan by hand: a group of users stays while the agents pass; the last agent meets the next.
    given_engines, given_demands = engines(agents + users), grid(agents, users)
    nodes = [Node("n", capacity)]
    plan = place(given_engines, nodes, given_demands)
    verify(given_engines, nodes, given_demands, plan)
    groups = -(-users // (capacity - 1))
    assert plan.loads <= users + agents + (groups - 1) * (agents - 1)


# --- Single cases ---------------------------------------------------------------------------------


def test_models_shared_by_neighbours_stay():
    plan = place(engines(3), [Node("n", 2)], demands([(0, 1), (0, 2)]))
    first, second = plan.stages
    assert (first.loads, second.loads) == (("e0", "e1"), ("e2",))
    assert second.engines == {"e0", "e2"}
    assert plan.loads == 3


def test_the_engine_of_a_smaller_demand_stays_for_a_larger_one():
    plan = place(engines(2), [Node("n", 2)], demands([(0, 1), (1,)]))
    assert [(stage.demands, stage.loads) for stage in plan.stages] == [
        ((1,), ("e1",)),
        ((0,), ("e0",)),
    ]


def test_a_demand_without_engines_needs_no_gpu():
    plan = place([], [], [frozenset()])
    assert [(stage.demands, stage.loads) for stage in plan.stages] == [((0,), ())]
    assert (plan.loads, plan.misfits) == (0, {})


def test_three_thirds_share_a_gpu_and_a_tenth_ten_times():
    third = place([PlacementEngine("a", "a", 3, 1 / 3)], [Node("n", 1)], [frozenset("a")])
    tenth = place([PlacementEngine("a", "a", 10, 0.1)], [Node("n", 1)], [frozenset("a")])
    assert not third.misfits
    assert not tenth.misfits


def test_packings_that_best_fit_misses_are_found():
    # Best fit in falling size puts 4 + 3 into a node of 8; only 4 + 2 + 2 and 3 + 3 + 2 fit.
    given_engines = [
        PlacementEngine("a", "a", 1, 4),
        PlacementEngine("b", "b", 2, 3),
        PlacementEngine("c", "c", 3, 2),
    ]
    nodes = [Node("n", 8), Node("m", 8)]
    plan = place(given_engines, nodes, [frozenset("abc")])
    assert not plan.misfits


@pytest.mark.parametrize(
    ("given_engines", "nodes", "reason"),
    [
        (
            [PlacementEngine("e0", "llama", 2, 4), PlacementEngine("e1", "qwen", 1, 8)],
            [Node("n", 8)],
            "llama (2 x 4 GPUs) and qwen (1 x 8 GPUs) need 16 GPUs; the cluster has 8",
        ),
        (
            [PlacementEngine("e0", "llama", 1, 4)],
            [Node("n", 2), Node("m", 2)],
            "a replica of llama needs 4 GPUs in one node; the largest node has 2",
        ),
        (
            [PlacementEngine("e0", "llama", 3, 0.5)],
            [Node("n", 1)],
            "llama (3 x 0.5 GPUs) needs 1.5 GPUs; the cluster has 1",
        ),
        (
            [PlacementEngine("e0", "llama", 1, 1)],
            [],
            "llama (1 x 1 GPU) needs 1 GPU; the cluster has 0",
        ),
        (
            [PlacementEngine("e0", "llama", 3, 2)],
            [Node("n", 3), Node("m", 3)],
            "llama (3 x 2 GPUs) needs 6 GPUs and the cluster has 6, "
            "but the replicas cannot be packed into its nodes (2 x 3 GPUs)",
        ),
        (
            [
                PlacementEngine("e0", "a", 1, 1),
                PlacementEngine("e1", "b", 1, 1),
                PlacementEngine("e2", "c", 1, 0.5),
            ],
            [Node("n", 2)],
            "a (1 x 1 GPU), b (1 x 1 GPU) and c (1 x 0.5 GPUs) need 2.5 GPUs; the cluster has 2",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_says_why(given_engines, nodes, reason):
    plan = place(given_engines, nodes, [frozenset(e.key for e in given_engines)])
    assert plan.misfits == {0: reason}
    assert (plan.stages, plan.loads) == ((), 0)


def test_an_engine_without_a_gpu_stays_while_others_take_every_gpu_in_turn():
    given_engines = [*engines(2, gpus=[2, 2]), PlacementEngine("e2", "on the CPU", 1, 0.0)]
    plan = place(given_engines, [Node("n", 2)], demands([(0, 2), (1, 2)]))
    assert (plan.misfits, plan.loads) == ({}, 3)
    assert [stage.engines for stage in plan.stages] == [{"e0", "e2"}, {"e1", "e2"}]
    for stage in plan.stages:
        assert [(a.engine, a.gpus, a.node) for a in stage.allocations] == [
            (min(stage.engines), 2, "n"),
            ("e2", 0, "n"),
        ]


@pytest.mark.parametrize(
    ("given_engines", "nodes", "given_demands", "message"),
    [
        (
            [PlacementEngine("a", "llama", 1, 1.5)],
            [],
            [],
            "engine llama: a replica takes a whole number",
        ),
        ([PlacementEngine("a", "llama", 1, -1)], [], [], "found -1"),
        (
            [PlacementEngine("a", "llama", 0, 1)],
            [],
            [],
            "engine llama: expected at least 1 replica, found 0",
        ),
        ([PlacementEngine("a", "llama", 1, 1)] * 2, [], [], "engine a is named twice"),
        ([], [Node("n", -1)], [], "node n: expected at least 0 GPUs, found -1"),
        ([], [], demands([(0,)]), "a demand needs engine e0, which is not listed"),
    ],
)
def test_input_that_makes_no_sense_is_refused(given_engines, nodes, given_demands, message):
    with pytest.raises(ValueError, match=message):
        place(given_engines, nodes, given_demands)
