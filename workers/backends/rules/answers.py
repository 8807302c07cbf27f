"""The generic rules: deterministic answers to steps, without a model.

They serve for checking that a sweep works, for testing the statistics against a known truth, and
for planning. The step's `kind` selects the rule; it uses only what the prompt shows, so its skill
never depends on a field that a model could not read (`PromptView`).

Fields are interpreted by name:

- `conversation`: messages; `history`: items liked before; `items`: the items to choose from
- `options`: names to choose among; `preferences`: the user's known wishes, as text
- `target`, `targets`: the items that the speaker wants; `wishes`: facts that an item needs for the
  speaker to want it; `facts`: what the speaker may say (without them, its wishes)
- `attributes`: what may be asked about; `question`: the question to ask; `limit`: how many
- `table`: the table (`agents.core.tables`) to query
- `budget`: the price range that the speaker expects (`simulators.core.profiles`)

Rules ignore other fields. A reply is then filled in by the types of its schema: text, one of
several options (the first acts, the last holds back), titles, numbers, flags. A list of whole
numbers holds places, counted from 1, among the items or else the `options`. A list of other numbers
holds the amounts of money ($12.50) that the user named last.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence

from agents.core.grounding import normalise
from agents.core.phrases import plain_words
from agents.core.steps import StepKind
from simulators.core.profiles import BuyerBudget
from workers.backends.core.model_free import unit_hash
from workers.backends.core.replies import Answer, Group
from workers.backends.rules.knowledge import Knowledge
from workers.backends.rules.prompt_view import PromptView, SeenColumn, SeenItem

_FEW = 20  # a decision is ripe when no more items than this fit: two lists of the usual ten
_FACTS_AT_ONCE = 2  # facts in one message if the prompt sets no limit
_NAMED = 10  # titles named where the prompt sets no limit
_MOST_GROUPS = 12  # the last of them takes what shares nothing
_REST = "other"
_EMPTY_WORDS = frozenset(("a", "an", "and", "for", "from", "in", "of", "on", "or", "the", "to"))
_CONVINCED = 0.5  # chance that a buyer takes a suitable item within its budget when it is shown
_MONEY = re.compile(r"\$ ?([0-9]{1,9}(?:\.[0-9]{1,2})?)")
_YES = "Yes, that is just what I was looking for."


class Rules:
    """Answers steps. Each rule is a method named after its kind."""

    def __init__(self, knowledge: Knowledge) -> None:
        self.knowledge = knowledge

    def answer(self, kind: StepKind, view: PromptView, seed: int) -> Answer:
        rule: Callable[[PromptView, int], Answer] = getattr(self, kind)
        answer = rule(view, seed)
        answer.amounts = _amounts(view)
        return answer

    def decide(self, view: PromptView, seed: int) -> Answer:
        """Acts if a wanted item is available, or if few enough items match the conversation.

        A seller, who has offered items at a price, acts unless the user has just said something
        new.
        """
        wanted = self._wanted(view)
        if wanted is not None:
            return Answer(acts=bool(wanted))
        if any(item.price is not None for item in view.items):
            return Answer(acts=not self._news(view))
        stated = self._stated(view)
        if view.items:
            return Answer(acts=_share_fitting(view.items, stated, self.knowledge) >= 0.5)
        acts = bool(stated) and self.knowledge.fitting(stated) <= _FEW
        return Answer(acts=acts, text=f"The user wants {', '.join(stated) or 'something'}.")

    def choose(self, view: PromptView, seed: int) -> Answer:
        """Chooses what is wanted if it is available, otherwise what matches the conversation.

        A buyer, who has a budget, chooses only what convinces it.
        """
        if view.options and not view.targets:
            return _named(view)
        wanted = self._wanted(view)
        if wanted is not None:
            text = _YES if wanted else self._tell(view)
            names = [view.items[place - 1].title for place in wanted]
            return Answer(acts=bool(wanted), text=text, names=names, numbers=wanted)
        stated = set(self._stated(view))
        fits = [n for n, i in enumerate(view.items, 1) if stated & set(plain_words(i.values))]
        if view.budget is not None:
            return self._buy(view, fits, view.budget, seed)
        titles = [view.items[n - 1].title for n in fits]
        return Answer(acts=bool(fits), names=titles, numbers=fits)

    def rank(self, view: PromptView, seed: int) -> Answer:
        """Ranks the available or remembered items by the conversation and the history."""
        stated = self._stated(view)
        limit = view.limit or _NAMED
        if view.items:
            score = {i.title: len(set(stated) & set(plain_words(i.values))) for i in view.items}
            place = {i.title: n for n, i in reversed(list(enumerate(view.items, 1)))}
            ordered = sorted(score, key=lambda title: -score[title])[:limit]
            return Answer(names=ordered, numbers=[place[title] for title in ordered])
        liked = tuple(i.title for i in view.history)
        names = self.knowledge.rank(stated, liked, view.shown_before, seed, limit)
        return Answer(names=names)

    def extract(self, view: PromptView, seed: int) -> Answer:
        """The options that the other side named; without options, the attribute values."""
        if view.options:
            return _named(view)
        stated = self._stated(view)
        return Answer(acts=bool(stated), names=stated, text=", ".join(stated) or "nothing yet")

    def group(self, view: PromptView, seed: int) -> Answer:
        """Groups items by a value, or options by a word, that most of them share.

        A value that all items share separates nothing; a word that all options share names them.
        """
        if view.items:
            labels = [plain_words(i.values) or _words(i.title) for i in view.items]
            groups = _shared(labels, most=len(labels) - 1)
        else:
            labels = [_words(option) for option in view.options]
            groups = _shared(labels, most=len(labels))
        return Answer(acts=bool(groups), names=[g.name for g in groups], groups=groups)

    def summarise(self, view: PromptView, seed: int) -> Answer:
        stated = self._stated(view)
        return Answer(names=stated, text=f"Known so far: {', '.join(stated) or 'nothing'}.")

    def ask(self, view: PromptView, seed: int) -> Answer:
        """Asks about an attribute that has not been mentioned."""
        said = " ".join(m.text for m in view.conversation)
        choices = view.attributes or self.knowledge.attribute_names
        fresh = [name for name in choices if not _says(said, name)] or list(choices)
        return Answer(text=f"Which {fresh[0]} would you like?", names=fresh[:1])

    def verbalise(self, view: PromptView, seed: int) -> Answer:
        """Presents the items, asks the question, or gives facts not mentioned yet."""
        wanted = self._wanted(view)
        if wanted:
            return Answer(text=_YES)
        if view.items and wanted is None:
            return Answer(text=f"How about {'; '.join(i.title for i in view.items)}?")
        if view.question:
            return Answer(text=view.question)
        return Answer(text=self._tell(view))

    def score(self, view: PromptView, seed: int) -> Answer:
        """The share of the available items that match the conversation, as a number."""
        return Answer(share=_share_fitting(view.items, self._stated(view), self.knowledge))

    def query(self, view: PromptView, seed: int) -> Answer:
        """One SELECT of the table's first column for the shown values that the conversation
        mentions.

        It combines all conditions; if no shown value is mentioned, it selects the whole table.
        """
        if view.table is None or not view.table.columns:
            return Answer(acts=False, text="There is no table to query.")
        key, *others = view.table.columns
        left = set(self._stated(view))
        conditions: list[str] = []
        for column in others:
            named = [value for value in column.values if plain_words([value])[0] in left]
            left -= set(plain_words(named))  # a word means the first column that has it
            conditions += [_condition(column, value) for value in named]
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        sql = f"SELECT {key.name} FROM {view.table.name}{where}"
        return Answer(acts=bool(conditions), text=sql)

    def _buy(self, view: PromptView, fits: Sequence[int], budget: BuyerBudget, seed: int) -> Answer:
        """The item that the other side's latest message shows first, of those in `fits`, if it
        convinces.

        It does with the chance `_CONVINCED`, drawn by the seed of the call; above the budget, the
        dearer it is, the less likely.
        """
        offers = {view.items[place - 1].title: place for place in reversed(fits)}
        place = next((offers[title] for title in view.shown_last if title in offers), None)
        if place is None:
            return Answer(acts=False, text=self._tell(view))
        item, chance = view.items[place - 1], _CONVINCED
        if item.price is not None and budget.exceeded_by(item.price):
            chance *= budget.highest / item.price
        if unit_hash(f"{seed}\0{item.title}".encode("utf-8", "surrogatepass")) >= chance:
            return Answer(acts=False, text=self._tell(view))
        return Answer(text=_YES, names=[item.title], numbers=[place])

    def _news(self, view: PromptView) -> bool:
        """Whether the user's latest message states something that no earlier one did."""
        said = [
            set(self.knowledge.phrases_in(m.text)) for m in view.conversation if m.speaker == "user"
        ]
        return bool(said) and not said[-1] <= set().union(*said[:-1])

    def _stated(self, view: PromptView) -> tuple[str, ...]:
        words = [m.text for m in view.conversation if m.speaker == "user"]
        phrases = [
            p for text in (*words, *view.preferences) for p in self.knowledge.phrases_in(text)
        ]
        return tuple(dict.fromkeys(phrases))

    def _wanted(self, view: PromptView) -> list[int] | None:
        """Places, from 1, of the available items that the speaker wants; None if it
        wants nothing."""
        if view.targets:
            titles = {normalise(target.title) for target in view.targets if target.title}
            return [n for n, i in enumerate(view.items, 1) if normalise(i.title) in titles]
        if view.wishes:
            values = set(plain_words(fact.value for fact in view.wishes))
            return [n for n, i in enumerate(view.items, 1) if values <= set(plain_words(i.values))]
        return None

    def _tell(self, view: PromptView) -> str:
        """The next facts: those asked for first, none twice while others are left."""
        said = " ".join(m.text for m in view.conversation if m.speaker == "user")
        asked = next((m.text for m in reversed(view.conversation) if m.speaker != "user"), "")
        facts = view.facts or view.wishes
        fresh = [f for f in facts if not _says(said, f.value)] or list(facts)
        fresh.sort(key=lambda f: not _says(asked, f.attribute))
        most = _FACTS_AT_ONCE if view.limit is None else min(view.limit, _FACTS_AT_ONCE)
        chosen = fresh[:most]
        if not chosen:
            return "I cannot say more about it."
        return f"I would like {' and '.join(f'{f.attribute} {f.value}' for f in chosen)}."


def _amounts(view: PromptView) -> tuple[float, ...]:
    """The amounts of money that the user named last."""
    for message in reversed(view.conversation):
        if message.speaker == "user" and (found := _MONEY.findall(message.text)):
            return tuple(map(float, found))
    return ()


def _says(text: str, phrase: str) -> bool:
    """Whether `text` contains `phrase` as whole words: "1990s" does not contain "1990"."""
    at = text.find(phrase)
    while at >= 0:
        end = at + len(phrase)
        if not text[at - 1 : at].isalnum() and not text[end : end + 1].isalnum():
            return True
        at = text.find(phrase, at + 1)
    return False


def _named(view: PromptView) -> Answer:
    """The options that the user mentioned, the most frequent first."""
    said = plain_words(m.text for m in view.conversation if m.speaker == "user")
    times = {
        number: sum(f" {text} ".count(f" {option} ") for text in said)
        for number, option in enumerate(plain_words(view.options), 1)
        if option
    }
    numbers = sorted((n for n, count in times.items() if count), key=lambda n: -times[n])
    names = [view.options[number - 1] for number in numbers]
    return Answer(acts=bool(names), names=names, numbers=numbers, text=", ".join(names) or "none")


def _words(text: str) -> list[str]:
    [whole] = plain_words([text])
    return [word for word in whole.split() if word not in _EMPTY_WORDS]


def _shared(labels: Sequence[Collection[str]], most: int) -> list[Group]:
    """Groups (by place, from 1) that share a label, the most common label first.

    A label shared by fewer than two or more than `most` makes no group.
    """
    groups: list[Group] = []
    left = dict(enumerate(labels, 1))
    while left and len(groups) < _MOST_GROUPS - 1:
        counts = Counter(label for has in left.values() for label in dict.fromkeys(has))
        fit = [label for label, count in counts.items() if 2 <= count <= most]
        if not fit:
            break
        name = max(fit, key=counts.__getitem__)
        groups.append(Group(name, [place for place, has in left.items() if name in has]))
        left = {place: has for place, has in left.items() if name not in has}
    return [*groups, Group(_REST, list(left))] if left else groups


def _condition(column: SeenColumn, value: str) -> str:
    literal = "'" + value.replace("'", "''") + "'"
    if column.type.endswith("[]"):
        return f"list_contains({column.name}, {literal})"
    return f"{column.name} = {literal}"


def _share_fitting(items: Sequence[SeenItem], stated: Sequence[str], knowledge: Knowledge) -> float:
    if not items or not stated:
        return 0.0
    fitting = sum(
        set(stated) <= set(plain_words(i.values)) | set(knowledge.phrases_in(i.title))
        for i in items
    )
    return fitting / len(items)
