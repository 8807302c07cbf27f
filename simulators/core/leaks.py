"""Title leaks: a simulated user that says the title it must not say."""

from __future__ import annotations

import re

from agents.core.grounding import normalise, without_year

_WORDS = re.compile(r"\w+")
_ARTICLE = re.compile(r"^(the|a|an) (?=\S)")


def leaks(words: str, title: str) -> bool:
    """Whether `words` name `title` (its year and its article may be left out).

    A title of one word ("Heat", "Big") is only a leak where it is written as a name, with the
    title's own capitals and not at the start of a sentence: "big" in plain speech is no leak.
    """
    bare = _ARTICLE.sub("", normalise(without_year(title)))
    if not bare:
        return False
    if len(bare.split()) > 1:
        return f" {bare} " in f" {normalise(words)} "
    name = max(_WORDS.findall(without_year(title)), key=len)
    as_name = re.compile(rf"(?<![.!?]\s)(?<!^)\b{re.escape(name)}\b")
    return name[:1].isupper() and as_name.search(words) is not None
