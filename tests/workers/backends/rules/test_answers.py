"""The rules answer from what the prompt shows, and from nothing else."""

import asyncio
import dataclasses
import json
import random
import tempfile
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field

from agents.core.ask import Ask, CallLog
from agents.core.calls import Call
from agents.core.dialogue import Message
from agents.core.items import Catalogue, Fact, Item
from agents.core.prompts import PromptFolder
from agents.core.steps import ReplyModel, Step, Title, text
from agents.core.tables import CatalogueTable, Column
from simulators.core.profiles import BuyerBudget
from tests.fakes import CATALOGUE, ITEMS
from workers.backends.core.replies import Answer, Group, fill, random_reply
from workers.backends.rules.answers import Rules
from workers.backends.rules.knowledge import Knowledge
from workers.backends.rules.prompt_view import PromptView


class Nested(ReplyModel):
    title: Title
    score: Annotated[int, Field(ge=1, le=5)]


class Everything(ReplyModel):
    words: Annotated[str, text(30)]
    option: Literal["act", "wait", "stop"]
    flag: bool
    share: Annotated[float, Field(ge=0, le=1)]
    count: Annotated[int, Field(ge=2, le=9)]
    titles: Annotated[list[Title], Field(min_length=2, max_length=4)]
    nested: list[Nested] = Field(max_length=3)
    places: Annotated[list[Annotated[int, Field(ge=1, le=9)]], Field(max_length=3)]
    maybe: Annotated[str, text(10)] | None = None


SCHEMA = Everything.model_json_schema()


@given(st.integers(0, 2**32))
def test_random_replies_are_valid_for_the_schema(seed):
    Everything.model_validate_json(random_reply(SCHEMA, random.Random(seed)))


@given(
    st.booleans(),
    st.text(alphabet="abc ", min_size=1, max_size=80),
    st.lists(st.text(alphabet="xyz", min_size=1, max_size=9), max_size=6),
    st.floats(0, 1),
    st.lists(st.integers(-3, 300), max_size=6),
)
def test_filled_replies_are_valid_for_the_schema(acts, words, names, share, numbers):
    groups = [Group(name, numbers) for name in names]
    for answer in (
        Answer(acts, words, names, share, numbers),
        Answer(acts, words, names, share, numbers, groups),
    ):
        Everything.model_validate_json(fill(SCHEMA, answer))


def test_the_first_option_acts_and_the_last_holds_back():
    assert json.loads(fill(SCHEMA, Answer(acts=True)))["option"] == "act"
    assert json.loads(fill(SCHEMA, Answer(acts=False)))["option"] == "stop"


@cache
def prompts_of(tmp_path: Path, template: str) -> PromptFolder:
    folder = Path(tempfile.mkdtemp(dir=tmp_path))
    (folder / "step.md.j2").write_text(template)
    return PromptFolder(folder)


def asked(tmp_path, template: str, kind: str, **fields) -> tuple[Call, str]:
    """The call and the rules' reply to a prompt made from `template`."""
    step = Step("step", kind, Everything)  # type: ignore[arg-type]
    caught: list[Call] = []

    class Catcher:
        name, identity, wants_shown, guided = "rules", "{}", True, True

        async def complete(self, call):
            from agents.core.calls import Completion

            caught.append(call)
            answer = RULES.answer(call.step.kind, PromptView(call), call.seed)
            return Completion(fill(call.step.schema, answer), "stop")

    ask = Ask("agent", "u1", 0, prompts_of(tmp_path, template), lambda _: Catcher(), CallLog())
    asyncio.run(ask(step, **fields))
    call = caught[0]
    return call, fill(step.schema, RULES.answer(step.kind, PromptView(call), call.seed))


RULES = Rules(Knowledge(CATALOGUE, 1.0))
TALK = (
    Message("user", "I want genre Action"),
    Message("recommender", "How about it?", (ITEMS[3],)),
    Message("user", "No, decade 1990s"),
)


def test_titles_alone_shown_means_that_attributes_are_not_seen(tmp_path):
    template = (
        "{% for m in conversation %}{{ m.text }}\n{% endfor %}"
        "{% for i in items %}{{ i.title }}\n{% endfor %}"
    )
    call, _ = asked(tmp_path, template, "rank", conversation=TALK, items=ITEMS)
    view = PromptView(call)
    assert [i.title for i in view.items] == [i.title for i in ITEMS]
    # "Action" is in the conversation, yet not as an attribute of any item.
    assert all(i.values == () for i in view.items)
    assert all(m.speaker == "" for m in view.conversation)
    assert view.shown_before == ()


def test_one_attribute_shown_is_one_attribute_seen(tmp_path):
    template = (
        "{% for i in items %}{{ i.title }}: {{ i.attributes.genre | join(', ') }}\n{% endfor %}"
    )
    call, _ = asked(tmp_path, template, "rank", items=ITEMS)
    assert PromptView(call).items[1].values == ("Action", "Thriller")


def test_a_field_that_the_template_does_not_use_is_not_seen(tmp_path):
    call, _ = asked(
        tmp_path,
        "Heat Wave (1995) and genre Action",
        "choose",
        target=ITEMS[1],
        items=ITEMS,
        facts=(Fact("genre", "Action"),),
        question="Heat",
        limit=5,
    )
    view = PromptView(call)
    assert view.targets == ()
    assert (view.items, view.facts, view.question, view.limit) == ((), (), "", None)


WISHES = (
    "{% for t in targets %}{{ t.title }}\n{% endfor %}"
    "{% for f in wishes %}{{ f.attribute }}: {{ f.value }}\n{% endfor %}{{ items | described }}"
)


@pytest.mark.parametrize(
    ("targets", "wishes", "items", "places"),
    [
        ((ITEMS[0], ITEMS[4]), (), ITEMS[2:], [3]),
        ((ITEMS[4], ITEMS[3]), (), ITEMS[2:], [2, 3]),
        ((ITEMS[0],), (Fact("genre", "Action"),), ITEMS[1:], []),
        ((), (Fact("genre", "Action"),), ITEMS, [2, 4]),
        ((), (Fact("genre", "Action"), Fact("decade", "1980s")), ITEMS, [4]),
        ((), (Fact("genre", "Western"),), ITEMS, []),
    ],
)
def test_a_speaker_chooses_a_target_or_else_what_fulfils_its_wishes(
    tmp_path, targets, wishes, items, places
):
    fields = {"targets": targets, "wishes": wishes, "items": items}
    call, reply = asked(tmp_path, WISHES, "choose", **fields)
    answer = RULES.answer("choose", PromptView(call), 0)
    assert (answer.numbers, answer.acts) == (places, bool(places))
    assert answer.names == [items[place - 1].title for place in places]
    assert json.loads(reply)["places"] == places
    said = RULES.answer("verbalise", PromptView(call), 0).text
    assert said.startswith("Yes" if places else ("I would like" if wishes else "I cannot say"))


def test_attributes_that_the_prompt_does_not_show_fulfil_no_wish(tmp_path):
    template = WISHES.replace("described", "titles")
    fields = {"targets": (), "wishes": (Fact("genre", "Action"),), "items": ITEMS}
    call, _ = asked(tmp_path, template, "choose", **fields)
    assert not RULES.answer("choose", PromptView(call), 0).acts


def leaves(value, path=()):
    """Paths of all leaves of a prompt's fields."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        for f in dataclasses.fields(value):
            yield from leaves(getattr(value, f.name), (*path, f.name))
    elif isinstance(value, dict):
        for key, below in value.items():
            yield from leaves(below, (*path, key))
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        for name in value._fields:
            yield from leaves(getattr(value, name), (*path, name))
    elif isinstance(value, list | tuple):
        for index, below in enumerate(value):
            yield from leaves(below, (*path, index))
    else:
        yield path


def changed(value, path):
    """A copy of `value` in which the leaf at `path` is another."""
    if not path:
        if isinstance(value, bool) or value is None:
            return not value
        return value + 1 if isinstance(value, int | float) else f"Comedy {value} Café"
    head, rest = path[0], path[1:]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.replace(value, **{head: changed(getattr(value, head), rest)})
    if isinstance(value, dict):
        return {k: changed(v, rest) if k == head else v for k, v in value.items()}
    if hasattr(value, "_fields"):
        return value._replace(**{head: changed(getattr(value, head), rest)})
    return type(value)(changed(v, rest) if i == head else v for i, v in enumerate(value))


TABLE = CatalogueTable(
    "films",
    (
        Column("film_id", "VARCHAR"),
        Column("kind", "VARCHAR[]", ("Comedy", "Action", "Children's"), 9),
        Column("decade", "VARCHAR", ("1980s", "1990s"), 2),
        Column("mood", "VARCHAR", ("Action",), 1),
    ),
)
SHOWN = "{% for m in conversation %}{{ m.speaker }}: {{ m.text }}\n{% endfor %}{{ table | schema }}"


@pytest.mark.parametrize(
    ("words", "where"),
    [
        ("Action, 1990s", " WHERE list_contains(kind, 'Action') AND decade = '1990s'"),
        ("children's films", " WHERE list_contains(kind, 'Children''s')"),
        ("a drama of the 1970s", ""),
    ],
)  # fmt: skip
def test_query_writes_a_select_for_the_shown_values_that_the_words_name(tmp_path, words, where):
    films = Catalogue([*ITEMS, Item("6", "Kite", {"genre": ("Children's",)})], noun="film")
    call, _ = asked(tmp_path, SHOWN, "query", conversation=[Message("user", words)], table=TABLE)
    answer = Rules(Knowledge(films, 1.0)).query(PromptView(call), 0)
    assert answer.text == f"SELECT film_id FROM films{where}"
    assert answer.acts == bool(where)


def test_query_without_a_shown_table_holds_back(tmp_path):
    call, _ = asked(tmp_path, "{{ table.columns | length }}", "query", table=TABLE)
    assert PromptView(call).table is None
    assert not RULES.query(PromptView(call), 0).acts


TEMPLATES = (
    "{% for m in conversation %}{{ m.speaker }}: {{ m.text }}\n{% endfor %}"
    "{% for i in items %}{{ i.title }}\n{% endfor %}",
    "{% for m in conversation %}{{ m.speaker }}: {{ m.text }}{% for i in m.shown %}{{ i.title }}"
    "{% endfor %}\n{% endfor %}{{ target.title }}{% for f in facts %}{{ f.value }} {% endfor %}"
    "{% for i in items[:2] %}{{ i.title }} {{ i.attributes.genre | join }}\n{% endfor %}",
    "{% for m in conversation %}{{ m.text[:8] }}\n{% endfor %}{{ question }} {{ limit }}"
    "{% for i in history %}{{ i.attributes.items() | list }}{% endfor %}",
    "{{ attributes | join }}",
    "{{ conversation | words }}{{ items[:1] | detailed }} {{ budget.highest }}",
    "{% for m in conversation %}{{ m.speaker }}: {{ m.text }}\n{% endfor %}"
    "{% for o in options[:3] %}{{ o }}\n{% endfor %}",
    "{% for i in items[:2] %}{{ i.title }}\n{% endfor %}{{ preferences | first }}",
)


@pytest.mark.parametrize("kind", ["decide", "choose", "rank", "extract", "group", "summarise",
                                  "ask", "verbalise", "score"])  # fmt: skip
def test_no_leaf_that_the_prompt_does_not_show_changes_a_reply(tmp_path, kind):
    fields = {
        "conversation": TALK,
        "items": ITEMS[:3],
        "history": ITEMS[3:],
        "target": ITEMS[1],
        "facts": (Fact("genre", "Thriller"), Fact("decade", "1990s")),
        "wishes": (Fact("decade", "1970s"),),
        "attributes": ("genre", "decade"),
        "options": ("Western", "Action", "1990s", "Drama"),
        "preferences": ("wants genre: Thriller", "wants decade: 1970s"),
        "question": "Which genre?",
        "limit": 2,
        "budget": BuyerBudget(5.0, 20.0),
    }
    assert unseen_leaves(tmp_path, TEMPLATES, kind, fields) > 20


def test_no_leaf_of_a_table_that_the_prompt_does_not_show_changes_a_query(tmp_path):
    fields = {"conversation": TALK, "table": TABLE}
    some = SHOWN.replace(
        "{{ table | schema }}",
        "{{ table.name }}{% for c in table.columns %} {{ c.name }} {{ c.values[:1] | join }}"
        "{% endfor %}",
    )
    assert unseen_leaves(tmp_path, (SHOWN, some), "query", fields) > 5


def unseen_leaves(tmp_path, templates, kind, fields) -> int:
    """How many leaves the prompts do not show; a reply that depends on one fails."""
    unseen = 0
    for template in templates:
        before, reply = asked(tmp_path, template, kind, **fields)
        for path in leaves(fields):
            after, other = asked(tmp_path, template, kind, **changed(fields, path))
            if after.messages[0].content == before.messages[0].content:
                unseen += 1
                assert other == reply, (template, path)
    return unseen


class Sorted(ReplyModel):
    class Part(ReplyModel):
        name: Annotated[str, text(40)]
        numbers: Annotated[list[Annotated[int, Field(ge=1, le=9)]], Field(max_length=9)]

    numbers: Annotated[list[Annotated[int, Field(ge=1, le=9)]], Field(max_length=3)]
    parts: Annotated[list[Part], Field(max_length=4)]


def answered(tmp_path, template: str, kind: str, **fields) -> Sorted:
    call, _ = asked(tmp_path, template, kind, **fields)
    answer = RULES.answer(kind, PromptView(call), call.seed)  # type: ignore[arg-type]
    return Sorted.model_validate_json(fill(Sorted.model_json_schema(), answer))


OPTIONS = (
    "{{ options | join(', ') }}{% for m in conversation %}{{ m.speaker }}{{ m.text }}{% endfor %}"
)


@pytest.mark.parametrize("kind", ["extract", "choose"])
def test_options_are_those_that_the_user_named_most_often_first(tmp_path, kind):
    options = ("Drama", "decade", "Action", "Act", "1990s", "genre")
    talk = (*TALK, Message("recommender", "Drama?"), Message("user", "the decade, not the genre!"))
    chosen = answered(tmp_path, OPTIONS, kind, options=options, conversation=talk)
    assert chosen.numbers == [2, 6, 3]  # of the four that are named, as many as the schema takes
    nothing = answered(tmp_path, OPTIONS, kind, options=("Drama", "Act"), conversation=talk)
    assert nothing.numbers == []


def test_options_are_grouped_by_the_words_that_most_of_them_share(tmp_path):
    options = ("genre: Drama", "decade: 1990s", "genre: Action", "decade: 1980s", "genre: War", "?")
    found = answered(tmp_path, "{{ options | join(' ') }}", "group", options=options)
    assert [(part.name, part.numbers) for part in found.parts] == [
        ("genre", [1, 3, 5]),
        ("decade", [2, 4]),
        ("other", [6]),
    ]
    alike = answered(tmp_path, "{{ options | join(' ') }}", "group", options=options[:3:2])
    assert [(part.name, part.numbers) for part in alike.parts] == [("genre", [1, 2])]


def test_items_are_grouped_by_what_they_share_and_not_all_have(tmp_path):
    template = (
        "{% for i in items %}{{ i.title }}: {{ i.attributes.decade | join(', ') }}\n{% endfor %}"
    )
    found = answered(tmp_path, template, "group", items=ITEMS)
    assert [(part.name, part.numbers) for part in found.parts] == [
        ("1970s", [1, 3]),
        ("other", [2, 4, 5]),
    ]
    same = answered(tmp_path, template, "group", items=ITEMS[:3:2])
    assert [(part.name, part.numbers) for part in same.parts] == [("other", [1, 2])]
    titles = answered(
        tmp_path, "{% for i in items %}{{ i.title }}\n{% endfor %}", "group", items=ITEMS
    )
    assert [(part.name, part.numbers) for part in titles.parts] == [
        ("alien", [3, 4]),
        ("other", [1, 2, 5]),
    ]


def test_preferences_that_the_prompt_states_order_the_items_of_a_ranking(tmp_path):
    template = (
        "{{ preferences | join }}{% for i in items %}{{ i.title }}: "
        "{{ i.attributes.genre | join(', ') }}\n{% endfor %}"
    )
    wants = ("wants genre: Horror",)
    found = answered(tmp_path, template, "rank", items=ITEMS, preferences=wants)
    assert found.numbers == [3, 1, 2]


def catalogue_of(size: int) -> Catalogue:
    genres = ("Drama", "Comedy", "Action")
    items = [Item(str(i), f"Film number {i}", {"genre": (genres[i % 3],)}) for i in range(size)]
    return Catalogue(items, noun="film")


def test_more_knowledge_remembers_all_that_less_does():
    catalogue = catalogue_of(400)
    known = [
        set(Knowledge(catalogue, share).rank((), (), (), 0, 400)) for share in (0.2, 0.5, 0.9, 1.0)
    ]
    assert known[0] < known[1] < known[2] < known[3]
    assert len(known[1]) == pytest.approx(200, abs=40)


@settings(max_examples=30)
@given(st.integers(0, 2**48 - 1))
def test_rank_names_what_fits_first_and_nothing_that_was_turned_down(seed):
    knowledge = Knowledge(catalogue_of(30), 1.0)
    never = ["Film number 1", "Film number 4"]
    named = knowledge.rank(("comedy",), (), never, seed, 8)
    assert len(named) == len(set(named)) == 8
    assert all(int(title.split()[-1]) % 3 == 1 for title in named)
    assert not set(never) & set(named)


def test_knowledge_of_nothing_names_nothing():
    assert Knowledge(catalogue_of(30), 0.0).rank((), (), (), 3, 10) == []
