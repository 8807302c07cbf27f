"""Which words of a profile name an item of a shop, and which describe one."""

import pytest

from agents.core.items import Catalogue, Item
from simulators.domains.core.profiling.naming import ItemNames

ROOT = "Clothing, Shoes & Jewelry"
SWEATERS, JEANS = (ROOT, "Women", "Sweaters"), (ROOT, "Men", "Jeans")


def shop() -> Catalogue:
    """Eight jeans of one brand, and sweaters; of the latter two brands are common words."""
    rows = [
        (f"J{n}", f"Levi's Men's {n} Original Fit Jeans", "Levi's", JEANS)
        for n in (501, 502, 505, 511, 512, 513, 514, 541)
    ]
    rows += [
        ("J9", "Levi's Men's 501 Original Fit Jeans (Seasonal)", "Levi's", JEANS),
        ("J10", "Levi's Men's 501 Original Fit Jeans, Big & Tall", "Levi's", JEANS),
        ("J11", "Levi's Women's 501 Original Fit Jeans Long", "Levi's", JEANS),
        (
            "B0BMH1DL3X",
            "Lock and Love Women's Lightweight Long Sleeve Cozy Stylish Turtleneck Top Pullover "
            "Sweater",
            "Lock and Love",
            SWEATERS,
        ),
        ("S2", "Champion Women's Ribbed Crewneck Cardigan", "Champion", SWEATERS),
        ("S3", "Women's Soft Long Sleeve Shirt for Work and Travel with Pockets", "", SWEATERS),
        ("S4", "Zorvex Alpaca Blend Cardigan", "", SWEATERS),
        ("S5", "Brimla Alpaca Blend Wrap, Women's Turtleneck", "Brimla Store", SWEATERS),
        ("S7", "Vestrana Cape - Olive Green (Petite Short)", "Vestrana", SWEATERS),
        ("S6", "Quilpo QX9000B Heated Vest 12pcs", "Quilpo", SWEATERS),
    ]
    return Catalogue(
        [
            Item(number, title, {"category": path, **({"store": (store,)} if store else {})})
            for number, title, store, path in rows
        ],
        noun="product",
    )


CATALOGUE = shop()
NAMES = ItemNames(CATALOGUE)


@pytest.mark.parametrize(
    ("item", "text", "named"),
    [
        ("B0BMH1DL3X", "It was b0bmh1dl3x that I wanted.", "b0bmh1dl3x"),
        ("B0BMH1DL3X", "I bought the Lock and Love sweater.", "Lock and Love sweater"),
        (
            "B0BMH1DL3X",
            "I like a women's lightweight long sleeve cozy, stylish turtleneck top pullover!",
            "women's lightweight long sleeve cozy, stylish turtleneck top pullover",
        ),
        ("J501", "I always wear Levi's 501 jeans.", "Levi's 501"),
        ("J501", "I wear the 501 by Levi\u2019s.", "501 by Levi\u2019s"),
        ("S2", "I trust Champion, so this Champion cardigan had to be it.", "Champion cardigan"),
        ("S3", "A soft long sleeve shirt for work.", "soft long sleeve shirt for work"),
        ("S4", "My Zorvex keeps me warm.", "Zorvex"),
        ("S4", "I like the Zorvex Alpaca Blend in grey.", "Zorvex Alpaca Blend"),
        ("S7", "I wanted a vestrana cape.", "vestrana cape"),
        ("S6", "I wanted the qx9000b for hiking.", "qx9000b"),
    ],
)  # fmt: skip
def test_a_part_of_a_title_that_few_items_have_names_one(item, text, named):
    assert NAMES.named(text, [CATALOGUE[item]]) == named
    others = [other for other in CATALOGUE.items if other.id not in (item, "J9", "J10", "J11")]
    assert item == "J501" or NAMES.named(text, others) is None


@pytest.mark.parametrize(
    "text",
    [
        "I generally prefer soft, lightweight sweaters with long sleeves.",
        "I like a cozy turtleneck top, and a long sleeve shirt for work.",
        "I trust Levi's jeans, because they fit.",  # a brand with many jeans
        "I am a champion at cardigan knitting. Champion or not, it is ribbed.",
        "My size is 501 by now, and I need 12pcs.",
        "I like olive green, and I am a petite short woman.",
        "I love alpaca blend. Zorvex is no word at the start of a sentence.",
        "",
    ],
)
def test_a_description_names_nothing(text):
    assert NAMES.named(text, CATALOGUE.items) is None


def test_all_names_of_all_texts_are_given_once():
    texts = ["Zorvex!", "My Zorvex and the Lock and Love sweater.", "my Zorvex"]
    assert NAMES.all_named(texts, CATALOGUE.items) == ["Lock and Love sweater", "Zorvex"]
