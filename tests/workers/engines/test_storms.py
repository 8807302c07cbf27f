"""Random sequences of kills, cuts and restarts: every call still ends exactly once.

Time is virtual, and a call that would wait forever is an error of the loop.
"""

import asyncio
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.core.errors import CallQuarantined
from tests import virtual_time
from tests.workers.engines.calls import Driver, client_of, retrying
from tests.workers.engines.connections import reply_to, request

pytestmark = pytest.mark.usefixtures("virtual_clock")


class Dialogues:
    """A process that plays dialogues; started again, it plays on from the last reply it had."""

    def __init__(self, name, count, room):
        self.name, self.room = name, room
        self.turns = dict.fromkeys((f"{name}.{i}" for i in range(count)), 0)
        self.client = client_of(room=room)
        self.tasks = {}

    def start(self, replicas):
        self.client = client_of(*replicas, room=self.room)
        self.tasks = {
            dialogue: asyncio.create_task(self._play(dialogue, self.client))
            for dialogue in self.turns
        }

    async def kill(self):
        """All at once, as with SIGKILL: what arrives after this is never seen."""
        for task in self.tasks.values():
            task.cancel()
        await self.client.close()

    async def _play(self, dialogue, client):
        while (turn := self.turns[dialogue]) < 4:
            words = f"{dialogue}.{turn}"
            reply, _ = await retrying(partial(client.ask, dialogue, request(words)), 100)
            assert reply == reply_to(words)
            self.turns[dialogue] += 1


EVENTS = st.lists(
    st.tuples(
        st.floats(0.01, 6, allow_nan=False),
        st.sampled_from(
            ["kill", "last words", "cancel", "cut", "kill all", "kill client", "restart client"]
        ),
        st.integers(0, 60),
    ),
    max_size=12,
)


@settings(max_examples=40)
@given(
    st.integers(1, 4),
    st.integers(1, 5),
    st.integers(1, 3),
    st.sampled_from([0, 0.001, 0.9]),
    EVENTS,
)
def test_in_any_storm_every_call_gets_its_own_reply_once_and_no_replica_more_than_its_room(
    count, room, processes, delay, events
):
    async def main():
        players = [Dialogues(f"p{i}", 24 // processes, room) for i in range(processes)]
        dead, cancelled = set(), set()
        driver = Driver([], count, room=room * processes, seconds=0.7, delay=delay)
        watching = asyncio.create_task(driver.run())
        for player in players:
            player.start(driver.up())
        driver.clients = [player.client for player in players]

        for wait, event, which in events:
            await asyncio.sleep(wait)
            there = driver.up()
            player = players[which % processes]
            if event == "cancel":
                dialogue = [*player.turns][which % len(player.turns)]
                player.tasks[dialogue].cancel()
                cancelled.add(dialogue)
            elif event == "kill all":
                for replica in there:
                    replica.die()
            elif event == "kill client":
                driver.forget(player.client)
                await player.kill()
                dead.add(player)
            elif event == "restart client":
                driver.forget(player.client)
                await player.kill()
                player.start(there)
                driver.clients.append(player.client)
                dead.discard(player)
                cancelled -= player.turns.keys()
            elif there and event == "cut":
                there[which % len(there)].cut()
            elif there:
                there[which % len(there)].die("storm", last_words=event == "last words")

        for player in players:
            found = await asyncio.gather(*player.tasks.values(), return_exceptions=True)
            for dialogue, one in zip(player.tasks, found, strict=True):
                if one is None:
                    assert player.turns[dialogue] == 4
                elif isinstance(one, asyncio.CancelledError):
                    assert player in dead or dialogue in cancelled
                else:
                    # One that was in three deaths in a row may be their cause.
                    assert isinstance(one, CallQuarantined)
                    assert len(events) >= 3
        await asyncio.sleep(100)  # cancelled ones are answered too
        watching.cancel()
        for player in players:
            assert not player.client._waiting
            assert not any(link.calls for link in player.client._links.values())
        for replica in driver.up():
            assert replica.inside == []
            assert len(replica.clients.connected) == processes - len(dead)

    virtual_time.run(main())
