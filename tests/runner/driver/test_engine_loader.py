"""Replicas that follow the nodes of a cluster while a stage runs, and make room for the next."""

import asyncio
import io
from dataclasses import replace
from types import SimpleNamespace

import pytest
from rich.console import Console

from runner.driver.engine_loader import EngineLoader, LoadedEngines
from runner.driver.scheduler import LeaseQueue
from runner.placement.packing import Node
from tests.runner.placement.world import plan_for, spec
from workers.backends.core.backend import ClusterNode


class FakeFleet:
    """Replicas that are there at once; what happened to them."""

    def __init__(self, specs):
        self.engines = {s.key: SimpleNamespace(spec=s, failed="", load_seconds=1.0) for s in specs}
        self.did = []
        self.news = asyncio.Event()

    def load(self, key):
        self.did.append(("load", key))

    def unload(self, key):
        self.did.append(("unload", key))

    def add(self, key, index):
        self.did.append(("add", key, index))

    def drop(self, key, index):
        self.did.append(("drop", key, index))

    def settled(self, key):
        return True


@pytest.fixture
def loaded():
    """A loader with its first stage up: `auto` fills GPUs, `two` has two replicas."""

    def of(cells, gpus):
        specs = [replace(spec("auto"), elastic=True), spec("two", replicas=2)]
        run = plan_for(specs, cells, [Node("n0", gpus)])
        fleet = FakeFleet(specs)
        residents = LoadedEngines(specs)
        console = Console(file=io.StringIO(), width=200)
        loader = EngineLoader(run, residents, fleet, LeaseQueue([], 2), console, cpu=False)
        stages = [part.stage for part in run.stages]
        asyncio.run(loader._bring_up(stages[0]))
        fleet.did.clear()

        def at(key):
            return {one.replica: one.node for one in residents.allocations.get(key, ())}

        return SimpleNamespace(loader=loader, fleet=fleet, at=at, stages=stages, console=console)

    return of


def node(name, gpus, **state):
    return ClusterNode(name, gpus, 8, "A", **state)


def test_auto_fills_what_is_free_and_what_joins(loaded):
    run = loaded([["auto", "two"]], 4)
    run.loader.adjust([node("n0", 4)], None)
    assert run.fleet.did == [("add", "auto", 1)]
    run.loader.adjust([node("n0", 4), node("n1", 2)], None)
    assert run.at("auto") == {0: "n0", 1: "n0", 2: "n1", 3: "n1"}
    assert run.at("two") == {0: "n0", 1: "n0"}
    run.fleet.did.clear()
    run.loader.adjust([node("n0", 4), node("n1", 2)], None)
    assert run.fleet.did == []
    assert "another replica of model auto on n1" in run.console.file.getvalue()


def test_what_was_on_a_node_that_is_gone_moves_and_the_cap_is_kept(loaded):
    run = loaded([["auto", "two"]], 4)
    run.loader.adjust([node("n1", 4)], 2)
    assert run.at("two") == {0: "n1", 1: "n1"}
    assert run.at("auto") == {}
    run.loader.adjust([node("n1", 4)], None)
    assert run.at("auto") == {0: "n1", 1: "n1"}
    assert {did for did in run.fleet.did if did[0] == "drop"} == {
        ("drop", "two", 0), ("drop", "two", 1), ("drop", "auto", 0)
    }  # fmt: skip


def test_a_replica_on_a_node_that_leaves_goes_when_another_has_been_started(loaded):
    run = loaded([["auto"]], 1)
    run.loader.adjust([node("n0", 1, leaving=True)], None)
    assert run.fleet.did == []
    run.loader.adjust([node("n0", 1, leaving=True), node("n1", 1)], None)
    assert run.fleet.did == [("drop", "auto", 0), ("add", "auto", 0)]
    assert run.at("auto") == {0: "n1"}


def test_an_engine_that_has_failed_is_left_alone(loaded):
    run = loaded([["auto"]], 4)
    run.fleet.engines["auto"].failed = "no such model"
    run.loader.adjust([node("n0", 4)], None)
    assert run.fleet.did == []


def test_before_the_next_stage_what_was_added_makes_room(loaded):
    run = loaded([["auto"], ["two"]], 2)
    first = "auto" if run.at("auto") else "two"
    run.loader.adjust([node("n0", 2)], None)
    asyncio.run(run.loader._bring_up(run.stages[1]))
    assert (first == "two") or ("drop", "auto", 1) in run.fleet.did
    assert ("load", "two" if first == "auto" else "auto") in run.fleet.did
