"""Streams of a run: which batch of each chain may run, and what its agent remembers by then.

A chain continues after its committed episodes. The memory is rebuilt from those in the order of the
chain, and grows by what each batch leaves, in the same order: the order in which dialogues end does
not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterator
from dataclasses import dataclass, field

from agents.core.errors import UsageError
from agents.core.memory import Memory
from sweeps.episodes import stream_task
from sweeps.plan import Plan
from sweeps.storage.folder import Folder
from sweeps.streams import NOTHING, Chain, Link, Remembered
from sweeps.tasks import Outcome, Task
from workers.results.lessons import StoredEpisode, learned_of_stored, stored_episodes


@dataclass
class _Running:
    """A running chain. `at` is the index of the current batch."""

    chain: Chain
    memory: Memory
    remembered: Remembered = NOTHING
    at: int = 0
    stored: dict[str, list[str]] = field(default_factory=dict)
    """Attempt -> entries; of done attempts that were committed earlier."""
    left: dict[str, list[str] | None] = field(default_factory=dict)
    """For the current batch: episode -> entries, or None until it is settled."""

    @property
    def held(self) -> int:
        """Episodes of later batches."""
        return sum(map(len, self.chain.batches[self.at + 1 :]))


class Streams:
    """The chains of a plan, for the driver of `epoch`.

    `done` are the settled episodes. `skips` returns whether a task cannot run; its whole chain is
    then left out.
    """

    def __init__(
        self,
        plan: Plan,
        folder: Folder,
        epoch: int,
        done: Container[str],
        skips: Callable[[Task], bool] = lambda task: False,
    ) -> None:
        self._plan, self._folder, self._epoch = plan, folder, epoch
        self._done, self._skips = done, skips
        self._begun: dict[str, _Running] = {}
        """Id of the first episode -> its chain, until it has ended."""
        self._chain_of: dict[str, str] = {}
        self._stored: dict[str, StoredEpisode | None] = {}

    @property
    def held(self) -> set[int]:
        """The cells with episodes that wait for others of their chain."""
        return {running.chain.cell for running in self._begun.values() if running.held}

    def begin(self, cells: Collection[int]) -> Iterator[Task]:
        """The tasks of these cells that may run now.

        Raises UsageError for a chain that was played with other memories than its dialogues leave.
        """
        chains = list(self._plan.chains(cells))
        ids = [link.episode_id for chain in chains for batch in chain.batches for link in batch]
        if not ids:
            return
        self._stored |= stored_episodes(self._folder, ids)
        for chain in chains:
            memory = self._plan.cells[chain.cell].memory
            assert memory is not None
            episodes = [link.episode_id for batch in chain.batches for link in batch]
            done = [s.attempt_id for s in map(self._of_done, episodes) if s is not None]
            stored = learned_of_stored(self._folder, memory, done) if done else {}
            running = _Running(chain, memory, stored=stored)
            first = episodes[0]
            self._begun[first] = running
            self._chain_of |= dict.fromkeys(episodes, first)
            yield from self._play(first, running)

    def settled(self, outcome: Outcome) -> list[Task]:
        """The tasks that may run once a task of a chain has settled."""
        first = self._chain_of.get(outcome.task.id)
        running = None if first is None else self._begun.get(first)
        if first is None or running is None or outcome.task.id not in running.left:
            return []
        if outcome.status == "failed" and outcome.blame in (None, "infrastructure"):
            # What it would have left is unknown, so the next run continues from here.
            del self._begun[first]
            return []
        if outcome.status == "failed":
            running.left[outcome.task.id] = []
        elif outcome.result is not None:
            running.left[outcome.task.id] = list(outcome.result)
        else:  # the worker was lost after it had committed it
            attempt = outcome.task.attempt_id(self._epoch)
            found = learned_of_stored(self._folder, running.memory, [attempt])
            running.left[outcome.task.id] = found[attempt]
        if any(entries is None for entries in running.left.values()):
            return []
        self._advance(running)
        return list(self._play(first, running))

    def _play(self, first: str, running: _Running) -> Iterator[Task]:
        """The tasks of the next unsettled batch. Forgets a chain that has ended."""
        while running.at < len(running.chain.batches):
            batch = running.chain.batches[running.at]
            running.left = {link.episode_id: self._of_stored(running, link) for link in batch}
            tasks = [
                stream_task(
                    link.episode_id,
                    running.chain.cell,
                    running.chain.seeds,
                    link.case_id,
                    running.remembered,
                )
                for link in batch
                if running.left[link.episode_id] is None
            ]
            if any(map(self._skips, tasks)):
                break
            if tasks:
                yield from tasks
                return
            self._advance(running)
        self._begun.pop(first, None)

    def _advance(self, running: _Running) -> None:
        """Adds what the batch has left to the memory, in the order of the chain."""
        batch = running.chain.batches[running.at]
        new = [entry for link in batch for entry in running.left[link.episode_id] or ()]
        running.remembered = running.remembered.plus(new)
        running.at += 1

    def _of_stored(self, running: _Running, link: Link) -> list[str] | None:
        """The entries of a committed episode; None if it has not been played yet."""
        if link.episode_id not in self._done:
            return None
        stored = self._of_done(link.episode_id)
        if stored is None:
            return []  # it failed
        if stored.memory != running.remembered.digest:
            raise UsageError(
                f"the episode {link.episode_id} in {self._folder} was played with a memory "
                "that differs from what the dialogues before it leave now; set another `out` to "
                "play its stream"
            )
        return running.stored[stored.attempt_id]

    def _of_done(self, episode_id: str) -> StoredEpisode | None:
        """The attempt that counts, if the episode is settled and did not fail."""
        return self._stored.get(episode_id) if episode_id in self._done else None
