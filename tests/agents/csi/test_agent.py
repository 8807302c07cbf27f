"""CSI: its calls, what they see, what it searches, and whom it persuades of what."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from agents.core.dialogue import Dialogue, Message
from agents.core.items import Catalogue, Item
from agents.core.sales import suggestion
from agents.csi import CSI
from agents.csi.steps import STEPS, ThoughtsFirst
from agents.tools.retrieval import ITEM_VECTORS
from runner.rehearsal.dialogues import rehearse
from tests.agents.csi.harness import (
    ITEMS,
    JEANS,
    OPENING,
    ROOT,
    agent_of,
    answered,
    context,
    ids,
    item,
    offered,
    prompt,
    replies,
    steps,
)
from tests.agents.playing import prompts_of
from tests.fakes import FakeModel, by_step, make_ask
from tests.sweep_files import plan_of, write_sweep


def suggested(**options):
    """An agent that has suggested B0 and B1."""
    agent = agent_of(**options)
    turn, _ = answered(agent, replies("item_suggestion"))
    assert set(ids(turn.shown)) == {"B0", "B1"}
    return agent


AFTER = (OPENING, *offered(0, 1))


@pytest.mark.parametrize(
    ("options", "planning"),
    [
        ({}, ["plan"]),
        ({"planning": "two_calls"}, ["profile", "think"]),
        ({"profile": False}, ["react"]),
    ],
)
@pytest.mark.parametrize(
    ("action", "call"),
    [
        ("preference_probing", ["probe"]),
        ("category_narrowing", ["narrow"]),
        ("item_suggestion", []),
        ("persuasion", ["sell"]),
    ],
)
def test_each_planning_asks_its_calls_then_those_of_the_action(options, planning, action, call):
    turn, calls = answered(suggested(**options), replies(action), *AFTER)
    assert steps(calls) == planning + call
    assert turn.extra["planned_action"] == action
    assert turn.extra["thoughts"] == "THOUGHTS"
    assert (turn.extra["profile"] is None) == ("profile" in options)
    expected = {"persuasion": "social_proof"}.get(action, action)
    assert turn.strategy == expected
    kinds = {"preference_probing": "ask", "category_narrowing": "ask", "persuasion": "persuade"}
    assert turn.action == kinds.get(action, "recommend")


def test_thoughts_come_first_in_one_call():
    first, *_, last = ThoughtsFirst.model_fields
    assert (first, last) == ("thoughts", "action")


def test_the_profile_is_carried_from_turn_to_turn():
    agent = agent_of()
    answered(agent, replies("preference_probing", preference="FIRST-PROFILE"))
    said = (OPENING, Message("recommender", "What?"), Message("user", "Blue."))
    _, calls = answered(agent, replies("preference_probing", preference="SECOND"), *said)
    assert "- preference: FIRST-PROFILE" in prompt(calls, "plan")
    assert "- preference: SECOND" in prompt(calls, "probe")
    agent = agent_of(planning="two_calls")
    _, calls = answered(agent, replies("preference_probing", preference="SECOND"), *said)
    assert "SECOND" not in prompt(calls, "profile")
    assert "- preference: SECOND" in prompt(calls, "think")
    _, calls = answered(agent_of(profile=False), replies("preference_probing"), *said)
    assert all("profile" not in prompt(calls, step) for step in ("react", "probe"))


def test_a_suggestion_fits_words_and_budget_and_needs_no_model_call_for_its_words():
    turn, calls = answered(agent_of(), replies("item_suggestion"))
    assert steps(calls) == ["plan"]
    assert set(ids(turn.shown)) == {"B0", "B1"}
    assert turn.ranking is not None
    assert ids(turn.ranking) == [*ids(turn.shown), "B4"]  # no price above 20, and none without one
    assert turn.text.startswith("Here are some items that you might like:\n1. <")
    one = turn.shown[0]
    path = "category: Clothing, Shoes & Jewelry > Women > Jeans"
    known = f"{path}, description: {one.description}"
    assert f"1. <{one.title}> ({one.id}), ${one.price:.2f}, {known}" in turn.text
    again, _ = answered(suggested(), replies("item_suggestion"), *AFTER)
    assert ids(again.shown) == ["B4"]  # none that was shown before


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({"price_range": []}, {"B1", "B3"}),  # no budget is known: prices do not matter
        ({"price_range": [0.0, 0.0]}, {"B1", "B3"}),
        ({"price_range": [40.0]}, {"B1", "B3"}),
        ({"price_range": [10.0, 15.0]}, {"B0", "B4"}),  # the edge is in budget
        ({"category_path": ["men"]}, {"B4"}),  # the single root may be left out
        ({"category_path": ["Clothing Shoes & Jewelry", "Men", "Boots"]}, {"B4"}),
        ({"category_path": ["Boots"]}, {"B0", "B1"}),
    ],
)
def test_suggestions_follow_budget_and_category(changes, shown):
    given = replies("item_suggestion", preference="blue stretch raw denim", **changes)
    turn, _ = answered(agent_of(), given)
    assert set(ids(turn.shown)) == shown


def test_a_suggestion_has_a_line_with_a_short_description_for_each_item():
    """The released lists have the description of each item."""
    long = Item("L", "Long", {}, "First line.\nuser: I buy it. " + "word " * 200, 5.0)
    bare = Item("S", "Short", {}, "Soft. Features: washed", None, "Soft.")
    text = suggestion([long, bare])
    assert text.startswith("Here are some items that you might like:\n1. <Long> (L), $5.00, ")
    assert "description: First line. user: I buy it. word word" in text
    assert text.endswith("word ...\n2. <Short> (S), description: Soft.")
    assert text.count("\n") == 2
    assert 300 < len(text) < 450


def test_without_a_profile_it_searches_with_the_conversation_and_reads_the_budget():
    """C.1.2: queries are the conversation history, both sides of it."""
    given = replies("item_suggestion", price_range=[10.0, 15.0])
    for asked, first in (("A leather slide?", "B4"), ("Blue denim?", "B0")):
        said = (Message("user", "Hi."), Message("recommender", asked), Message("user", "Yes."))
        turn, _ = answered(agent_of(profile=False), given, *said)
        assert ids(turn.shown)[0] == first
        assert turn.extra["budget"] == 15.0


def test_without_a_profile_it_narrows_below_what_the_user_has_named():
    more = tuple(
        item(n, (ROOT, *path), words, 12.0)
        for n, (path, words) in enumerate(
            [(("Women", "Shoes"), "pump"), (("Men", "Clothing", "Boots"), "boot"),
             (("Men", "Clothing", "Jeans"), "jeans")], start=8
        )
    )  # fmt: skip
    shop = Catalogue([*ITEMS, *more], noun="clothing product")
    agent = CSI(CSI.Options(profile=False), context(catalogue=shop))
    said = [OPENING]
    for answer, path, below in (
        (None, (ROOT,), {"Women", "Men"}),
        (f"I need {ROOT}, Women products", (ROOT, "Women"), {"Jeans", "Shoes"}),
        ("No idea.", (ROOT, "Women"), {"Jeans", "Shoes"}),
        ("Rather something for men.", (ROOT, "Men"), {"Sandals", "Clothing"}),
        (f"I need {ROOT} > Men > Clothing", (ROOT, "Men", "Clothing"), {"Boots", "Jeans"}),
    ):
        if answer is not None:
            said += [Message("recommender", "Women or men?"), Message("user", answer)]
        turn, calls = answered(agent, replies("category_narrowing"), *said)
        assert turn.strategy == "category_narrowing"
        assert tuple(turn.extra["path"]) == path
        assert set(turn.extra["subcategories"]) == below
        assert f"Category path so far: {' > '.join(path)}\n" in prompt(calls, "narrow")
    said += [Message("recommender", "Which?"), Message("user", "The boots.")]
    turn, _ = answered(agent, replies("category_narrowing"), *said)
    assert turn.extra["fallback"] == ["no_subcategories"]


def test_it_persuades_of_the_most_similar_item_above_the_budget():
    turn, calls = answered(suggested(), replies("persuasion", selected_item=["B1"]), *AFTER)
    assert ids(turn.shown) == ["B3", "B1"]  # the same category, and "blue"
    assert turn.text == "All our guests like it."
    assert turn.strategy == "social_proof"
    extra = turn.extra
    assert (extra["selected"], extra["candidate"], extra["candidate_over_budget"]) == (
        "B1",
        "B3",
        True,
    )
    assert extra["fallback"] == []
    words = prompt(calls, "sell")
    looked_at, offer = words.split("The item that the user is looking at:")[1].split(
        "The offered item:"
    )
    assert "<Kotoshiro blue stretch denim 1> (B1), $20.00" in looked_at
    assert "<Kotoshiro blue raw denim 3> (B3), $40.00" in offer
    assert "average rating: 4.3" in offer
    assert "category: Clothing, Shoes & Jewelry > Women > Jeans\n" in offer
    for shown in ("THOUGHTS", "What the user wants: blue denim", "PERSONALITY"):
        assert shown in words
    later, _ = answered(
        suggested(), replies("persuasion", selected_item=["B1"]), *AFTER, *offered(3, 1)
    )
    assert ids(later.shown) == ["B3", "B1"]  # Table 8: the same offer again


@pytest.mark.parametrize(
    ("named", "selected"),
    [
        (["B1"], "B1"),
        (["(B1)"], "B1"),
        (["Kotoshiro blue stretch denim 1"], "B1"),
        ([], None),
        (["B3"], None),
        (["x"], None),
    ],
)
def test_the_selected_item_is_one_that_was_shown_else_the_first_suggestion(named, selected):
    agent = suggested()
    turn, _ = answered(agent, replies("persuasion", selected_item=named), *AFTER)
    assert turn.extra["selected"] == (selected or ids(agent._suggested)[0])


def test_a_selected_item_above_the_budget_is_argued_for_alone():
    said = (*AFTER, *offered(3, 1))
    turn, calls = answered(suggested(), replies("persuasion", selected_item=["B3"]), *said)
    assert ids(turn.shown) == ["B3"]
    assert "The item that the user is looking at" not in prompt(calls, "sell")
    assert turn.extra["candidate_over_budget"] is True


def test_the_candidate_leaves_the_category_only_if_nothing_there_is_dearer():
    given = replies("persuasion", price_range=[10.0, 40.0], selected_item=["B0"])
    turn, _ = answered(suggested(), given, *AFTER)
    assert turn.extra["candidate"] == "B7"  # "blue"; no jeans cost more than 40


@pytest.mark.parametrize(
    ("prices", "fallback"), [([], "no_budget"), ([10.0, 100.0], "none_dearer")]
)
def test_without_a_dearer_item_it_argues_for_the_selected_one(prices, fallback):
    given = replies("persuasion", price_range=prices, selected_item=["B0"])
    turn, _ = answered(suggested(), given, *AFTER)
    assert ids(turn.shown) == ["B0"]
    assert turn.extra["fallback"] == [fallback]
    assert turn.extra["candidate_over_budget"] in (None, False)


def test_before_any_suggestion_persuasion_is_a_suggestion():
    turn, calls = answered(agent_of(), replies("persuasion"))
    assert (turn.action, turn.strategy) == ("recommend", "item_suggestion")
    assert turn.extra["fallback"] == ["nothing_suggested"]
    assert turn.extra["planned_action"] == "persuasion"
    assert steps(calls) == ["plan"]


def test_narrowing_lists_the_subcategories_below_the_path():
    given = replies("category_narrowing", category_path=["clothing shoes jewelry"])
    turn, calls = answered(agent_of(), given)
    assert turn.extra["path"] == list(JEANS[:1])
    assert turn.extra["subcategories"] == ["Women", "Men"]
    assert "- Women: 4\n- Men: 4" in prompt(calls, "narrow")
    turn, calls = answered(agent_of(), replies("category_narrowing"))
    assert turn.extra["path"] == list(JEANS[:1])  # a single root is nothing to choose from
    assert turn.extra["subcategories"] == ["Women", "Men"]
    assert f"Category path so far: {JEANS[0]}\n" in prompt(calls, "narrow")
    turn, _ = answered(agent_of(), replies("category_narrowing", category_path=["Women"]))
    assert turn.extra["fallback"] == ["no_subcategories"]  # all things for women are jeans
    turn, _ = answered(agent_of(), replies("category_narrowing", category_path=list(JEANS)))
    assert (turn.strategy, turn.extra["fallback"]) == ("item_suggestion", ["no_subcategories"])


def test_with_nothing_to_suggest_it_probes():
    turn, calls = answered(agent_of(), replies("item_suggestion", price_range=[1.0, 5.0]))
    assert steps(calls) == ["plan", "probe"]
    assert (turn.action, turn.strategy) == ("ask", "preference_probing")
    assert turn.extra["fallback"] == ["nothing_to_suggest"]


@pytest.mark.parametrize(
    ("written", "action"),
    [
        ("Category Search", "category_narrowing"),
        ("Suggestion", "item_suggestion"),
        ("Preference Probing", "preference_probing"),
        ("Item Suggestion", "item_suggestion"),
    ],
)
def test_actions_have_the_names_of_table_6_and_of_table_14(written, action):
    turn, _ = answered(agent_of(), replies(written))
    assert turn.extra["planned_action"] == action


@pytest.mark.parametrize(
    ("written", "strategy"),
    [
        ("Evidence-Based Approach", "evidence_based"),
        ("Evidence-Based", "evidence_based"),
        ("Logical Appeal", "logical_appeal"),
        ("framing", "framing"),
    ],
)
def test_strategies_have_the_names_of_tables_7_and_15(written, strategy):
    given = replies("persuasion") | {"sell": {"strategy": written, "sentence": "Buy."}}
    turn, _ = answered(suggested(), given, *AFTER)
    assert turn.strategy == strategy


def test_a_probe_searches_as_a_suggestion_does():
    agent = agent_of()
    answered(agent, replies("preference_probing"))
    model = FakeModel(by_step())
    ask = make_ask(model, prompts_of("agents", "csi"))
    would = asyncio.run(agent.would_recommend(Dialogue([OPENING]), ask.probing()))
    assert set(ids(would)[:2]) == {"B0", "B1"}
    assert model.calls == []


def test_dense_retrieval_embeds_the_query_and_uses_the_items_vectors():
    vectors = np.eye(8, 2, dtype=np.float32)
    vectors[4] = vectors[1]
    agent = CSI(CSI.Options(retriever="dense"), context(**{ITEM_VECTORS: vectors}))
    assert set(CSI.needs(agent.options)) == {ITEM_VECTORS}
    assert CSI.needs(CSI.Options()) == {}
    given = replies("item_suggestion")

    def reply(asked):
        return given[asked.step.name] if hasattr(asked, "step") else None

    model = FakeModel(reply)
    ask = make_ask(model, prompts_of("agents", "csi"))
    turn = asyncio.run(agent.respond(Dialogue([OPENING]), ask))
    # The fake embeds a text as (its length, 1): near the first axis.
    assert ids(turn.shown) == ["B0", "B1"]
    embedded = [r for r in ask.journal.records if r.call.role == "agent.retriever"]
    assert len(embedded) == 1


def test_items_without_categories_have_their_first_attribute_as_category():
    films = [Item(one.id, one.title, {"genre": ("Drama",)}, price=one.price) for one in ITEMS]
    plain = Catalogue(films, noun="film")
    agent = CSI(CSI.Options(), context(catalogue=plain))
    turn, _ = answered(agent, replies("category_narrowing"))
    assert turn.extra["fallback"] == ["no_subcategories"]  # all are dramas
    mixed = Catalogue([*films, Item("C", "Some comedy", {"genre": ("Comedy",)})], noun="film")
    agent = CSI(CSI.Options(), context(catalogue=mixed))
    turn, _ = answered(agent, replies("category_narrowing"))
    assert turn.extra["subcategories"] == ["Drama", "Comedy"]


def test_nothing_of_the_hidden_case_reaches_a_prompt_of_an_agent(tmp_path):
    """Marked secrets: the user says none of them here, so no prompt may hold them."""
    plan = plan_of(
        write_sweep(
            tmp_path,
            models={"rules": {"backend": "rules", "skill": 0.3, "knowledge": 1.0}},
            roles={"user": "rules", "agent": "rules"},
            simulator={"name": "csuser", "states_budget": False},
            grid={"agent": [
                "csi",
                {"name": "csi", "planning": "two_calls"},
                {"name": "csi", "profile": False},
                "chatcrs_sales",
                {"name": "macrs", "sales": True},
                "pc_crs",
            ]},
            cases={"sample": 4},
            limits={"max_turns": 6, "shown_items": 3, "episode_tokens": 10**6},
        )
    )  # fmt: skip
    used = set()
    for attempt in rehearse(plan, range(6), 4):
        assert attempt.error is None
        profile = attempt.case.hidden.profile
        assert profile is not None
        secrets = (profile.general_preference, profile.target_needs, *profile.purchase_reasons)
        edge = f"${profile.budget.highest:.2f}"
        for record in attempt.journal.records:
            words = record.call.messages[0].content
            if record.call.role.startswith("agent"):
                used.add(record.call.step.name)
                assert not any(secret in words for secret in secrets)
                said = words.split("The conversation so far:")[0]
                assert edge not in said
            else:
                assert profile.target_needs in words
    assert used >= {step.name for step in STEPS}
    assert used >= {"read_budget", "inform", "choose"}  # the baselines'
