"""Buyers and sellers by the rules: what convinces a buyer, and when a seller argues."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agents.core.dialogue import Message
from agents.core.items import Item
from simulators.core.profiles import BuyerBudget
from tests.fakes import ITEMS
from tests.workers.backends.rules.test_answers import RULES, asked
from workers.backends.rules.prompt_view import PromptView

WITHIN, ABOVE = replace(ITEMS[3], price=10.0), replace(ITEMS[1], price=40.0)  # both are Action
OTHER = replace(ITEMS[0], price=10.0)
BUDGET = BuyerBudget(5.0, 20.0)
BUYER = (
    "{{ conversation | words }}\n{% for i in items %}{{ i.title }}: ${{ '%.2f' | format(i.price) }}"
    " {{ i.attributes.genre | join(', ') }}\n{% endfor %}"
    "${{ '%.2f' | format(budget.lowest) }} to ${{ '%.2f' | format(budget.highest) }}"
)
SELLER = (
    "{{ conversation | words }}\n"
    "{% for i in items %}{{ i.title }}{% if i.price %}, ${{ i.price }}{% endif %}\n{% endfor %}"
)
SEEDS = range(2000)


def talk(*shown: Item, said: str = "I want genre Action") -> tuple[Message, ...]:
    return (Message("user", said), Message("recommender", "Look.", shown))


def bought(tmp_path, items: tuple[Item, ...], *shown: Item) -> list[str]:
    """The titles that are bought under each of `SEEDS`; nothing is an empty title."""
    fields = {"conversation": talk(*shown), "items": items, "budget": BUDGET}
    view = PromptView(asked(tmp_path, BUYER, "choose", **fields)[0])
    answers = [RULES.choose(view, seed) for seed in SEEDS]
    assert all(answer.acts == bool(answer.names) for answer in answers)
    return ["".join(answer.names) for answer in answers]


def test_a_buyer_sees_its_budget_and_the_prices_of_offers(tmp_path):
    fields = {"conversation": talk(WITHIN), "items": (WITHIN,), "budget": BUDGET}
    view = PromptView(asked(tmp_path, BUYER, "choose", **fields)[0])
    assert view.budget == BUDGET
    assert (view.items[0].price, view.shown_last) == (10.0, (WITHIN.title,))
    silent = PromptView(
        asked(tmp_path, "{{ budget.lowest }} {{ items | titles }}", "choose", **fields)[0]
    )
    assert (silent.budget, silent.items[0].price, silent.shown_last) == (None, None, ())


@pytest.mark.parametrize(("item", "chance"), [(WITHIN, 0.5), (ABOVE, 0.5 * 20 / 40)])
def test_a_buyer_is_convinced_by_chance_and_the_dearer_the_less(tmp_path, item, chance):
    found = bought(tmp_path, (item,), item)
    assert set(found) == {item.title, ""}
    assert sum(map(bool, found)) / len(found) == pytest.approx(chance, abs=0.04)


def test_a_buyer_considers_what_was_shown_last_and_fits_its_words(tmp_path):
    every = (WITHIN, OTHER, ABOVE)
    assert set(bought(tmp_path, every, ABOVE, WITHIN)) == {ABOVE.title, ""}
    assert set(bought(tmp_path, every, OTHER, WITHIN)) == {WITHIN.title, ""}
    assert set(bought(tmp_path, every, OTHER)) == {""}
    assert set(bought(tmp_path, every)) == {""}  # a question offers nothing


def test_a_seller_argues_for_its_offers_unless_the_user_has_just_said_something_new(tmp_path):
    def argues(*said: str, items: tuple[Item, ...] = (WITHIN,)) -> bool:
        conversation = talk(WITHIN) + tuple(Message("user", words) for words in said)
        view = PromptView(
            asked(tmp_path, SELLER, "decide", conversation=conversation, items=items)[0]
        )
        return RULES.decide(view, 0).acts

    assert argues("No, thanks.")
    assert argues("I want genre Action, as I said")
    assert not argues("No, decade 1990s")
    assert argues("No, decade 1990s", "I want decade 1990s")
    # Without prices, items are judged by how they match, as before.
    assert not argues("No, thanks.", items=(replace(WITHIN, price=None),))
