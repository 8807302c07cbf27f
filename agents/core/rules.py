"""The generic rules: deterministic answers to steps, without a model.

They serve plumbing, tests of the statistics against a known truth, and planning. A rule is
picked by the step's `kind`; it works on what the prompt shows and on nothing else, so its
skill never rests on a field that a model could not read (`View`). Fields mean something by name:

- `conversation`: messages; `history`: items liked before; `items`: what is on the table
- `target`: the item that the speaker wants; `facts`: what the speaker may tell
- `attributes`: what may be asked about; `question`: what is to be asked; `limit`: how many

Other fields do not matter to a rule. A reply is then filled in by the types of its schema:
text, one of several options (the first acts, the last holds back), titles, numbers, flags.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import numpy as np

from agents.core.calls import Call
from agents.core.dialogue import Message
from agents.core.grounding import normalise
from agents.core.items import Catalogue, Fact, Item
from agents.core.steps import Kind

_FEW = 20  # a decision is ripe when no more items than this fit: two lists of the usual ten
_TOLD_AT_ONCE = 2  # facts told in one message where the prompt sets no limit
_NAMED = 10  # titles named where the prompt sets no limit
_HISTORY_WEIGHT = 0.02  # taste from the past only orders what the words leave equal
_LONGEST_PHRASE = 4  # words in an attribute value that a rule still recognises
_WORD = re.compile(r"\w+")
_YES = "Yes, that is just what I was looking for."
# fmt: off
_LEXICON = [
    "amber", "basket", "candle", "dapple", "ember", "fable", "garden", "harbour", "island",
    "jasper", "kettle", "lantern", "meadow", "nectar", "orchard", "pebble", "quarry", "ribbon",
    "saddle", "timber", "umbrella", "velvet", "willow", "yonder", "zephyr",
]
# fmt: on


class SeenItem(NamedTuple):
    """An item as far as the prompt shows it."""

    title: str
    values: tuple[str, ...]


class SeenMessage(NamedTuple):
    speaker: str
    text: str


@dataclass(slots=True)
class Answer:
    """What a rule has to say, before it is poured into a reply schema."""

    acts: bool = True
    text: str = "I see."
    names: Sequence[str] = ()
    share: float = 1.0  # for numbers: 0 is the lowest that the schema allows, 1 the highest


class View:
    """What a rule may know: the fields of a prompt, cut down to what the prompt shows.

    A leaf is in it if the template read it and the prompt holds it. Fields are looked at when a
    rule asks for them.
    """

    def __init__(self, call: Call) -> None:
        assert call.shown is not None, "calls of the rules backend carry what they show"
        self._prompt = call.messages[0].content
        self._fields = call.fields
        self._names, self._pairs = call.shown

    @cached_property
    def conversation(self) -> tuple[SeenMessage, ...]:
        return tuple(map(self._message, self._field("conversation") or ()))

    @cached_property
    def shown_before(self) -> tuple[str, ...]:
        """Titles of the items that came with the messages of the conversation."""
        messages = self._field("conversation") or ()
        visible = (m for m in messages if m.shown and (id(m), "shown") in self._pairs)
        return tuple(t for m in visible for i in m.shown if (t := self._text(i, "title")))

    @cached_property
    def history(self) -> tuple[SeenItem, ...]:
        return self._titled("history")

    @cached_property
    def items(self) -> tuple[SeenItem, ...]:
        return self._titled("items")

    @cached_property
    def target(self) -> SeenItem | None:
        target = self._field("target")
        return None if target is None else self._item(target)

    @cached_property
    def facts(self) -> tuple[Fact, ...]:
        facts = self._field("facts") or ()
        seen = (Fact(self._text(f, "attribute"), self._text(f, "value")) for f in facts)
        return tuple(fact for fact in seen if fact.value)

    @cached_property
    def attributes(self) -> tuple[str, ...]:
        return tuple(a for a in self._field("attributes") or () if a in self._prompt)

    @cached_property
    def question(self) -> str:
        question = self._field("question")
        return question if question and question in self._prompt else ""

    @cached_property
    def limit(self) -> int | None:
        limit = self._field("limit")
        return limit if limit is not None and str(limit) in self._prompt else None

    def _field(self, name: str) -> Any:
        return self._fields.get(name) if name in self._names else None

    def _text(self, owner: Any, attribute: str) -> str:
        if (id(owner), attribute) not in self._pairs:
            return ""
        value: str = getattr(owner, attribute)
        return value if value in self._prompt else ""

    def _titled(self, name: str) -> tuple[SeenItem, ...]:
        seen = map(self._item, self._field(name) or ())
        return tuple(item for item in seen if item.title)

    def _item(self, item: Item) -> SeenItem:
        title = self._text(item, "title")
        if (id(item), "attributes") not in self._pairs:
            return SeenItem(title, ())
        owner = id(item.attributes)
        whole = (owner, "items") in self._pairs or (owner, "values") in self._pairs
        values = [
            value
            for name, all_values in item.attributes.items()
            if whole or (owner, name) in self._pairs
            for value in all_values
            if value in self._prompt
        ]
        return SeenItem(title, tuple(values))

    def _message(self, message: Message) -> SeenMessage:
        speaker = message.speaker if (id(message), "speaker") in self._pairs else ""
        return SeenMessage(speaker, self._text(message, "text"))


class Knowledge:
    """The share of a catalogue that a model remembers unshown, and what it makes of words.

    Which items are remembered depends on the title alone, so a model of more knowledge
    remembers all that one of less does.
    """

    def __init__(self, catalogue: Catalogue, share: float) -> None:
        self.titles = [item.title for item in catalogue.items]
        self.attribute_names = catalogue.attributes
        self._position = {title: i for i, title in enumerate(self.titles)}
        self._forgotten = np.array([_unit_hash(t) >= share for t in self.titles])
        self._phrases = _phrases_of(catalogue)
        size = len(self.titles)
        # Two copies, so that every offset gives one jitter a title: ties break by the call's seed.
        jitter = np.random.Generator(np.random.PCG64(0)).permutation(size) / size * 1e-6
        self._jitter = np.concatenate([jitter, jitter])
        self.phrases_in = lru_cache(maxsize=16384)(self._phrases_in)
        self._scores = lru_cache(maxsize=256)(self._score)
        self._taste = lru_cache(maxsize=256)(self._taste_of)

    def rank(
        self, told: tuple[str, ...], liked: tuple[str, ...], never: Iterable[str], seed: int, k: int
    ) -> list[str]:
        """The `k` remembered titles that fit best what was `told`, then what was `liked`."""
        offset = seed % len(self.titles)
        scores = self._scores(told)[0] + self._taste(liked)
        scores += self._jitter[offset : offset + len(self.titles)]
        for title in (*never, *liked):
            if title in self._position:
                scores[self._position[title]] = -np.inf
        k = min(k, len(scores))
        best = np.argpartition(scores, len(scores) - k)[len(scores) - k :]
        best = best[np.argsort(-scores[best])]
        return [self.titles[i] for i in best if scores[i] > -np.inf]

    def fitting(self, told: tuple[str, ...]) -> int:
        """How many remembered items fit what was told as well as the best one does."""
        return self._scores(told)[1]

    def _score(self, told: tuple[str, ...]) -> tuple[np.ndarray, int]:
        scores = np.where(self._forgotten, -np.inf, 0.0)
        for phrase in told:
            where = self._phrases[phrase]
            scores[where] += math.log(1 + len(self.titles) / len(where))
        top = scores.max()
        fit = 0 if top == -np.inf else int(np.count_nonzero(scores >= top - 1e-9))
        return scores, fit

    def _taste_of(self, liked: tuple[str, ...]) -> np.ndarray:
        taste = np.zeros(len(self.titles))
        known = {self._position[t] for t in liked if t in self._position}
        known -= set(np.flatnonzero(self._forgotten).tolist())
        for where in self._phrases.values() if known else ():
            share = len(known.intersection(where.tolist())) / len(known)
            if share:
                taste[where] += _HISTORY_WEIGHT * share
        return taste

    def _phrases_in(self, text: str) -> tuple[str, ...]:
        """The attribute values named in `text`, longest match first, each once, in order."""
        words = _WORD.findall(normalise(text))
        found: dict[str, None] = {}
        at = 0
        while at < len(words):
            for length in range(min(_LONGEST_PHRASE, len(words) - at), 0, -1):
                phrase = " ".join(words[at : at + length])
                if phrase in self._phrases:
                    found[phrase] = None
                    at += length
                    break
            else:
                at += 1
        return tuple(found)


class Rules:
    """Answers steps. Each rule is a method named after its kind."""

    def __init__(self, knowledge: Knowledge) -> None:
        self.knowledge = knowledge

    def answer(self, kind: Kind, view: View, seed: int) -> Answer:
        rule: Callable[[View, int], Answer] = getattr(self, kind)
        return rule(view, seed)

    def decide(self, view: View, seed: int) -> Answer:
        """Acts when what is on the table is right, or when few enough items fit the words."""
        if view.target is not None:
            return Answer(acts=self._target_is_there(view))
        told = self._told(view)
        if view.items:
            return Answer(acts=_share_fitting(view.items, told, self.knowledge) >= 0.5)
        acts = bool(told) and self.knowledge.fitting(told) <= _FEW
        return Answer(acts=acts, text=f"The user wants {', '.join(told) or 'something'}.")

    def choose(self, view: View, seed: int) -> Answer:
        """Takes what is wanted if it is on the table, else what fits the words."""
        if view.target is not None:
            found = self._target_is_there(view)
            names = [view.target.title] if found else []
            return Answer(acts=found, text=_YES if found else self._tell(view), names=names)
        told = set(self._told(view))
        fits = [i.title for i in view.items if told & set(_normal(i.values))]
        return Answer(acts=bool(fits), names=fits)

    def rank(self, view: View, seed: int) -> Answer:
        """Orders what is on the table, or what it remembers, by the words and the past."""
        told = self._told(view)
        limit = view.limit or _NAMED
        if view.items:
            score = {i.title: len(set(told) & set(_normal(i.values))) for i in view.items}
            ordered = sorted(score, key=lambda title: -score[title])
            return Answer(names=ordered[:limit])
        liked = tuple(i.title for i in view.history)
        names = self.knowledge.rank(told, liked, view.shown_before, seed, limit)
        return Answer(names=names)

    def extract(self, view: View, seed: int) -> Answer:
        """The attribute values that the other side named."""
        told = self._told(view)
        return Answer(acts=bool(told), names=told, text=", ".join(told) or "nothing yet")

    def summarise(self, view: View, seed: int) -> Answer:
        told = self._told(view)
        return Answer(names=told, text=f"Known so far: {', '.join(told) or 'nothing'}.")

    def ask(self, view: View, seed: int) -> Answer:
        """Asks about an attribute that has not come up."""
        said = " ".join(m.text for m in view.conversation)
        choices = view.attributes or self.knowledge.attribute_names
        fresh = [name for name in choices if not _says(said, name)] or list(choices)
        return Answer(text=f"Which {fresh[0]} would you like?", names=fresh[:1])

    def verbalise(self, view: View, seed: int) -> Answer:
        """Says what there is to say: the items, the question, or facts not told yet."""
        if view.target is not None and self._target_is_there(view):
            return Answer(text=_YES)
        if view.items and view.target is None:
            return Answer(text=f"How about {'; '.join(i.title for i in view.items)}?")
        if view.question:
            return Answer(text=view.question)
        return Answer(text=self._tell(view))

    def score(self, view: View, seed: int) -> Answer:
        """The share of the items on the table that fit the words, as a number."""
        return Answer(share=_share_fitting(view.items, self._told(view), self.knowledge))

    def _told(self, view: View) -> tuple[str, ...]:
        found: dict[str, None] = {}
        for message in view.conversation:
            if message.speaker == "user":
                found.update(dict.fromkeys(self.knowledge.phrases_in(message.text)))
        return tuple(found)

    def _target_is_there(self, view: View) -> bool:
        wanted = normalise(view.target.title) if view.target else ""
        return bool(wanted) and any(normalise(i.title) == wanted for i in view.items)

    def _tell(self, view: View) -> str:
        """The next facts: those asked for first, none twice while others are left."""
        said = " ".join(m.text for m in view.conversation if m.speaker == "user")
        asked = next((m.text for m in reversed(view.conversation) if m.speaker != "user"), "")
        fresh = [f for f in view.facts if not _says(said, f.value)] or list(view.facts)
        fresh.sort(key=lambda f: not _says(asked, f.attribute))
        most = _TOLD_AT_ONCE if view.limit is None else min(view.limit, _TOLD_AT_ONCE)
        chosen = fresh[:most]
        if not chosen:
            return "I cannot say more about it."
        return f"I would like {' and '.join(f'{f.attribute} {f.value}' for f in chosen)}."


def fill(schema: Mapping[str, Any], answer: Answer) -> str:
    """JSON of a reply of `schema` that says what `answer` does."""
    return json.dumps(_fill(schema, schema.get("$defs", {}), answer), ensure_ascii=False)


def random_reply(schema: Mapping[str, Any], rng: random.Random) -> str:
    """JSON of a random valid reply of `schema`."""
    return json.dumps(_random(schema, schema.get("$defs", {}), rng), ensure_ascii=False)


def _fill(schema: Mapping[str, Any], defs: Mapping[str, Any], answer: Answer) -> Any:
    schema = _resolve(schema, defs)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0 if answer.acts else -1]
    kind = schema.get("type")
    if kind == "object":
        return {n: _fill(s, defs, answer) for n, s in schema.get("properties", {}).items()}
    if kind == "array":
        names = list(answer.names)[: schema.get("maxItems", len(answer.names))]
        filled = [_fill(schema["items"], defs, Answer(text=name, names=[name])) for name in names]
        while len(filled) < schema.get("minItems", 0):
            filled.append(_fill(schema["items"], defs, Answer(text="nothing")))
        return filled
    if kind in ("integer", "number"):
        low, high = _bounds(schema)
        value = low + answer.share * (high - low)
        return round(value) if kind == "integer" else value
    if kind == "boolean":
        return False
    if kind == "null":
        return None
    return answer.text[: schema.get("maxLength", len(answer.text))]


def _random(schema: Mapping[str, Any], defs: Mapping[str, Any], rng: random.Random) -> Any:
    schema = _resolve(schema, defs)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return rng.choice(schema["enum"])
    kind = schema.get("type")
    if kind == "object":
        return {n: _random(s, defs, rng) for n, s in schema.get("properties", {}).items()}
    if kind == "array":
        least = schema.get("minItems", 0)
        count = rng.randint(least, min(schema.get("maxItems", least + 5), least + 5))
        return [_random(schema["items"], defs, rng) for _ in range(count)]
    if kind in ("integer", "number"):
        low, high = _bounds(schema)
        return (
            rng.randint(math.ceil(low), int(high)) if kind == "integer" else rng.uniform(low, high)
        )
    if kind == "boolean":
        return rng.random() < 0.5
    if kind == "null":
        return None
    words = " ".join(rng.choices(_LEXICON, k=rng.randint(1, 4)))
    return words[: schema.get("maxLength", len(words))].ljust(schema.get("minLength", 0), "o")


def _resolve(schema: Mapping[str, Any], defs: Mapping[str, Any]) -> Mapping[str, Any]:
    """Follows a reference; of several alternatives, the first."""
    while True:
        if "$ref" in schema:
            schema = defs[schema["$ref"].rsplit("/", 1)[1]]
        elif "anyOf" in schema:
            schema = schema["anyOf"][0]
        else:
            return schema


def _bounds(schema: Mapping[str, Any]) -> tuple[float, float]:
    low = schema.get("minimum", schema.get("exclusiveMinimum", 0))
    return low, max(low, schema.get("maximum", schema.get("exclusiveMaximum", low + 10)))


def _phrases_of(catalogue: Catalogue) -> dict[str, np.ndarray]:
    """Normalised attribute value -> positions of the items that have it."""
    where: dict[str, list[int]] = {}
    for position, item in enumerate(catalogue.items):
        for values in item.attributes.values():
            for phrase in dict.fromkeys(_normal(values)):
                if phrase:
                    places = where.setdefault(phrase, [])
                    if not places or places[-1] != position:
                        places.append(position)
    return {phrase: np.array(places) for phrase, places in where.items()}


def _normal(values: Iterable[str]) -> list[str]:
    return [" ".join(_WORD.findall(normalise(value))) for value in values]


def _says(text: str, phrase: str) -> bool:
    """Whether `phrase` stands in `text` as whole words: "1990s" does not say "1990"."""
    at = text.find(phrase)
    while at >= 0:
        end = at + len(phrase)
        if not text[at - 1 : at].isalnum() and not text[end : end + 1].isalnum():
            return True
        at = text.find(phrase, at + 1)
    return False


def _share_fitting(items: Sequence[SeenItem], told: Sequence[str], knowledge: Knowledge) -> float:
    if not items or not told:
        return 0.0
    fitting = sum(
        1 for i in items if set(told) <= set(_normal(i.values)) | set(knowledge.phrases_in(i.title))
    )
    return fitting / len(items)


@lru_cache(maxsize=262144)
def _unit_hash(text: str) -> float:
    """A number in [0, 1) that depends on `text` alone."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest(), "big") / 2**56
