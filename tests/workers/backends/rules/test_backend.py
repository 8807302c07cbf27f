"""The rules backend: replies of the form that the step asks for."""

import asyncio

import pytest

from agents.core.prompts import PromptFolder
from tests.fakes import ITEMS, make_ask
from tests.workers.backends.calls import STEP, TALK, context
from workers.backends.rules.backend import RulesBackend


@pytest.mark.parametrize("skill", [0, 1])
@pytest.mark.parametrize("step", [STEP, TALK])
def test_replies_are_valid_whether_json_or_text(tmp_path, step, skill):
    prompt = "{% for i in items %}{{ i.title }}\n{% endfor %}{{ reply_form }}"
    (tmp_path / f"{step.name}.md.j2").write_text(prompt)
    backend = RulesBackend(RulesBackend.Options.model_validate({"skill": skill}), context())
    backend.name, backend.identity = "rules", "{}"  # type: ignore[attr-defined]
    ask = make_ask(backend, PromptFolder(tmp_path))
    for reply in asyncio.run(ask(step, n=20, items=ITEMS[:2])):
        assert reply.words
    assert [r.call.reask for r in ask.journal.records] == [0] * 20
    if step is TALK and skill == 1:
        assert reply.words == "How about Silent River, The (19"[:30]
