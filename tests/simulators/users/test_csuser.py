"""CSUSER: what its prompts show of the profile, what it can buy, and what is recorded."""

import asyncio
import itertools
import json
import math
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from agents.core.dialogue import Dialogue, Message
from agents.core.errors import ReplyInvalid, UsageError, UserError
from agents.core.items import Catalogue, Item, VisibleCase
from runner.rehearsal.dialogues import rehearse
from simulators.core.cases import Case, HiddenCase
from simulators.core.profiles import BuyerBudget, BuyerProfile
from simulators.core.user import UserContext
from simulators.users import csuser
from simulators.users.csuser import CSUser
from tests.agents.playing import prompts_of
from tests.fakes import FakeModel, by_step, make_ask
from tests.fixtures_amazon_2023 import write_amazon_2023
from tests.sweep_files import plan_of, write_sweep

PROMPTS = prompts_of("simulators.users", "csuser")
PATH = ("Clothing", "Women", "Jeans")
PRICES = (19.99, 16.0, 20.0, None)
ITEMS = tuple(
    Item(f"B0{n}", f"Denim number {n}", {"category": PATH, "average rating": ("4.3",)}, "Soft.", p)
    for n, p in enumerate(PRICES)
)
CATALOGUE = Catalogue(ITEMS, noun="clothing product")
PROFILE = BuyerProfile(
    "MARK-PREFERENCE",
    "MARK-NEEDS",
    ("MARK-REASON",),
    PATH,
    BuyerBudget(16.99, 19.99),
    "Dependent",
    "Passive",
)
MARKS = {
    "general_preference": "MARK-PREFERENCE",
    "target_needs": "MARK-NEEDS",
    "purchase_reason": "MARK-REASON",
    "personality": "You rely on other people",
}


def user_of(profile: BuyerProfile | None = PROFILE, **options: Any) -> CSUser:
    case = Case(VisibleCase("u1", ()), HiddenCase((ITEMS[1],), profile))
    checked: Any = CSUser.Options(**options)
    return CSUser(checked, UserContext(CATALOGUE, case))


def replied(model, *turns, **options):
    """The reply after the recommender showed each of `turns`, the user answering between."""
    said = [Message("user", "hello")]
    for shown in turns:
        said += [Message("recommender", "look", shown), Message("user", "hm")]
    return asyncio.run(user_of(**options).reply(Dialogue(said[:-1]), make_ask(model, PROMPTS)))


def offer(item: int, *turns: int) -> dict[str, Any]:
    """The record of an offer: `ITEMS[item]`, shown in these turns."""
    return {
        "item": f"B0{item}",
        "price": PRICES[item],
        "over_budget": (False, False, True, None)[item],
        "shown_in": list(turns),
    }


def buying(*named, **more):
    reply = {"reason": "Because.", "buys": list(named), "words": "well", **more}
    return FakeModel(by_step(decide=reply, answer={"words": "well"}))


def test_the_opening_ends_with_the_price_range_and_records_what_it_knew():
    model = FakeModel(by_step(open={"words": "I want jeans. "}))
    turn = asyncio.run(user_of().open(make_ask(model, PROMPTS)))
    assert turn.text == "I want jeans. My expected price range is $16.99 to $19.99."
    assert turn.extra["knew"] == {
        "targets": [],
        "facts": ["category: Clothing > Women > Jeans"],
        "budget": [16.99, 19.99],
        "components": ["general_preference", "purchase_reason", "target_needs", "personality"],
        "openness": "Passive",
        "style": "Dependent",
    }
    prompt = model.calls[0].messages[0].content
    assert all(mark in prompt for mark in MARKS.values())
    assert "- level 1: Clothing\n- level 2: Women\n- level 3: Jeans\n" in prompt
    assert "$16.99 to $19.99" in prompt
    assert ITEMS[1].title not in prompt  # the target
    silent = asyncio.run(user_of(states_budget=False).open(make_ask(model, PROMPTS)))
    assert silent.text == "I want jeans. "


SWITCHES = [name for name, field in CSUser.Options.model_fields.items() if field.annotation is bool]


@pytest.mark.parametrize("given", list(itertools.product((True, False), repeat=len(MARKS))))
@pytest.mark.parametrize("other", [{}, {"may_leave": True}, {"states_budget": False}])
def test_its_portrait_and_each_of_its_prompts_say_the_same_facts(given, other):
    """In the order of the prompt; only the category path, a list there, is written otherwise."""
    options = {**dict(zip(MARKS, given, strict=True)), **other}
    assert set(SWITCHES) == {*MARKS, "may_leave", "states_budget", "records_similarity"}
    lines = list(user_of(**options).portrait())
    kept = [name for name, on in options.items() if on and name in MARKS]
    about = [name for name in MARKS if name != "personality" and name in kept]
    assert len(lines) == len(about) + 2 + 2 * ("personality" in kept)
    for name, mark in MARKS.items():
        assert any(mark in line for line in lines) == (name in kept)
    for prompt in three_prompts(**options):
        profile = prompt.split("\nYour profile:\n")[1].split("\n\n")[0]
        path = [f"- level {level}: {name}" for level, name in enumerate(PATH, 1)]
        listed = "\n".join(("Your category path:", *path))
        assert listed in profile
        said = profile.replace(listed, f"Your category path: {' > '.join(PATH)}").splitlines()
        traits = [line for line in lines if line not in said]
        assert [*said, *traits] == lines
        assert all(f"\n- {trait}\n" in prompt for trait in traits)
        assert len(traits) == 2 * ("personality" in kept)
        # No trait of any kind is left in a prompt that the portrait does not have.
        for trait in (*csuser._OPENNESS.values(), *csuser._STYLES.values()):
            assert (trait in prompt) == (trait in lines)


def three_prompts(**options: Any) -> list[str]:
    """The prompts of the opening, an answer before any item was shown, and a decision."""
    said: dict[str, Any] = {"words": "well"} | (
        {"leaves": False} if options.get("may_leave") else {}
    )
    decided = {"reason": "Because.", "buys": [], **said}
    model = FakeModel(by_step(open={"words": "I want jeans."}, answer=said, decide=decided))
    asyncio.run(user_of(**options).open(make_ask(model, PROMPTS)))
    replied(model, (), **options)
    replied(model, ITEMS[:1], **options)
    return [call.messages[0].content for call in model.calls]


def test_similarity_is_the_cosine_of_what_the_role_user_retriever_embeds():
    texts: dict[str, list[str]] = {}

    def reply(call: Any) -> Any:
        if isinstance(call, list):
            texts["embedded"] = call
            return None
        return {"reason": "Because.", "buys": ["B00"], "words": "well"}

    options = {"records_similarity": True, "similarity": "dense"}
    turn = replied(FakeModel(reply), ITEMS[:1], **options)
    lengths = [len(text) for text in texts["embedded"]]
    assert ITEMS[1].title in texts["embedded"][0]  # the latest target
    assert ITEMS[0].title in texts["embedded"][1]
    # The fake embeds a text as (its length, 1).
    a, b = (np.array([length, 1]) / math.hypot(length, 1) for length in lengths)
    assert turn.extra["target_similarity"] == pytest.approx(float(a @ b), abs=1e-6)
    checked: Any = CSUser.Options(**options)
    assert CSUser.roles_of(checked) == ("user", "user.retriever")
    assert CSUser.roles_of(CSUser.Options()) == ("user",)
    with pytest.raises(ValidationError, match="records_similarity: true"):
        CSUser.Options(similarity="dense")


@pytest.mark.parametrize("component", MARKS)
def test_an_ablation_leaves_its_component_out_and_nothing_else(component):
    model = buying()
    replied(model, ITEMS[:1], **{component: False})
    prompt = model.calls[0].messages[0].content
    assert [name for name, mark in MARKS.items() if mark not in prompt] == [component]
    assert ("You say little" in prompt) == (component != "personality")
    # What an instruction builds on is there.
    assert ("reasons for buying" in prompt) == (component != "purchase_reason")
    assert ("how you make decisions" in prompt) == (component != "personality")


def test_without_reasons_and_personality_nothing_says_what_to_decide_by():
    model = buying()
    replied(model, ITEMS[:1], purchase_reason=False, personality=False)
    assert "Base your decision" not in model.calls[0].messages[0].content
    assert "\n\n\n" not in model.calls[0].messages[0].content


def test_a_category_path_is_shown_as_one_because_its_names_have_commas():
    path = ("Clothing, Shoes & Jewelry", "Women", "Jeans")
    item = Item("B09", "Denim number 9", {"category": path, "store": ("Acme, Inc.",)}, "", 5.0)
    model = buying()
    replied(model, (item,))
    prompt = model.calls[0].messages[0].content
    assert "  category: Clothing, Shoes & Jewelry > Women > Jeans\n  store: Acme, Inc.\n" in prompt


@pytest.mark.parametrize(
    ("item", "over"),
    [(0, False), (1, False), (2, True), (3, None)],
    ids=["price equal to the budget's edge", "below the range", "above it", "no price"],
)
def test_a_purchase_is_recorded_with_its_price_and_the_budget(item, over):
    turn = replied(buying(f"B0{item}"), ITEMS[:2], (), ITEMS[:1] + ITEMS[2:])
    assert (turn.decision, turn.accepted) == ("accept", ITEMS[item])
    assert turn.extra == {
        "why": "Because.",
        "offers": [offer(0, 1, 3), offer(1, 1), offer(2, 3), offer(3, 3)],
        "bought_by": "id",
        "price": PRICES[item],
        "over_budget": over,
        "budget": [16.99, 19.99],
        "shown_in": {0: [1, 3], 1: [1], 2: [3], 3: [3]}[item],
        "accepted_target": item == 1,
    }


@pytest.mark.parametrize("named", ["B03", "Denim number 3", "B99", "", "STOP", "the jeans"])
def test_what_was_never_shown_cannot_be_bought_and_is_recorded(named):
    if not named:  # an empty ID is no ID
        with pytest.raises(ReplyInvalid):
            replied(buying(named), ITEMS[:2])
        return
    turn = replied(buying(named), ITEMS[:2])
    assert (turn.decision, turn.accepted) == ("refuse", None)
    assert turn.extra == {
        "why": "Because.",
        "offers": [offer(0, 1), offer(1, 1)],
        "refused_purchase": named,
    }


def test_a_refusal_is_recorded_with_all_offers_so_far():
    turn = replied(buying(), ITEMS[:1], (), ITEMS[2:])
    assert turn.decision == "refuse"
    assert turn.extra == {"why": "Because.", "offers": [offer(0, 1), offer(2, 3), offer(3, 3)]}
    # Nothing is offered in the last turn: it decides about what it was shown before.
    turn = replied(buying(), ITEMS[:1], ())
    assert (turn.decision, turn.extra["offers"]) == ("answer", [offer(0, 1)])
    # Before the first offer it decides about nothing.
    assert replied(FakeModel(by_step(answer={"words": "Blue."})), ()).extra == {}


@pytest.mark.parametrize("named", ["(B01)", " B01 ", "Denim number 1", "denim NUMBER 1"])
def test_an_item_is_also_known_by_its_title(named):
    turn = replied(buying(named), ITEMS[:2])
    assert turn.accepted == ITEMS[1]
    assert turn.extra["bought_by"] == ("title" if "enim" in named else "id")


def test_the_word_stop_buys_nothing():
    """The authors' code takes any STOP for a sale."""
    model = buying(words="I am done. ##STOP##")
    turn = replied(model, ITEMS[:2])
    assert (turn.decision, turn.accepted, turn.leaves) == ("refuse", None, False)
    turn = replied(FakeModel(by_step(answer={"words": "STOP"})), ())
    assert (turn.decision, turn.accepted, turn.leaves) == ("answer", None, False)


def test_it_decides_among_all_that_was_shown_and_learns_what_the_catalogue_says():
    model = buying()
    turn = replied(model, ITEMS[:1], (), ITEMS[2:])
    assert turn.decision == "refuse"
    prompt = model.calls[0].messages[0].content
    assert (
        "- ID B00: Denim number 0\n  price: $19.99\n  category: Clothing > Women > Jeans" in prompt
    )
    assert "- ID B02" in prompt
    assert "B01" not in prompt
    assert "- ID B03: Denim number 3\n  category" in prompt
    turn = replied(buying(), ITEMS[:1], ())
    assert turn.decision == "answer"  # nothing was offered in this turn
    model = FakeModel(by_step(answer={"words": "Blue."}))
    assert replied(model, ()).text == "Blue."


def test_leaving_is_an_option():
    schema = CSUser.steps[1].schema["properties"]
    assert "leaves" not in schema
    model = FakeModel(by_step(answer={"words": "Bye.", "leaves": True}))
    assert replied(model, (), may_leave=True).leaves
    assert "you may end it" in model.calls[0].messages[0].content
    turn = replied(buying(leaves=True), ITEMS[:1], may_leave=True)
    assert (turn.decision, turn.leaves) == ("refuse", True)
    assert replied(buying("B00", leaves=True), ITEMS[:1], may_leave=True).decision == "accept"
    with pytest.raises(ReplyInvalid):
        replied(FakeModel(by_step(answer={"words": "Bye.", "leaves": True})), ())


def test_a_case_without_a_profile_is_an_error_of_the_user():
    with pytest.raises(UserError, match="u1 has no profile"):
        user_of(None)


def test_a_domain_without_profiles_is_refused_before_anything_runs(tmp_path):
    data = write_amazon_2023(tmp_path / "data")
    domain = {"name": "amazon_2023", "path": str(data)}
    # Without reviews, no model can write them.
    next(data.glob("Clothing*")).unlink()
    users = {"AE1": {"targets": ["B0000"], "target_price": [9.99], "history": ["B0001"]}}
    (data / "interactions.json").write_text(json.dumps(users))
    with pytest.raises(UsageError, match="csuser needs users with profiles, and the domain"):
        plan_of(write_sweep(tmp_path, domain=domain, simulator="csuser", cases={"sample": 1}))


def test_dialogues_by_the_rules_end_with_purchases(tmp_path):
    perfect = {"backend": "rules", "skill": 1.0, "knowledge": 1.0}
    plan = plan_of(
        write_sweep(
            tmp_path,
            models={"rules": perfect},
            roles={"user": "rules", "agent": "rules"},
            simulator="csuser",
            grid={"agent": ["zero_shot"]},
            cases={"sample": 12},
            limits={"max_turns": 10, "shown_items": 3, "episode_tokens": 10**6},
        )
    )
    attempts = rehearse(plan, [0], 12)
    assert all(attempt.error is None for attempt in attempts)
    bought = [a.transcript.accepted for a in attempts if a.transcript.stop_reason == "accepted"]
    assert len(bought) > 6
    for turn in bought:
        assert turn is not None
        assert turn.accepted is not None
        low, high = turn.extra["budget"]
        assert low <= high
        assert turn.extra["over_budget"] == (turn.accepted.price > high)
