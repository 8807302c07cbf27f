"""The memory of CSI: what is kept, how it is found, and that it holds no secrets."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from agents.core.agent import AgentContext
from agents.core.items import VisibleCase
from agents.core.memory import MEMORY, LearnedTurn
from agents.csi import CSI
from agents.csi.memory import KEY, Recall, SalesMemory
from agents.csi.steps import Profile
from agents.tools.retrieval import ITEM_VECTORS
from simulators.core.profiles import GROUPS
from simulators.domains.amazon_2023 import Amazon2023
from tests.agents.csi.harness import (
    CATALOGUE,
    OPENING,
    answered,
    context,
    offered,
    plan,
    prompt,
    replies,
)
from tests.agents.playing import play
from tests.fakes import FakeModel, make_ask
from tests.fixtures_amazon_2023 import (
    PATHS,
    profiles_of,
    rows,
    write_amazon_2023,
    write_profiles,
)

ONLINE = {"kind": "online"}
AGENT: Any = CSI
OPTIONS: Any = CSI.Options


def turn(
    action="persuade", shown=("B3",), accepted=None, over=None, key: str | None = "KEY", **fields
):
    extra = {KEY: {"profile": key, "vector": None}} if key else {}
    given = {"text": "Buy it.", "strategy": "framing", **fields}
    return LearnedTurn(given["text"], action, given["strategy"], shown, extra, accepted, over)


def entry(profile, strategy="framing", utterance="It is warm."):
    return {"profile": profile, "vector": None, "strategy": strategy, "utterance": utterance}


def profile(preference="blue denim", **changes):
    given = {k: v for k, v in plan("persuasion").items() if k not in ("thoughts", "action")}
    return Profile(**{**given, "preference": preference, **changes})


@pytest.mark.parametrize(
    ("turns", "kept"),
    [
        ([turn(accepted="B3", over=True)], "Buy it."),
        ([turn(accepted="B3", over=False)], None),  # in budget
        ([turn(accepted="B3", over=None)], None),  # an item without a price
        ([turn(), turn()], None),  # nothing is bought
        ([], None),
        # The user buys after a question: the persuasion before it counts.
        ([turn(text="First."), turn("ask", (), "B3", True, None)], "First."),
        # Another item was argued for last.
        ([turn(text="First."), turn(shown=("B5",), accepted="B3", over=True)], "First."),
        ([turn("recommend", accepted="B3", over=True, key=None)], None),  # no persuasion
    ],
)
def test_only_a_persuasion_that_sold_above_the_budget_is_kept(turns, kept):
    found = SalesMemory(1).learn(turns)
    assert [each["utterance"] for each in found] == ([] if kept is None else [kept])
    for each in found:
        assert each == {
            "profile": "KEY", "vector": None, "strategy": "framing", "utterance": kept,
        }  # fmt: skip


def test_the_nearest_by_squared_distance_come_first_and_older_ones_before_equal_ones():
    texts = ["red shoes", "blue denim jeans", "blue denim jeans", "blue denim", "a lamp"]
    recall = Recall([entry(text) for text in texts], "lexical")
    for k in (1, 3, 5, 9):
        ask = make_ask(FakeModel(lambda call: None), Path("prompts"))
        _, vector = asyncio.run(recall.key(profile(), ask))
        every = [((recall._keys[place] - vector) ** 2).sum() for place in range(5)]
        expected = sorted(range(5), key=lambda place: (every[place], place))[:k]
        assert recall.nearest(vector, k) == expected
    assert Recall([], "lexical").nearest(vector, 3) == []


def test_dense_keys_are_the_models_embeddings_and_are_recorded_whole():
    ask = make_ask(FakeModel(lambda texts: None), Path("prompts"))
    key, vector = asyncio.run(Recall([], "dense").key(profile(), ask))
    assert np.linalg.norm(vector) == pytest.approx(1)
    again = Recall([{**entry("x"), **key}], "dense")
    assert (again._keys[0] == vector).all()


@pytest.mark.parametrize(
    ("holds", "line"),
    [("utterance", "- social proof: Half the town has it."), ("strategy", "- social proof\n")],
)
def test_what_convinced_others_is_shown_to_the_model_that_persuades(holds, line):
    known = [entry("blue denim", "social_proof", "Half the town\nhas it."), entry("a lamp")]
    memory = {**ONLINE, "holds": holds, "k": 1}
    agent = AGENT(
        OPTIONS(memory=memory), AgentContext(CATALOGUE, VisibleCase("u1", ()), 2, {MEMORY: known})
    )
    answered(agent, replies("item_suggestion"), OPENING)
    found, calls = answered(agent, replies("persuasion"), OPENING, *offered(0, 1))
    words = prompt(calls, "sell")
    assert "What convinced similar users" in words and line in words
    assert "lamp" not in words and "It is warm" not in words
    assert found.extra["recalled"] == [0]
    assert set(found.extra[KEY]) == {"profile", "vector"}
    assert "THOUGHTS" not in found.extra[KEY]["profile"]
    assert "B1" not in found.extra[KEY]["profile"]  # items are not part of a profile


def test_without_entries_nothing_is_shown_but_the_key_is_recorded():
    agent = AGENT(OPTIONS(memory=ONLINE), context())
    answered(agent, replies("item_suggestion"), OPENING)
    found, calls = answered(agent, replies("persuasion"), OPENING, *offered(0, 1))
    assert "What convinced users" not in prompt(calls, "sell")
    assert found.extra["recalled"] == []
    assert "preference: blue denim" in found.extra[KEY]["profile"]


def test_options_of_the_memory():
    assert AGENT.memory(OPTIONS()) is None
    found = AGENT.memory(OPTIONS(memory=ONLINE, memory_batch=10))
    assert found is not None and found.batch == 10
    with pytest.raises(ValidationError, match="searched by the profile"):
        OPTIONS(memory=ONLINE, profile=False)
    wrongs = (
        {"kind": "both"},
        {"kind": "online", "k": 0},
        {"kind": "online", "holds": "x"},
        {"kind": "online", "size": 25},
        {"kind": "offline"},
    )
    for wrong in wrongs:
        with pytest.raises(ValidationError):
            OPTIONS(memory=wrong)
    assert OPTIONS().identity() == {}
    assert OPTIONS(memory=ONLINE).identity() == {"memory": {"kind": "online"}}


def test_an_offline_memory_is_collected_by_the_same_agent_without_entries():
    memory = {"kind": "offline", "size": 25, "holds": "strategy"}
    options = OPTIONS(memory=memory, retriever="dense")
    assert AGENT.memory(options) is None  # no stream
    recipe = AGENT.needs(options)[MEMORY]
    assert set(recipe.inputs()) == {ITEM_VECTORS}
    assert recipe.identity() == AGENT.needs(OPTIONS(memory={**memory, "k": 9}))[MEMORY].identity()
    played = OPTIONS(**recipe.options({"memory": memory, "planning": "two_calls"}))
    assert (played.planning, played.memory.kind) == ("two_calls", "online")
    assert MEMORY not in AGENT.needs(played)


def echo(call: Any) -> dict[str, Any]:
    """Suggests items, then persuades, and repeats its prompt wherever a reply has room.

    As the user, it says none of what its prompt says.
    """
    if call.role == "user":
        if call.step.name == "open":
            return {"words": "I want something to wear."}
        return {"reason": "Not yet.", "buys": [], "words": "Tell me more."}
    heard = call.messages[0].content.partition("The conversation so far:")[2]
    heard = " ".join(heard.split())
    given = replies(
        "persuasion" if call.turn > 1 else "item_suggestion",
        preference=heard[:500],
        personality=heard[-300:],
        category_path=[heard[300:400] or heard[:100]],
        price_range=[],
    )  # fmt: skip
    return given[call.step.name]


@pytest.mark.parametrize("planning", ["one_call", "two_calls"])
def test_a_key_of_the_memory_holds_nothing_that_the_user_did_not_say(tmp_path, planning):
    """Of no user, even where the model repeats all that it reads."""
    data = write_amazon_2023(tmp_path / "data", rows(users=60))
    users = sorted({row.user for row in rows(users=60)})
    marked = [
        {
            **one,
            "general_preference": f"PREFERENCE-{n}-",
            "target_needs": f"NEEDS-{n}-",
            "purchase_reasons": [f"REASON-{n}-"],
            "category_path": [*PATHS[0][:-1], f"CATEGORY-{n}-"],
            "budget": [11.11 + n, 77.77 + n],  # prices of items end with .99
        }
        for n, one in enumerate(profiles_of(users))
    ]
    profiles = write_profiles(tmp_path / "profiles.jsonl", marked)
    options: Any = Amazon2023.Options(path=str(data), profiles=str(profiles), train_users=0)
    domain = Amazon2023(options)
    ids, groups = domain.case_ids("test"), set()
    for case_id in ids:
        transcript, log = play(
            CSI, "csi", domain, case_id, FakeModel(echo), turns=3, user="csuser",
            of_user={"states_budget": False}, memory=ONLINE, planning=planning,
        )  # fmt: skip
        found = domain.case("test", case_id).hidden.profile
        assert found is not None
        groups |= {(found.style, found.openness)}
        secrets = [
            found.general_preference, found.target_needs, *found.purchase_reasons,
            found.category_path[-1], *(f"{price:.2f}" for price in found.budget),
        ]  # fmt: skip
        read = {"agent": [], "user": []}
        for record in log.records:
            read[record.call.role].append(record.call.messages[0].content)
        keys = [agent.extra[KEY]["profile"] for agent, *_ in transcript.turns if KEY in agent.extra]
        assert len(keys) == 2
        assert all("I want something to wear." in key for key in keys)
        assert all(secret in read["user"][-1] for secret in secrets)
        for words in (*keys, *read["agent"]):
            assert not any(secret in words for secret in secrets)
    assert len(ids) == 60
    assert len(groups) == len(GROUPS["openness"]) * len(GROUPS["style"])
