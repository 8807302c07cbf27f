"""Workers that come and go with the nodes of a cluster, as the scheduler sees them."""

from runner.driver import scheduler
from runner.driver.scheduler import LeaseQueue
from tests.runner.driver.test_scheduler import FakeWorker, driven, refs


class Nodes:
    """Worker `a` is on a node that leaves after its second report; `b` joins when it is looked."""

    def __init__(self, log, leaving="a"):
        self.joining, self.leaving, self.gone = [FakeWorker("b", log)], leaving, []

    async def joined(self):
        new, self.joining = self.joining, []
        return new

    def leaves(self, worker):
        return worker.name == self.leaving and worker.reports >= 2

    def left(self, worker):
        self.gone.append(worker.name)


def test_a_worker_whose_node_leaves_is_stopped_and_the_rest_is_done_by_one_that_joins(monkeypatch):
    monkeypatch.setattr(scheduler, "_LOOK_EVERY", 0.001)
    log: dict = {}
    elastic_workers, a = Nodes(log), FakeWorker("a", log)
    found = driven([a], log, LeaseQueue([refs(60)], 2), [], elastic_workers)
    assert sorted(found.done) == sorted(f"e{i}" for i in range(60))
    assert elastic_workers.gone == ["a"]
    assert found.lost_workers == []
    assert a.withdrawn > 0
    assert a.reports == 2


def test_a_worker_that_is_lost_and_not_replaced_leaves_its_tasks_to_the_others(monkeypatch):
    monkeypatch.setattr(scheduler, "_LOOK_EVERY", 0.001)
    log: dict = {}
    found = driven(
        [FakeWorker("a", log, dies_at=2)], log, LeaseQueue([refs(60)], 2), [None], Nodes(log, "")
    )
    assert sorted(found.done) == sorted(f"e{i}" for i in range(60))
    assert found.lost_workers == ["a"]
