"""The strategies that a planner chooses from: the labels of INSPIRED (Hayati et al., EMNLP 2020).

RSO's data, its section V-B2 and its Figure 3 have 14; its Table I leaves out Preference
Confirmation, which `table1` merges into Transparency ("confirm user preferences").
"""

from __future__ import annotations

from typing import Literal

LabelSet = Literal["inspired", "table1"]

_MERGED = {"Preference Confirmation": "Transparency"}

INSPIRED = (
    "Credibility",
    "Personal Opinion",
    "Encouragement",
    "Acknowledgment",
    "Similarity",
    "Offer Help",
    "Personal Experience",
    "Self Modeling",
    "Transparency",
    "Preference Confirmation",
    "Opinion Inquiry",
    "Experience Inquiry",
    "Rephrase Preference",
    "No Strategy",
)
"""In the order of Table I, Preference Confirmation next to Transparency."""


def labels_of(labels: LabelSet) -> tuple[str, ...]:
    """The 14 labels of the data, or the 13 of Table I."""
    if labels == "inspired":
        return INSPIRED
    return tuple(label for label in INSPIRED if label not in _MERGED)


def merged(label: str, labels: LabelSet) -> str:
    """A label of the data as one of `labels`."""
    return label if labels == "inspired" else _MERGED.get(label, label)
