"""The generic rules: deterministic answers to steps, without a model.

They serve plumbing, tests of the statistics against a known truth, and planning. A rule is
picked by the step's `kind`; it works on what the prompt shows and on nothing else, so its
skill never rests on a field that a model could not read (`View`). Fields mean something by name:

- `conversation`: messages; `history`: items liked before; `items`: what is on the table
- `target`: the item that the speaker wants; `facts`: what the speaker may tell
- `attributes`: what may be asked about; `question`: what is to be asked; `limit`: how many
- `table`: a table (`agents.core.tables`) that a query is to be written for

Other fields do not matter to a rule. A reply is then filled in by the types of its schema:
text, one of several options (the first acts, the last holds back), titles, numbers, flags.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from agents.core.grounding import normalise
from agents.core.knowledge import Knowledge, normal
from agents.core.replies import Answer
from agents.core.steps import Kind
from agents.core.view import SeenColumn, SeenItem, View

_FEW = 20  # a decision is ripe when no more items than this fit: two lists of the usual ten
_TOLD_AT_ONCE = 2  # facts told in one message where the prompt sets no limit
_NAMED = 10  # titles named where the prompt sets no limit
_YES = "Yes, that is just what I was looking for."


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
        fits = [i.title for i in view.items if told & set(normal(i.values))]
        return Answer(acts=bool(fits), names=fits)

    def rank(self, view: View, seed: int) -> Answer:
        """Orders what is on the table, or what it remembers, by the words and the past."""
        told = self._told(view)
        limit = view.limit or _NAMED
        if view.items:
            score = {i.title: len(set(told) & set(normal(i.values))) for i in view.items}
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

    def query(self, view: View, seed: int) -> Answer:
        """One SELECT of the table's first column for the values on view that the words name.

        All conditions at once; the whole table where the words name no value that is shown.
        """
        if view.table is None or not view.table.columns:
            return Answer(acts=False, text="There is no table to query.")
        key, *others = view.table.columns
        left = set(self._told(view))
        conditions: list[str] = []
        for column in others:
            named = [value for value in column.values if normal([value])[0] in left]
            left -= set(normal(named))  # a word means the first column that has it
            conditions += [_condition(column, value) for value in named]
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        sql = f"SELECT {key.name} FROM {view.table.name}{where}"
        return Answer(acts=bool(conditions), text=sql)

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


def _says(text: str, phrase: str) -> bool:
    """Whether `phrase` stands in `text` as whole words: "1990s" does not say "1990"."""
    at = text.find(phrase)
    while at >= 0:
        end = at + len(phrase)
        if not text[at - 1 : at].isalnum() and not text[end : end + 1].isalnum():
            return True
        at = text.find(phrase, at + 1)
    return False


def _condition(column: SeenColumn, value: str) -> str:
    literal = "'" + value.replace("'", "''") + "'"
    if column.type.endswith("[]"):
        return f"list_contains({column.name}, {literal})"
    return f"{column.name} = {literal}"


def _share_fitting(items: Sequence[SeenItem], told: Sequence[str], knowledge: Knowledge) -> float:
    if not items or not told:
        return 0.0
    fitting = sum(
        1 for i in items if set(told) <= set(normal(i.values)) | set(knowledge.phrases_in(i.title))
    )
    return fitting / len(items)
