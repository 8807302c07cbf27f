"""Seekers: the hidden half of a case whose user wants items of some genre (INSPIRED, RSO).

The user and the metrics know it; no agent does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from simulators.core.cases import HiddenCase


@dataclass(frozen=True, slots=True)
class Person:
    """What is known of the person behind a seeker; a mapping is empty where nothing is.

    - `demographics`: name -> words, as people gave them ("25 - 34", "Moderate").
    - `traits`: the Big Five from 1 to 5: extrovert, agreeable, conscientious, neurotic, open.
    - `values`: what the person values, from 1 to 6 (conformity to security, after Schwartz), and
      how the person decides (`rational`, `feeling`).
    """

    demographics: Mapping[str, str] = field(default_factory=dict)
    traits: Mapping[str, float] = field(default_factory=dict)
    values: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SeekingCase(HiddenCase):
    """A user who wants an item with all the `genres`; `targets` are the items that
    count as found."""

    genres: tuple[str, ...] = ()
    person: Person = Person()
