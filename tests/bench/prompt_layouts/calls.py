"""The calls that are laid out: those of dialogues played with the rules backend."""

from __future__ import annotations

import json
import random
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents.core import plugins
from agents.core.calls import Call
from agents.core.dialogue import Message
from agents.core.prompts import prompt_folder
from runner.rehearsal.dialogues import rehearse
from tests.bench.prompt_layouts.layouts import FORM, Pieces
from tests.sweep_files import plan_of, write_sweep

AGENTS = (
    "zero_shot",
    "react",
    "chatcrs",
    "rah",
    "llmcrs",
    {"name": "interecagent", "candidates": 10, "demonstrations": 1},
    {"name": "macrec", "candidates": 10},
    {"name": "af_irs", "candidates": 10},
)
CASES = 3  # dialogues of each agent
DRAWN = 1  # calls of each step of each agent; of the user's, whose part is the longest, more
DRAWN_OF_USER = 4


@dataclass(frozen=True)
class Asked:
    """One call of a rehearsed dialogue."""

    id: str
    speaker: str
    dialogue: str
    call: Call
    reply: str
    """What the rules replied, which is valid."""
    pieces: Pieces


def rehearsed() -> list[Asked]:
    """Every call of the rehearsed dialogues, in the order in which they were made."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        sweep = write_sweep(
            Path(folder),
            grid={"agent": list(AGENTS)},
            roles={"user": "strong", "agent": "strong"},
            limits={"max_turns": 3, "shown_items": 3},
        )
        plan = plan_of(sweep)
        for cell in range(len(AGENTS)):
            name = plan.cells[cell].config.agent.name
            for case, attempt in enumerate(rehearse(plan, [cell], CASES)):
                for number, record in enumerate(attempt.journal.records):
                    call = record.call
                    user = call.role == "user"
                    speaker = "target_item" if user else name
                    package = "simulators.users" if user else "agents"
                    id = f"{name}/{case}/{number}"
                    pieces = _pieces(package, speaker, call)
                    assert record.completion is not None
                    reply = record.completion.text
                    found.append(Asked(id, speaker, f"{name}/{case}", call, reply, pieces))
    return found


def _pieces(package: str, speaker: str, call: Call) -> Pieces:
    folder = prompt_folder(plugins.module(package, speaker, "plug-in"), None)
    text = folder.render(call.step.name, {**call.fields, "reply_form": FORM})
    conversation = call.fields.get("conversation") or ()
    words = _words_of(conversation)
    before, found, after = text.partition(f":\n{words}") if words else (text, "", "")
    before = before + ":\n" if found else before
    own = "user" if package == "simulators.users" else "recommender"
    example = json.dumps(_example(call.step.schema, call.step.schema.get("$defs", {})))
    return Pieces(before, conversation if found else (), words if found else "", after,
                  call.step.form, example, call.step.closing, own)  # fmt: skip


def _words_of(conversation: Sequence[Message]) -> str:
    lines = []
    for message in conversation:
        lines.append(f"{message.speaker}: {' '.join(message.text.split())}")
        if message.shown:
            lines.append(f"  (shown: {'; '.join([item.title for item in message.shown])})")
    return "\n".join(lines)


def _example(schema: Mapping[str, Any], defs: Mapping[str, Any]) -> Any:
    """A value that fits `schema`, with dots instead of words."""
    if "$ref" in schema:
        schema = defs[schema["$ref"].rsplit("/", 1)[1]]
    if "anyOf" in schema:
        return _example(schema["anyOf"][0], defs)
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema.get("type")
    if kind == "object":
        return {name: _example(part, defs) for name, part in schema["properties"].items()}
    if kind == "array":
        return [_example(schema["items"], defs)]
    return {"integer": 1, "number": 0.5, "boolean": False}.get(str(kind), "...")


def drawn(calls: Sequence[Asked]) -> list[Asked]:
    """Some calls of each step of each speaker, the same in every run, in a shuffled order."""
    rng = random.Random(0)
    groups: dict[tuple[str, str], list[Asked]] = defaultdict(list)
    for asked in calls:
        groups[asked.speaker, asked.call.step.name].append(asked)
    chosen = []
    for (speaker, _), group in groups.items():
        most = DRAWN_OF_USER if speaker == "target_item" else DRAWN
        chosen += rng.sample(group, min(most, len(group)))
    rng.shuffle(chosen)
    return chosen
