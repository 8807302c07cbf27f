"""`crsweep play`: what is shown of a dialogue and its model calls, and the pages made of it."""

import io
import json
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from agents.core.dialogue import AgentTurn, UserTurn
from agents.core.errors import AgentError, UsageError
from agents.core.items import Item
from agents.zero_shot import ZeroShot
from runner.commands.play import play, show_dialogue
from runner.commands.selection import cell_of
from runner.commands.transcript import MARK, MarkdownPage, TranscriptView
from simulators.core.cases import HiddenCase
from simulators.domains.synthetic import Synthetic
from tests.conftest import ROOT
from tests.sweep_files import plan_of, write_sweep

EPISODES = ROOT / "docs/papers/af_irs_episodes"
HOSTILE = "[red]x[/] \x1b[2J```\n# head\n````text\n\u202eevil <b>"
ROW: Mapping[str, Any] = {
    "role": "agent",
    "step": "decide",
    "draw": 0,
    "reask": 0,
    "prompt": json.dumps([{"role": "user", "content": "Decide."}]),
    "reply": '{"action": "ask"}',
    "thinking": None,
    "valid": True,
    "finish_reason": "stop",
    "error": None,
    "error_class": None,
}


def screen():
    return Console(file=io.StringIO(), width=100, force_terminal=False)


def seen(console):
    return console.file.getvalue()


@cache
def episodes():
    return plan_of(EPISODES / "sweep.yaml", "artifacts.path=/missing")


def test_calls_are_shown_between_the_utterances_in_the_order_in_which_they_are_made(tmp_path):
    plan, console = plan_of(write_sweep(tmp_path, roles={"user": "strong"})), screen()
    view = TranscriptView(console)
    attempt = play(plan, cell=0, position=0, person=None, calls=True, view=view)
    text = seen(console)
    heads = re.findall(r"^(user|agent) · (\w+)", text, re.MULTILINE)
    made = [(r.call.role, r.call.step.name) for r in attempt.journal.records]
    assert heads == made
    assert text.count("reply (") == len(made)
    opened, decided = text.index("user (answer)"), text.index("agent · decide")
    assert text.index("user · open") < opened < text.index(" turn 1 ") < decided
    assert text.index("agent · respond") < text.index("recommender (")
    quiet = screen()
    play(plan, cell=0, position=0, person=None, calls=False, view=TranscriptView(quiet))
    assert "· decide" not in seen(quiet)
    assert "recommender (" in seen(quiet)


def test_a_call_that_is_asked_again_shows_what_was_wrong_and_not_the_prompt_once_more():
    console = screen()
    view = TranscriptView(console)
    wrong = "That reply cannot be used: action: no"
    asked = [*json.loads(ROW["prompt"]), {"role": "assistant", "content": "maybe"}]
    again = json.dumps([*asked, {"role": "user", "content": wrong}])
    view.call({**ROW, "reply": "maybe", "valid": False})
    view.call({**ROW, "reask": 1, "prompt": again, "thinking": "Hm."})
    view.call({**ROW, "draw": 1, "reply": "may", "valid": False, "finish_reason": "length"})
    view.call({**ROW, "reply": None, "valid": False, "error_class": "Timeout", "error": "late"})
    text = seen(console)
    assert "reply (not valid): maybe\n" in text
    assert "agent · decide · asked again (1) " in text
    assert text.count("Decide.") == 3
    assert text.count(wrong) == 1
    assert "thinking: Hm." in text
    assert "agent · decide · draw 2 " in text
    assert "reply (not valid, ended by length): may" in text
    assert "no reply (Timeout): late" in text


def test_of_an_artifact_the_first_two_calls_of_each_step_are_shown():
    view = TranscriptView(None)
    steps = ["cluster"] * 4 + ["name"] + ["cluster"]
    rows = [{**ROW, "step": step, "draw": n} for n, step in enumerate(steps)]
    view.preparation("the tree", rows)
    page = view.markdown()
    assert page.count("### agent · cluster") == 2
    assert page.count("### agent · name") == 1
    assert "and 3 more calls of the step cluster" in page
    assert "more calls of the step name" not in page


def test_words_of_models_are_no_markup_and_do_not_steer_the_terminal():
    console = screen()
    view = TranscriptView(console)
    view.agent(AgentTurn(HOSTILE, "recommend", (Item("1", HOSTILE),)))
    view.user(UserTurn(HOSTILE, "refuse"), typed=False)
    view.call({**ROW, "reply": HOSTILE})
    view.note(HOSTILE)
    assert seen(console).count("[red]x[/]") == 5
    assert "\x1b" not in seen(console) + view.markdown()
    assert "\u202e" not in seen(console) + view.markdown()


@given(st.text(max_size=60).map(lambda text: text + "`" * (len(text) % 7)))
def test_no_reply_ends_its_fenced_block(reply):
    view = TranscriptView(None)
    view.call({**ROW, "reply": reply})
    lines = view.markdown().split("\n")
    [start] = [n for n, line in enumerate(lines) if line == "reply (valid):"]
    fence = lines[start + 1].removesuffix("text")
    assert set(fence) == {"`"}
    inside = lines[start + 2 : -2]
    assert lines[-2:] == [fence, ""]
    assert not any(re.fullmatch(rf" *`{{{len(fence)},}}\s*", line) for line in inside)


def test_a_page_keeps_its_head_and_no_other_file_is_overwritten(tmp_path, crsweep):
    sweep, page = write_sweep(tmp_path), tmp_path / "page.md"
    page.write_text(f"# Mine\n\n{MARK}; what stands above this line is kept -->\n\nold\n")
    out = crsweep("play", sweep, "--calls", "--markdown", page).stdout
    assert "recommender (" in out
    text = page.read_text()
    assert text.startswith(f"# Mine\n\n{MARK}; the text above this line is kept -->\n\ncase ")
    assert "\nold\n" not in text
    printed = crsweep("play", sweep, "--calls", "--markdown", "-").stdout
    assert text == f"# Mine\n\n{printed}"
    other = tmp_path / "notes.md"
    other.write_text("my notes")
    refused = crsweep("play", sweep, "--markdown", other, check=2).stderr
    assert "is not a page of crsweep play" in refused
    assert refused.count("\n") == 1
    assert other.read_text() == "my notes"
    unseen = crsweep("play", sweep, "--me", "--markdown", "-", check=2).stderr
    assert "--me cannot be combined with --markdown -" in unseen


def test_a_page_that_cannot_be_written_is_refused_before_the_dialogue(tmp_path):
    with pytest.raises(UsageError, match="missing is not a folder"):
        MarkdownPage(tmp_path / "missing" / "page.md")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(UsageError, match="cannot be read"):
        MarkdownPage(tmp_path / "binary")


def test_why_a_dialogue_failed_is_on_its_page_and_on_the_screen_the_error_alone(
    tmp_path, monkeypatch
):
    async def respond(self, dialogue, ask):
        raise ValueError("no idea")

    sweep, page, console = write_sweep(tmp_path), tmp_path / "page.md", screen()
    monkeypatch.setattr(ZeroShot, "respond", respond)
    with pytest.raises(AgentError, match="no idea"):
        show_dialogue(
            sweep,
            [],
            cell=0,
            case="0",
            person=None,
            calls=False,
            markdown=str(page),
            console=console,
        )
    assert "no idea" not in seen(console)
    assert "failed: " in page.read_text()
    assert page.read_text().count("no idea") == 1


@pytest.mark.parametrize("cell", range(8))
def test_the_worked_episodes_in_the_docs_are_what_is_played(cell):
    plan, view = episodes(), TranscriptView(None)
    play(plan, cell=cell, position=3, person=None, calls=True, view=view)
    name = plan.cells[cell].config.agent.name
    page = (EPISODES / f"{name}.md").read_text(encoding="utf-8")
    head, _, _ = page.partition(MARK)
    assert len(head.split()) > 40, "an introduction comes first"
    assert page == head + view.markdown(), f"docs/papers/af_irs.md says how {name}.md is made again"


@pytest.mark.parametrize("cell", range(8))
def test_nothing_that_is_hidden_of_a_case_reaches_a_prompt_of_an_agent(cell, monkeypatch):
    original = Synthetic.case
    items = episodes().sources[0].domain.catalogue.items

    def prompts(target):
        def case(self, split, case_id):
            found = original(self, split, case_id)
            return found._replace(hidden=HiddenCase((self.catalogue.items[target],)))

        monkeypatch.setattr(Synthetic, "case", case)
        lines = iter(["I would like genre Mystery.", "Rather something calm.", "/leave"])
        view = TranscriptView(screen())
        attempt = play(
            episodes(), cell=cell, position=3, person=lambda _: next(lines), calls=False, view=view
        )
        assert attempt.error is None
        assert attempt.case.hidden.targets == (items[target],)
        assert len(attempt.transcript.turns) == 2
        assert all(record.call.role.startswith("agent") for record in attempt.journal.records)
        return [record.call.messages for record in attempt.journal.records]

    assert prompts(0) == prompts(79)


def test_a_cell_that_is_not_there_is_refused_with_the_cells(tmp_path):
    plan = plan_of(
        write_sweep(
            tmp_path,
            grid={"agent": ["zero_shot", "react"]},
            roles={"user": "strong", "agent": "strong"},
        )
    )
    with pytest.raises(UsageError, match=r"--cell 2: .* 0 to 1 \(0: agent=zero_shot; 1: agent="):
        cell_of(plan, 2)
