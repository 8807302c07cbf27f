"""Replies read out of models' texts: what is found, what is refused, and how much work it takes."""

import json
import sys
from contextlib import suppress
from typing import Annotated, Any, ClassVar

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from agents.core import reading
from agents.core.reading import candidates, read_reply
from agents.core.steps import ReplyModel, Step, text


class Saying(ReplyModel):
    words: Annotated[str, text(40)]
    count: Annotated[int, Field(ge=0, le=3)] = 0


SAY = Step("say", "verbalise", Saying)


def found(reply: str) -> tuple[str, int]:
    said = read_reply(SAY, reply, guided=False, context={})
    return said.words, said.count


@pytest.mark.parametrize(
    "reply",
    [
        '{"words": "hi", "count": 2}',
        '\n {"words": "hi", "count": 2}\n',
        'Sure! {"words": "hi", "count": 2} Is that fine?',
        '```json\n{"words": "hi", "count": 2}\n```',
        '```{"words": "hi", "count": 2}```',
        'First ```{"words": "no"}``` then\n```json\n{"words": "hi", "count": 2}\n``` {see above}',
        '```\n{"words": "hi", "count": 2}\n``` and ```an open fence',
        '<think>{"words": "draft"} or {"a": {}}?</think>{"words": "hi", "count": 2}',
        '{"words": "hi", "count": 2} {"words": "too many", "count": 9} {"other": 1}',
        'An open { in prose.\nThen {"words": "hi", "count": 2}',
        'He said "no" {\n"}" and so {"words": "hi", "count": 2}',
        '} {"words": "hi", "count": 2} {',
    ],
)
def test_an_object_is_found_among_other_words(reply):
    assert found(reply) == ("hi", 2)


@pytest.mark.parametrize("words", ["a } b", "{", "}{", 'say \\"{\\" twice', "\\\\", "```", "\\n{"])
def test_braces_and_quotes_inside_of_strings_end_nothing(words):
    reply = f'It is {{"words": "{words}"}} indeed'
    assert found(reply) == (json.loads(f'"{words}"'), 0)


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "hi",
        '{"words": "hi"',
        '{"words": "hi", "count": 9}',
        '{"words": "hi", "more": 1}',
        '{"inner": {"words": "hi"}}',  # what is inside another object was not the reply
        "{'words': 'hi'}",
        '{"words": "hi",}',
        '{"words": ""}',
    ],
)
def test_what_is_not_valid_is_not_repaired(reply):
    with pytest.raises(ValidationError):
        found(reply)


def test_the_reason_is_about_the_object_if_there_is_one():
    with pytest.raises(ValidationError, match="count"):
        found('Sure: {"words": "hi", "count": 9}')


def test_after_guided_decoding_the_whole_text_is_the_reply():
    with pytest.raises(ValidationError):
        read_reply(SAY, 'Sure! {"words": "hi"}', guided=True, context={})
    assert read_reply(SAY, '{"words": "hi"}', guided=True, context={}).words == "hi"


JSONISH = st.text(alphabet=st.sampled_from('{}[]":,`\\\n a1é\ud800'), max_size=200)


@given(JSONISH | st.text(alphabet=st.characters(exclude_categories=())))
@example("\ud800")
def test_no_text_raises_anything_but_what_is_wrong_with_it(reply):
    assert all(part in reply for part in candidates(reply))
    for guided in (True, False):
        with suppress(ValidationError):
            read_reply(SAY, reply, guided=guided, context={})


@given(st.text(alphabet=st.characters(exclude_characters='{}"')), JSONISH)
def test_a_valid_object_is_found_after_any_words(before, words):
    words = words.replace("\ud800", "")[:40] or "x"
    reply = before + json.dumps({"words": words, "count": 1}, ensure_ascii=False)
    assert found(reply) == (words, 1)


class Counted(Saying):
    """Notes how many characters it is given to validate, each time."""

    validated: ClassVar[list[int]] = []

    @classmethod
    def model_validate_json(cls, json_data: Any, **given: Any) -> Any:
        cls.validated.append(len(json_data))
        return super().model_validate_json(json_data, **given)


COUNTED = Step("say", "verbalise", Counted)


def lines_run(reply: str) -> int:
    """Lines of `reading.py` that run until the reply is refused."""
    count = 0

    def trace(frame: Any, event: str, _: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace if frame.f_code.co_filename == reading.__file__ else None

    Counted.validated.clear()
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        with pytest.raises(ValidationError):
            read_reply(COUNTED, reply, guided=False, context={})
    finally:
        sys.settrace(before)
    return count


HOSTILE = {
    **{
        unit: lambda size, unit=unit: (unit * size)[:size]
        for unit in ("{", "[", "}", "{}", '{"', '{"a":', "```", "```{", "\\", '"', "{\n", "[{",
                     '{"words":"', '{"words":1} ', "```json\n{}\n", "```{}```", '{"a":"\\')
    },
    "closed objects": lambda size: '{"a":' * (size // 6) + "1" + "}" * (size // 6),
    "closed lists": lambda size: '{"words":' + "[" * (size // 2) + "]" * (size // 2) + "}",
    "never closed, then many": lambda size: "{" * (size // 2) + "{} " * (size // 6),
    "many, then a large one": lambda size: "{} " * (size // 6)
    + json.dumps({f"k{n}": n for n in range(size // 24)}),
    "fences in fences": lambda size: "```\n{" * (size // 10) + "}\n```" * (size // 10),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_work_is_linear_in_the_text(name):
    small, large = (HOSTILE[name](size) for size in (4000, 8000))
    assert lines_run(large) <= 2.1 * lines_run(small) + 50
    lines_run(small)
    # The whole text, a fenced block, and objects that do not overlap.
    assert sum(Counted.validated) <= 3 * len(small)
    assert len(Counted.validated) <= 2 + len(small) / 2


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("guided", [True, False])
def test_a_hundred_thousand_hostile_characters_are_an_invalid_reply(name, guided):
    with pytest.raises(ValidationError):
        read_reply(SAY, HOSTILE[name](100_000), guided=guided, context={})


class Words(ReplyModel):
    words: Annotated[str, text(20, "what you say")]


TALK = Step("talk", "verbalise", Words, mode="text")


@pytest.mark.parametrize("guided", [True, False])
@pytest.mark.parametrize("words", ["Hello.", '{"words": "a"}', 'two\nlines, a "quote"'])
def test_a_text_reply_is_the_whole_text(guided, words):
    assert read_reply(TALK, f" {words}\n", guided=guided, context={}).words == words


@pytest.mark.parametrize("words", ["", " \n", "x" * 21, "\ud800"])
def test_a_text_reply_has_its_bounds(words):
    with pytest.raises(ValidationError):
        read_reply(TALK, words, guided=True, context={})


def test_a_text_step_sends_no_schema_and_says_its_form():
    assert TALK.schema_json == ""
    assert TALK.form == (
        "Answer with plain text of at most 20 characters and nothing else. What you say."
    )
    assert SAY.form.startswith("Answer with one JSON object")


class Two(ReplyModel):
    first: Annotated[str, text(5)]
    second: Annotated[str, text(5)]


class Free(ReplyModel):
    words: str


class Number(ReplyModel):
    number: int


@pytest.mark.parametrize("reply", [Two, Free, Number, ReplyModel])
def test_a_text_step_has_one_field_that_is_a_bounded_string(reply):
    with pytest.raises(ValueError, match="step talk: a text reply is one field"):
        Step("talk", "verbalise", reply, mode="text")
