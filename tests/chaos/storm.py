"""The storm: a sweep, undisturbed and under fire, and what must be equal in the end.

The driver is the real command line. Killed are, in random order: episode workers, the model's
server, owners of the call cache, a whole node with its local folder, and the driver itself.

What may be paid again is what was in flight at a kill, by the log of the model's server: asked
and not answered yet, or answered so recently that its reply was not durable.
"""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import yaml

from analysis.results import Results
from tests.conftest import LAST_GUARD_SECONDS
from tests.runner.processes import below
from workers.cache import journal

ROOT = Path(__file__).parent.parent.parent
KILLS = ("worker",) * 3 + ("model",) * 2 + ("owner",) * 3 + ("node",) + ("driver",) * 2
ACTORS = {"worker": "EpisodeWorker", "model": "LatencyServer", "owner": "CacheActor"}
SHARES = (0.03, 0.75)  # of the sweep, between which the kills fall
# From the server's log to the journal, and from a worker to the server's log: the way of a message
# between event loops that share two cores with all of Ray, and one flush of the disk. In a storm on
# a machine with ten times too much to do, no answer that was lost was older than 0.06 s; a slow
# machine may take ten times as long.
WAY_SECONDS = 1.0
WORDS = (
    "episode_id, case_id, status, blame, error_class, stop_reason, success, success_turn, turns, "
    "accepted_item, agent_tokens, user_tokens, probe_tokens, transcript_hash"
)


def sweep(folder: Path, episodes: int, concurrency: int, name: str, latency_ms: float) -> Path:
    """The sweep file: two agents, two seeds; errors of every kind."""
    data = {
        "name": "storm",
        "out": str(folder / name),
        "domain": {"name": "synthetic", "items": 400, "users": 100_000},
        "cases": {"sample": episodes // 4},
        "models": {
            "fixed": {
                "backend": "latency",
                "latency_ms": latency_ms,
                "error_rate": 0.05,
                "invalid_rate": 0.03,
            }
        },
        "roles": {"user": "fixed", "agent": "fixed"},
        "grid": {"agent": ["zero_shot", "react"], "seed": [0, 1]},
        "simulator": {
            "name": "tests.chaos.faulty",
            "prompts": str(ROOT / "simulators/users/target_item/prompts"),
        },
        "cache": {"path": str(folder / f"{name}-cache"), "owners": 2},
        "retries": {"episode": 20},
        "run": {"episode_workers": 3, "concurrency": concurrency},
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


@dataclass
class Answer:
    """One request that the model's server has answered."""

    request: str
    arrived: float
    answered: float


def answers(out: Path) -> list[Answer]:
    """All that was paid for, by the server's own log; what it refused was not."""
    found = []
    for log in (out / "logs").glob("latency-*.jsonl"):
        for line in log.read_text().splitlines():
            entry = json.loads(line)
            if not entry["refused"]:
                found.append(Answer(entry["request"], entry["arrived"], entry["answered"]))
    return found


def logged(out: Path) -> int:
    """How much was answered, as bytes of the server's log."""
    return sum(p.stat().st_size for p in (out / "logs").glob("latency-*.jsonl"))


@dataclass
class Kill:
    """What was killed, from just before until the last process that it took along was gone.

    `since`: nothing that was answered later needs to have been durable when it came.
    """

    kind: str
    since: float
    began: float
    ended: float = math.inf
    doomed: list[psutil.Process] = field(default_factory=list)

    def had_in_flight(self, answer: Answer) -> bool:
        return answer.arrived <= self.ended + WAY_SECONDS and answer.answered >= self.since


def rows(out: Path) -> list[tuple[Any, ...]]:
    """What was committed, without times."""
    return Results.open(out).query(f"SELECT {WORDS} FROM episodes ORDER BY 1").fetchall()


@dataclass
class Storm:
    """One run under fire."""

    path: Path
    out: Path
    seed: int
    address: str
    nodes: list[Any]
    remove_node: Callable[[Any], None]
    say: Callable[[str], None] = print
    kills: list[Kill] = field(default_factory=list)
    owners: set[float] = field(default_factory=set)  # when owners began to write a journal
    driver: subprocess.Popen[bytes] | None = None
    starts: int = 0

    def run(self, expected: int) -> None:
        """Plays the sweep to its end. `expected` is how much is answered if nothing is killed.

        Each kill waits until a share of that is answered, so that on no machine the sweep is over
        before the last one.
        """
        rng = random.Random(self.seed)
        kinds = rng.sample(KILLS, len(KILLS))
        self.say(f"storm, seed {self.seed}: {', '.join(kinds)}")
        shares = sorted(rng.uniform(*SHARES) for _ in kinds)
        self._start()
        for kind, share in zip(kinds, shares, strict=True):
            self._wait_for_progress(share * expected)
            assert not self._over(), f"it was over before all was killed: {self.kills} are"
            self._kill(kind, rng)
        while not self._over():
            time.sleep(0.1)
        assert all(kill.ended < math.inf for kill in self.kills), f"not all died: {self.kills}"

    def _start(self) -> None:
        assert self.starts < 20, "the driver does not stay up"
        self.starts += 1
        log = (self.out.parent / f"driver-{self.starts}.txt").open("wb")
        command = ["run", str(self.path), f"run.ray_address={self.address}"]
        self.driver = subprocess.Popen(
            [sys.executable, "-m", "runner", *command], cwd=ROOT, stdout=log, stderr=log
        )

    def _over(self) -> bool:
        """Whether the sweep is complete; a driver that ended before that is started again."""
        assert self.driver is not None
        self._look()
        code = self.driver.poll()
        if code is None:
            return False
        if code == 0:
            return True
        self.say(f"the driver has ended with {code}; the same command again")
        self._start()
        return False

    def _wait_for_progress(self, enough: float) -> None:
        """Until so much is answered, and more than at the last kill."""
        enough = max(enough, logged(self.out))
        while logged(self.out) <= enough and not self._over():
            time.sleep(0.1)

    def _look(self) -> None:
        """Notes which owners have started, and what has died of a kill."""
        for path in journal.files(self.out):
            self.owners.add(int(path.name.split("-")[1]) / 1e9)
        for kill in self.kills:
            if kill.ended == math.inf and not any(map(lives, kill.doomed)):
                kill.ended = time.time()

    def _kill(self, kind: str, rng: random.Random) -> None:
        assert self.driver is not None
        if kind == "driver":
            doomed = [*processes(ACTORS["worker"]), *processes(ACTORS["owner"])]
            self._note(kind, doomed)
            self.driver.send_signal(signal.SIGKILL)
            self.driver.wait()
        elif kind == "node":
            node = self.nodes.pop()
            (raylet,) = node.all_processes["raylet"]
            self._note(kind, below(psutil.Process(raylet.process.pid), "ray::"))
            self.remove_node(node)
        else:
            end = time.time() + LAST_GUARD_SECONDS
            while not (found := processes(ACTORS[kind])):
                assert time.time() < end, f"there is no {kind} to be killed"
                assert not self._over()  # a driver that has only just begun has none yet
                time.sleep(0.1)
            process = rng.choice(found)
            self._note(kind, [process])
            process.kill()

    def _note(self, kind: str, doomed: list[psutil.Process]) -> None:
        self.say(f"killing: {kind}")
        self._look()
        now = time.time()
        since = now - WAY_SECONDS
        for kill in self.kills:
            # While an owner is away, workers hold what they have made for it, each dialogue one.
            back = min((at for at in self.owners if at > kill.began), default=math.inf)
            if kill.kind == "owner" and now < back + WAY_SECONDS:
                since = min(since, kill.since)
        self.kills.append(Kill(kind, since, now, doomed=doomed))


def lives(process: psutil.Process) -> bool:
    """Whether it runs: a dead one that has not been looked up does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def processes(actor: str) -> list[psutil.Process]:
    """The processes of one kind of actor in this storm, by their pids; they may end at any time."""
    return sorted(below(psutil.Process(), f"ray::{actor}"), key=lambda p: p.pid)


def check(calm: Path, stormy: Path, kills: Sequence[Kill], concurrency: int) -> dict[str, Any]:
    """What must be equal, and what may differ. AssertionError for the first that is not so."""
    expected, found = rows(calm), rows(stormy)
    assert len({row[0] for row in found}) == len(found) == len(expected)
    assert found == expected
    paid, again = answers(calm), answers(stormy)
    assert len({each.request for each in paid}) == len(paid), "paid twice without any kill"
    assert {each.request for each in again} == {each.request for each in paid}
    return {
        "episodes": len(found),
        "failed": sum(row[2] == "failed" for row in found),
        "kills": len(kills),
        "paid_undisturbed": len(paid),
        "paid_in_the_storm": len(again),
        **paid_again(again, kills, concurrency),
    }


def paid_again(
    answered: Sequence[Answer], kills: Sequence[Kill], concurrency: int
) -> dict[str, Any]:
    """How much was paid more than once, and how much was in flight at the kills.

    AssertionError for an answer that was paid again and in flight at no kill, and for a kill
    after which more was paid again than dialogues were running: each waits for one call.
    """
    by_request: dict[str, list[Answer]] = defaultdict(list)
    for each in sorted(answered, key=lambda a: a.answered):
        by_request[each.request].append(each)
    lost: dict[int, list[Answer]] = defaultdict(list)
    for each in (one for several in by_request.values() for one in several[:-1]):
        at = next((n for n, kill in enumerate(kills) if kill.had_in_flight(each)), None)
        assert at is not None, f"paid again, and not in flight at a kill: {each}, {kills}"
        lost[at].append(each)
    in_flight = [
        min(concurrency, len({each.request for each in answered if kill.had_in_flight(each)}))
        for kill in kills
    ]
    for at, each in lost.items():
        assert len(each) <= in_flight[at], f"{len(each)} calls paid again after {kills[at]}"
    count = sum(map(len, lost.values()))
    assert count <= sum(in_flight)
    return {
        "paid_again": count,
        "in_flight": sum(in_flight),
        # What it was, seconds until all was gone, calls paid again, calls in flight.
        "by_kill": [
            [kill.kind, round(kill.ended - kill.began, 1), len(lost[at]), in_flight[at]]
            for at, kill in enumerate(kills)
        ],
        # The oldest answer that was lost, in seconds before its kill.
        "oldest_lost_s": round(
            max(
                (kills[at].began - e.answered for at, some in lost.items() for e in some), default=0
            ),
            2,
        ),
    }


def storm(folder: Path, *, episodes: int, seed: int, concurrency: int = 96) -> dict[str, Any]:
    """The whole: an undisturbed run, a run under fire, and the comparison."""
    from ray.cluster_utils import Cluster

    calm = sweep(folder, episodes, concurrency, "calm", 0.0)
    subprocess.run(
        [sys.executable, "-m", "runner", "run", str(calm)],
        cwd=ROOT, check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False}
    )
    locals_: dict[Any, Path] = {}
    try:
        for number in range(2):
            local = folder / f"node-{number}"
            local.mkdir()
            node = cluster.add_node(num_cpus=2, env_vars={"TMPDIR": str(local)})
            locals_[node] = local

        def remove(node: Any) -> None:
            cluster.remove_node(node, allow_graceful=False)
            shutil.rmtree(locals_[node])

        path = sweep(folder, episodes, concurrency, "stormy", 200.0)
        fight = Storm(path, folder / "stormy", seed, cluster.address, list(locals_), remove)
        started = time.time()
        try:
            fight.run(logged(folder / "calm"))
        finally:
            if fight.driver is not None:
                fight.driver.kill()
                fight.driver.wait()
        seconds = time.time() - started
    finally:
        cluster.shutdown()
    found = check(folder / "calm", folder / "stormy", fight.kills, concurrency)
    return {"seed": seed, **found, "drivers": fight.starts, "seconds": round(seconds)}
