"""A tripwire for text that reads like a translation.

It counts words and phrases that are rare in well-written code bases and were common in this one,
per 10,000 lines of code, prompts and docs. A low count proves nothing: readers decide. A rising
count means that new text needs another look. `LIMIT` is a ratchet: lower it when the count has
fallen, never raise it.
"""

import re
from collections import Counter
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.own_files import own_files

LIMIT = 2
"""Hits per 10,000 lines that are allowed."""

PHRASES = (
    # The thirteen words of the house rules, with their forms.
    r"told|tells",
    r"stands?(?! for\b|[-_ ]?ins?(?![a-z]))|stood|standing",
    r"beside",
    r"nobody|somebody|anybody|everybody",
    r"whoever",
    r"(?:go|goes|going|gone|went) on(?! (?:which|an?|the|one|top|nodes?|gpus?)\b)",
    r"lies(?! between\b)|lain",
    r"anew",
    # Others that are typical of translated text.
    r"as it were",
    r"by hand of",
    r"dear",
    r"for ever",
    r"fruitless\w*",
    r"heed\w*",
    r"hence|lest|likewise|shall|thereby|therein",
    r"(?:is|are|was|were) not there",
    r"(?:is|are) to be",
    r"(?<!there )(?:is|are) no(?! (?:longer|more|less|fewer|later|earlier)\b)",
    r"in the air",
    r"in the place of",
    r"in vain",
    r"its kin|and kin",
    r"(?:makes?|made|making) no sense",
    r"mend(?:s|ed|ing)?",
    r"now and then",
    r"nowhere",
    r"shortly",
    r"(?:calls?|cell|copy|dialogue|file|interactions|line|once|row|slot|users) "
    r"an? (?:batch|call|cell|dialogue|engine|model|node|process|put|row|step|text|turn|user)",
)
PATTERN = re.compile(rf"(?<![a-z])(?:{'|'.join(PHRASES)})(?![a-z])", re.IGNORECASE)

SUFFIXES = (".py", ".j2", ".md")
QUOTED = (
    "docs/papers/af_irs_episodes",  # dialogues and prompts as they were played
    "docs/papers/desire_episodes",
    "docs/papers/csi_episodes",
    "analysis/published",  # data from papers
    "tests/test_language.py",
)


def ours() -> list[Path]:
    return [path for path in own_files(SUFFIXES) if not is_quoted(path)]


def is_quoted(path: Path) -> bool:
    return path.relative_to(ROOT).as_posix().startswith(QUOTED)


def test_our_text_stays_below_its_limit_of_translated_phrases():
    lines, hits = 0, []
    for path in ours():
        text = path.read_text(encoding="utf-8")
        lines += text.count("\n")
        for hit in PATTERN.finditer(text):
            number = text.count("\n", 0, hit.start()) + 1
            hits.append((f"{path.relative_to(ROOT)}:{number}", hit[0].lower()))
    rate = len(hits) / lines * 10_000
    listed = "\n".join(f"{place}: {phrase}" for place, phrase in hits)
    most = ", ".join(f"{phrase} {n}" for phrase, n in Counter(p for _, p in hits).most_common(20))
    assert rate <= LIMIT, (
        f"{listed}\n{len(hits)} hits in {lines} lines are {rate:.1f} per 10,000; the limit is "
        f"{LIMIT}. Most frequent: {most}. Rewrite the lines you added in plain English."
    )


@pytest.mark.parametrize(
    "text",
    [
        "as nobody is told",
        "the file that stands beside it",
        "the run goes on",
        "it begins anew",
        "`say_told`",
        "PDF is no table",
        "what is to be made",
        "one row a turn",
    ],
)
def test_translated_phrases_are_found(text):
    assert PATTERN.search(text)


@pytest.mark.parametrize(
    "text",
    [
        "sr stands for success rate",
        "which model goes on which GPU",
        "there is no table",
        "it is no longer read",
        "outstanding leases",
        "families, besides, recommend",
        "one row per turn",
    ],
)
def test_plain_phrases_are_not(text):
    assert not PATTERN.search(text)
