"""Keys of calls: a reply is replayed only for a request that is sent byte for byte as it was."""

import asyncio
import hashlib
import json
from functools import cache

import pytest

from agents.core.calls import Call, Completion
from runner.rehearsal.dialogues import rehearse
from tests.fakes import FakeModel
from tests.sweep_files import plan_of, write_sweep
from workers.cache.client import CallCache, in_process
from workers.cache.entries import encode
from workers.cache.owner import CallOwner
from workers.cache.store import CallStore, Places

MODEL = FakeModel(lambda call: "")
AGENTS = ["react", "macrec", "interecagent", "chatcrs", "llmcrs", "rah", "zero_shot"]
"""All but af_irs, whose dialogues need a tree; its steps are looked at in `test_steps`."""


def old_schema(call: Call) -> str:
    """The reply's schema as commit 7d24609 sent it: with sorted keys."""
    return json.dumps(call.step.schema, sort_keys=True, separators=(",", ":"))


def old_key(call: Call) -> bytes:
    """The key of a call as commit 7d24609 made it."""
    parts = (MODEL.identity, old_schema(call), str(call.seed), call.messages_json)
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=16).digest()


@pytest.fixture(scope="module")
def calls(tmp_path_factory) -> list[Call]:
    """Every call of some dialogues of each agent, user's calls too."""
    path = write_sweep(
        tmp_path_factory.mktemp("keys"),
        grid={"agent": AGENTS},
        roles={"user": "strong", "agent": "weak"},
        cases={"sample": 2},
    )
    plan = plan_of(path, probe=True)
    played = rehearse(plan, range(len(plan.cells)), 2)
    assert [attempt.error for attempt in played] == [None] * 2 * len(AGENTS)
    return [record.call for attempt in played for record in attempt.journal.records]


@cache
def old_reply(name: str) -> bytes:
    return encode(Completion(f"a reply of {name} in the old order", "stop"))


@pytest.mark.parametrize("kept_in", ["cache", "journal"])
def test_no_reply_written_in_another_order_of_fields_is_ever_replayed(tmp_path, calls, kept_in):
    places = Places(tmp_path / "sweep", tmp_path / "shared", True, 1, 1)
    old = CallStore(places, 0)
    entries = [(old_key(call), old_reply(call.step.name)) for call in calls]
    old.write(entries)
    old.index(entries)
    if kept_in == "cache":
        old.seal()
        for path in (tmp_path / "sweep" / "journal").iterdir():
            path.unlink()
    old.close()
    assert len(CallStore(places, 0).find([key for key, _ in entries])) == len({*dict(entries)})

    changed = [call for call in calls if old_schema(call) != call.step.schema_json]
    steps = {call.step.name for call in changed}
    assert {"think", "open", "plan", "profile", "goal", "answer", "judge"} <= steps

    async def ask() -> list[Completion]:
        owner = CallOwner(CallStore(places, 0))
        replies = CallCache([in_process(owner)])

        async def made() -> Completion:
            return Completion("made now", "stop")

        return [await replies.reply(call.key(MODEL), None, made) for call in changed]

    assert {done.text for done in asyncio.run(ask())} == {"made now"}
