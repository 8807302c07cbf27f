"""The placement: seats are real, loads are few, and what does not fit truly does not."""

import itertools
import random
import time
from collections import Counter, deque
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.placement import Engine, Node, Work, place

PHASES = ("prepare", "dialogue", "judge")


def engines(count, gpus=None, replicas=None):
    return [
        Engine(f"e{i}", f"m{i}", replicas[i] if replicas else 1, gpus[i] if gpus else 1)
        for i in range(count)
    ]


def works(sets, phase="dialogue"):
    return [Work(phase, frozenset(f"e{i}" for i in members)) for members in sets]


def grid(agents, users):
    return works((a, agents + u) for a in range(agents) for u in range(users))


# --- An independent judge of seats: replicas one by one into free amounts, nothing clever --------


def holds(nodes, demands):
    """Whether the demands, a list of GPUs a replica, can be seated: plain search."""
    if sum(demands) > sum(nodes):
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

    return put(sorted(demands, reverse=True), list(nodes), [])


def demands(given_engines):
    return [
        Fraction(e.gpus).limit_denominator(1000) for e in given_engines for _ in range(e.replicas)
    ]


def fewest_loads(given_engines, nodes, given_works):
    """Breadth-first over every resident set and every set of served works; seats left aside."""
    sizes = [node.gpus for node in nodes]
    keys = [e.key for e in given_engines]
    fits = {
        frozenset(chosen): holds(sizes, demands(e for e in given_engines if e.key in chosen))
        for count in range(len(keys) + 1)
        for chosen in itertools.combinations(keys, count)
    }
    wanted = [
        [i for i, w in enumerate(given_works) if w.phase == phase and fits[w.engines]]
        for phase in PHASES
    ]

    def settle(phase, resident, left):
        while True:
            left = frozenset(i for i in left if not given_works[i].engines <= resident)
            if left or phase == len(PHASES) - 1:
                return phase, resident, left
            phase += 1
            left = frozenset(wanted[phase])

    start = settle(0, frozenset(), frozenset(wanted[0]))
    queue, seen = deque([(0, start)]), set()
    while queue:
        loads, state = queue.popleft()
        if state in seen:
            continue
        seen.add(state)
        phase, resident, left = state
        if not left and phase == len(PHASES) - 1:
            return loads
        for key in resident:  # unloading is free, so it goes to the front
            queue.appendleft((loads, (phase, resident - {key}, left)))
        for key in keys:
            if key not in resident and fits[resident | {key}]:
                queue.append((loads + 1, settle(phase, resident | {key}, left)))
    raise AssertionError("no way to serve what fits")


def verify(given_engines, nodes, given_works, plan):
    """Everything that must hold whatever the input."""
    by_key = {e.key: e for e in given_engines}
    room = {node.name: node.gpus for node in nodes}
    served = Counter(i for stage in plan.stages for i in stage.works)
    assert all(times == 1 for times in served.values())
    assert served.keys() | plan.misfits.keys() == set(range(len(given_works)))
    assert not served.keys() & plan.misfits.keys()
    order = [PHASES.index(stage.phase) for stage in plan.stages]
    assert order == sorted(order)
    before = {}
    for stage in plan.stages:
        assert stage.works
        for i in stage.works:
            assert given_works[i].phase == stage.phase
            assert given_works[i].engines <= stage.engines
        used, replicas = Counter(), Counter()
        now = {key: [] for key in stage.engines}
        for seat in stage.seats:
            engine = by_key[seat.engine]
            now[seat.engine].append(seat)
            assert seat.replica == replicas[seat.engine]
            replicas[seat.engine] += 1
            whole = engine.gpus >= 1
            assert len(seat.gpus) == len(set(seat.gpus)) == (engine.gpus if whole else 1)
            assert seat.share == (1 if whole else engine.gpus)
            for gpu in seat.gpus:
                assert 0 <= gpu < room[seat.node]
                used[seat.node, gpu] += Fraction(seat.share).limit_denominator(1000)
        assert all(share <= 1 for share in used.values())
        assert replicas == Counter({key: by_key[key].replicas for key in stage.engines})
        changed = {key for key in now if before.get(key) != now[key]}
        assert set(stage.loads) == changed
        assert set(stage.unloads) == {key for key in before if now.get(key) != before[key]}
        # Lazily: whoever leaves for good has its seats taken.
        for key in before.keys() - now.keys():
            own = Counter(used)
            for seat in before[key]:
                for gpu in seat.gpus:
                    own[seat.node, gpu] += Fraction(seat.share).limit_denominator(1000)
            assert any(share > 1 for share in own.values()), f"{key} left though nobody came"
        before = now
    assert plan.loads == sum(len(stage.loads) for stage in plan.stages)
    assert plan.bound <= plan.loads
    needed = set().union(*(given_works[i].engines for i in served)) if served else set()
    assert len(needed) <= plan.bound


sizes = st.sampled_from([0.25, 0.3, 1 / 3, 0.5, 0.6, 1, 1, 2, 3, 4])


@st.composite
def problems(draw, most_engines, most_works, most_nodes, most_gpus):
    count = draw(st.integers(1, most_engines))
    given_engines = [
        Engine(f"e{i}", f"m{i}", draw(st.integers(1, 3)), draw(sizes)) for i in range(count)
    ]
    nodes = [
        Node(f"n{i}", draw(st.integers(1, most_gpus)))
        for i in range(draw(st.integers(1, most_nodes)))
    ]
    members = st.frozensets(st.sampled_from([e.key for e in given_engines]), max_size=3)
    given_works = [
        Work(draw(st.sampled_from(PHASES)), draw(members))
        for _ in range(draw(st.integers(0, most_works)))
    ]
    return given_engines, nodes, given_works


@settings(max_examples=150)
@given(problems(most_engines=10, most_works=14, most_nodes=8, most_gpus=8))
def test_what_holds_on_clusters_of_1_to_64_gpus(problem):
    given_engines, nodes, given_works = problem
    plan = place(*problem)
    verify(given_engines, nodes, given_works, plan)
    assert plan == place(*problem)


@settings(max_examples=150)
@given(problems(most_engines=5, most_works=6, most_nodes=3, most_gpus=4))
def test_a_misfit_is_impossible_alone_and_nothing_else_is_one(problem):
    given_engines, nodes, given_works = problem
    plan = place(*problem)
    for i, work in enumerate(given_works):
        alone = holds(
            [node.gpus for node in nodes],
            demands(e for e in given_engines if e.key in work.engines),
        )
        assert (i in plan.misfits) is not alone


# --- Few loads ------------------------------------------------------------------------------------


@settings(max_examples=80)
@given(st.integers(1, 6), st.integers(1, 4), st.randoms(use_true_random=False))
def test_loads_are_minimal_for_up_to_6_equal_engines(count, capacity, chance):
    given_engines, nodes = engines(count), [Node("n", capacity)]
    keys = [e.key for e in given_engines]
    given_works = [
        Work(
            chance.choice(PHASES), frozenset(chance.sample(keys, chance.randint(1, min(3, count))))
        )
        for _ in range(chance.randint(1, 8))
    ]
    plan = place(given_engines, nodes, given_works)
    verify(given_engines, nodes, given_works, plan)
    assert plan.loads == plan.bound == fewest_loads(given_engines, nodes, given_works)


@settings(max_examples=100)
@given(problems(most_engines=5, most_works=7, most_nodes=1, most_gpus=6))
def test_loads_are_minimal_for_mixed_sizes_on_one_node(problem):
    # Halves and whole GPUs of one node: a move could help only by joining two halves on one GPU.
    given_engines, nodes, given_works = problem
    given_engines = [Engine(e.key, e.label, 1, 0.5) if e.gpus < 1 else e for e in given_engines]
    plan = place(given_engines, nodes, given_works)
    verify(given_engines, nodes, given_works, plan)
    assert plan.bound == plan.loads == fewest_loads(given_engines, nodes, given_works)


def seatings(given_engines, nodes, before, staying, new):
    """Every way to seat `new` beside what stays: GPU by GPU, without any symmetry."""
    used = Counter()
    for key in staying:
        for gpu, share in before[key]:
            used[gpu] += share
    gpus = [(n, g) for n, node in enumerate(nodes) for g in range(node.gpus)]

    def spots(engine, used):
        size = Fraction(engine.gpus).limit_denominator(1000)
        if size < 1:
            return [[(gpu, size)] for gpu in gpus if used[gpu] + size <= 1]
        return [
            [(gpu, Fraction(1)) for gpu in chosen]
            for n in range(len(nodes))
            for chosen in itertools.combinations(
                [gpu for gpu in gpus if gpu[0] == n and not used[gpu]], int(size)
            )
        ]

    def fill(keys, used):
        if not keys:
            yield {}
            return
        engine = next(e for e in given_engines if e.key == keys[0][0])
        for spot in spots(engine, used):
            after = used + Counter(dict(spot))
            for tail in fill(keys[1:], after):
                yield {keys[0]: tuple(spot), **tail}

    wanted = [(e.key, r) for e in given_engines if e.key in new for r in range(e.replicas)]
    for found in fill(wanted, used):
        seated = {key: before[key] for key in staying}
        for key in new:
            seated[key] = tuple(sorted(s for k, spot in found.items() if k[0] == key for s in spot))
        yield seated


def fewest_loads_with_seats(given_engines, nodes, given_works):
    """As `fewest_loads`, over what sits where: an engine that must move is loaded again."""
    empty = Counter()
    left = frozenset(
        i
        for i, w in enumerate(given_works)
        if next(seatings(given_engines, nodes, {}, empty, w.engines), None) is not None
    )
    queue, seen = deque([(0, {}, left)]), set()
    while queue:
        loads, seated, left = queue.popleft()
        left = frozenset(i for i in left if not given_works[i].engines <= seated.keys())
        if not left:
            return loads
        state = (frozenset(seated.items()), left)
        if state in seen:
            continue
        seen.add(state)
        for key in seated:
            rest = {k: s for k, s in seated.items() if k != key}
            queue.appendleft((loads, rest, left))
        for engine in given_engines:
            if engine.key not in seated:
                for after in seatings(given_engines, nodes, seated, seated.keys(), {engine.key}):
                    queue.append((loads + 1, after, left))
    raise AssertionError("no way to serve what fits")


@pytest.mark.parametrize("seed", range(25))
def test_loads_are_minimal_where_engines_may_have_to_move(seed):
    chance = random.Random(seed)
    given_engines = [
        Engine(f"e{i}", f"m{i}", 1, chance.choice([0.25, 0.5, 0.75, 1, 1, 2])) for i in range(5)
    ]
    nodes = [Node("a", 2), Node("b", chance.choice([1, 2]))]
    given_works = works(chance.sample(range(5), chance.randint(1, 3)) for _ in range(6))
    plan = place(given_engines, nodes, given_works)
    verify(given_engines, nodes, given_works, plan)
    assert plan.loads == plan.bound
    assert plan.loads == fewest_loads_with_seats(given_engines, nodes, given_works)


def within_a_tenth():
    """Instances beyond 6 engines whose loads are proven to be within 10 % of the least."""
    for capacity in range(2, 7):
        yield (
            f"one user, room for {capacity}",
            engines(16),
            capacity,
            works((0, i) for i in range(1, 16)),
        )
        yield (
            f"two users, judges apart, room for {capacity}",
            engines(16),
            capacity,
            [
                *grid(12, 2),
                *works([(14,), (15,)], "judge"),
            ],
        )
        yield (
            f"16 models, 15 pairs, room for {capacity}",
            engines(16),
            capacity,
            works(random.Random(capacity).sample(list(itertools.combinations(range(16), 2)), 15)),
        )
    for capacity in (3, 4, 5, 6):
        yield (
            f"user and critic, room for {capacity}",
            engines(16),
            capacity,
            works((0, 1, i) for i in range(2, 16)),
        )
    for agents, users, capacity in [
        (4, 4, 2), (8, 8, 2), (12, 4, 2), (4, 4, 3), (6, 3, 3), (12, 4, 3), (8, 8, 3), (10, 6, 3),
        (10, 3, 4), (13, 3, 4), (6, 3, 4), (12, 4, 5), (4, 4, 5), (12, 4, 6), (14, 2, 3),
    ]:  # fmt: skip
        yield (
            f"{agents} x {users}, room for {capacity}",
            engines(agents + users),
            capacity,
            grid(agents, users),
        )
    for models, capacity in [(7, 2), (7, 3), (8, 3), (8, 4), (10, 3), (10, 5), (8, 6)]:
        yield (
            f"all pairs of {models}, room for {capacity}",
            engines(models),
            capacity,
            works(itertools.combinations(range(models), 2)),
        )


@pytest.mark.parametrize(
    ("given_engines", "capacity", "given_works"),
    [pytest.param(*rest, id=name) for name, *rest in within_a_tenth()],
)
def test_loads_are_within_a_tenth_of_the_bound(given_engines, capacity, given_works):
    nodes = [Node("n", capacity)]
    plan = place(given_engines, nodes, given_works)
    verify(given_engines, nodes, given_works, plan)
    assert plan.loads <= 1.1 * plan.bound


@pytest.mark.parametrize(
    ("agents", "users", "capacity"), [(8, 8, 4), (8, 8, 6), (12, 4, 4), (6, 6, 4), (10, 3, 3)]
)
def test_full_grids_whose_bound_is_weak_cost_no_more_than_groups_of_users(agents, users, capacity):
    # No tenth is proven here. The plan by hand: a group of users stays while the agents pass;
    # the last agent meets the next group.
    given_engines, given_works = engines(agents + users), grid(agents, users)
    nodes = [Node("n", capacity)]
    plan = place(given_engines, nodes, given_works)
    verify(given_engines, nodes, given_works, plan)
    groups = -(-users // (capacity - 1))
    assert plan.loads <= users + agents + (groups - 1) * (agents - 1)


def test_16_engines_with_60_works_take_no_more_than_seconds():
    chance = random.Random(16)
    sets = chance.sample(list(itertools.combinations(range(16), 3)), 60)
    started = time.perf_counter()
    place(engines(16), [Node("n", 6)], works(sets))
    assert time.perf_counter() - started < 6  # about 1 s on a laptop


# --- Single cases ---------------------------------------------------------------------------------


def test_models_shared_by_neighbours_stay_and_a_judge_takes_the_place_of_the_dialogues():
    given_works = [*works([(0, 1), (0, 2)]), *works([(3,)], "judge")]
    plan = place(engines(4), [Node("n", 2)], given_works)
    first, second, third = plan.stages
    assert (first.loads, second.loads, third.loads) == (("e0", "e1"), ("e2",), ("e3",))
    assert second.unloads == ("e1",)
    assert second.engines == {"e0", "e2"}
    assert [stage.phase for stage in plan.stages] == ["dialogue", "dialogue", "judge"]
    assert (plan.loads, plan.bound) == (4, 4)


def test_what_is_loaded_already_serves_the_next_phase_without_a_load():
    plan = place(engines(2), [Node("n", 2)], [*works([(0, 1)]), *works([(1,)], "judge")])
    assert [stage.loads for stage in plan.stages] == [("e0", "e1"), ()]


def test_works_without_engines_need_no_gpu():
    plan = place([], [], [Work("dialogue", frozenset()), Work("judge", frozenset())])
    assert [(s.phase, s.works, s.loads) for s in plan.stages] == [
        ("dialogue", (0,), ()),
        ("judge", (1,), ()),
    ]
    assert (plan.loads, plan.bound, plan.misfits) == (0, 0, {})


def test_three_thirds_share_a_gpu_and_a_tenth_ten_times():
    third = place([Engine("a", "a", 3, 1 / 3)], [Node("n", 1)], [Work("dialogue", frozenset("a"))])
    tenth = place([Engine("a", "a", 10, 0.1)], [Node("n", 1)], [Work("dialogue", frozenset("a"))])
    assert not third.misfits
    assert not tenth.misfits


def test_packings_that_best_fit_misses_are_found():
    # Best fit in falling size puts 4 + 3 into a node of 8; only 4 + 2 + 2 and 3 + 3 + 2 fit.
    given_engines = [
        Engine("a", "a", 1, 4),
        Engine("b", "b", 2, 3),
        Engine("c", "c", 3, 2),
    ]
    nodes = [Node("n", 8), Node("m", 8)]
    plan = place(given_engines, nodes, [Work("dialogue", frozenset("abc"))])
    assert not plan.misfits


@pytest.mark.parametrize(
    ("given_engines", "nodes", "reason"),
    [
        (
            [Engine("e0", "llama", 2, 4), Engine("e1", "qwen", 1, 8)],
            [Node("n", 8)],
            "llama (2 x 4 GPUs) and qwen (1 x 8 GPUs) need 16 GPUs; the cluster has 8",
        ),
        (
            [Engine("e0", "llama", 1, 4)],
            [Node("n", 2), Node("m", 2)],
            "a replica of llama needs 4 GPUs in one node; the largest node has 2",
        ),
        (
            [Engine("e0", "llama", 3, 0.5)],
            [Node("n", 1)],
            "llama (3 x 0.5 GPUs) needs 1.5 GPUs; the cluster has 1",
        ),
        (
            [Engine("e0", "llama", 1, 1)],
            [],
            "llama (1 x 1 GPU) needs 1 GPU; the cluster has 0",
        ),
        (
            [Engine("e0", "llama", 3, 2)],
            [Node("n", 3), Node("m", 3)],
            "llama (3 x 2 GPUs) needs 6 GPUs and the cluster has 6, "
            "but the replicas cannot be packed into its nodes (2 x 3 GPUs)",
        ),
        (
            [Engine("e0", "a", 1, 1), Engine("e1", "b", 1, 1), Engine("e2", "c", 1, 0.5)],
            [Node("n", 2)],
            "a (1 x 1 GPU), b (1 x 1 GPU) and c (1 x 0.5 GPUs) need 2.5 GPUs; the cluster has 2",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_says_why(given_engines, nodes, reason):
    plan = place(given_engines, nodes, [Work("dialogue", frozenset(e.key for e in given_engines))])
    assert plan.misfits == {0: reason}
    assert (plan.stages, plan.loads, plan.bound) == ((), 0, 0)


@pytest.mark.parametrize(
    ("given_engines", "nodes", "given_works", "message"),
    [
        ([Engine("a", "llama", 1, 1.5)], [], [], "engine llama: a replica takes a whole number"),
        ([Engine("a", "llama", 1, 0)], [], [], "found 0"),
        ([Engine("a", "llama", 0, 1)], [], [], "engine llama: found 0 replicas"),
        ([Engine("a", "llama", 1, 1)] * 2, [], [], "engine a is named twice"),
        ([], [Node("n", -1)], [], "node n: found -1 GPUs"),
        ([], [], works([(0,)]), "a dialogue work needs engine e0, which is not given"),
    ],
)
def test_input_that_makes_no_sense_is_refused(given_engines, nodes, given_works, message):
    with pytest.raises(ValueError, match=message):
        place(given_engines, nodes, given_works)
