"""How prompts are laid out as chat messages, compared on a real small model without guidance.

    python -m tests.bench.prompt_layouts ask MODEL replies.jsonl --calls 20    # until none is left
    python -m tests.bench.prompt_layouts report MODEL replies.jsonl
    python -m tests.bench.prompt_layouts score MODEL

Every agent plays a few dialogues with the rules backend. Of each of its steps and of the user's,
some calls are drawn and laid out in every way of `LAYOUTS`, so that all layouts are asked for the
same replies with the same seeds. The replies are not guided, and asked for once. The table and
the decision are in docs/designs/prompts.md. Not part of `make bench`: it takes half an hour.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from agents.core import plugins
from agents.core.ask import _parse
from agents.core.calls import Call, Completion
from agents.core.dialogue import Message
from agents.core.prompts import folder_of
from agents.core.steps import Step
from runner.rehearsal.dialogues import rehearse
from tests.sweep_files import plan_of, write_sweep
from workers.backends.vllm.backend import VLLMBackend
from workers.backends.vllm.model.options import VLLMOptions
from workers.backends.vllm.serving.engine import Request, VLLMEngine, clean_environment

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
SEEDS = (0, 1, 2)
# No penalty of repetitions: it counts the prompt's tokens too, and so keeps a model from the form.
SAMPLING = {"temperature": 0.4, "max_tokens": 120}
IN_FLIGHT = 16
BLOCK = 16  # tokens of a block of vLLM's prefix cache
FORM = "\u0001form\u0001"
_SHAPE = "Answer now with one JSON object as described above:"
CLOSING = "Write your reply now, in the form described above."

Chat = list[dict[str, str]]


class Pieces(NamedTuple):
    """A prompt in parts. What is before the conversation may hold `FORM`, or what is after it."""

    before: str
    conversation: Sequence[Message]
    words: str
    after: str
    form: str
    example: str
    closing: str
    own: str
    """Who speaks here: "user", or "recommender"."""


def middle(p: Pieces) -> Chat:
    """One message, the form where the template puts it."""
    return [_user(_text(p).replace(FORM, p.form))]


def closing(p: Pieces) -> Chat:
    """The same with one line at the end that asks for the reply."""
    return [_user(f"{_text(p).replace(FORM, p.form)}\n\n{CLOSING}")]


def closing_fields(p: Pieces) -> Chat:
    """The same with a line that names the reply's fields: how `Ask` lays out its prompts."""
    return [_user(f"{_text(p).replace(FORM, p.form)}\n\n{p.closing}")]


def closing_example(p: Pieces) -> Chat:
    """The same with a line that shows the shape of the reply."""
    return [_user(f"{_text(p).replace(FORM, p.form)}\n\n{_SHAPE} {p.example}")]


def last(p: Pieces) -> Chat:
    """One message, the form at its end."""
    return [_user(f"{_without_form(_text(p))}\n\n{p.form}")]


def last_example(p: Pieces) -> Chat:
    """One message, the form and an example at its end."""
    return [_user(f"{_without_form(_text(p))}\n\n{p.form}\nExample: {p.example}")]


def turns(p: Pieces) -> Chat:
    """A system message that ends with the form, the conversation as turns, then the inputs."""
    return _turns(p, _without_form(p.after))


def turns_closing(p: Pieces) -> Chat:
    """The same, with the line that asks for the reply at the end."""
    return _turns(p, f"{_without_form(p.after)}\n\n{CLOSING}".strip())


LAYOUTS: dict[str, Callable[[Pieces], Chat]] = {
    f.__name__: f
    for f in (
        middle,
        closing,
        closing_fields,
        closing_example,
        last,
        last_example,
        turns,
        turns_closing,
    )
}


def _user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def _text(p: Pieces) -> str:
    return p.before + p.words + p.after


def _without_form(text: str) -> str:
    return re.sub(rf"\n*{FORM}\n*", "\n\n", text).strip()


def _turns(p: Pieces, rest: str) -> Chat:
    label = p.before.rfind("\n", 0, -1)  # "The conversation so far:", which the turns need not
    system = f"{_without_form(p.before[:label])}\n\n{p.form}"
    if not p.conversation:  # the inputs, which the form comes before
        instructions, _, inputs = p.before.partition(FORM)
        system, rest = f"{instructions.strip()}\n\n{p.form}", f"{inputs.strip()}\n\n{rest}".strip()
    chat: Chat = [{"role": "system", "content": system.strip()}]
    for message in p.conversation:
        role = "assistant" if message.speaker == p.own else "user"
        text = " ".join(message.text.split())
        if message.shown:
            text += f"\n(shown: {'; '.join(item.title for item in message.shown)})"
        _add(chat, role, text)
    if rest:
        _add(chat, "user", rest)
    return chat


def _add(chat: Chat, role: str, text: str) -> None:
    if chat[-1]["role"] == role:
        chat[-1]["content"] += f"\n\n{text}"
    else:
        chat.append({"role": role, "content": text})


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
    folder = folder_of(plugins.module(package, speaker, "plug-in"), None)
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
    """A value of the shape of `schema`, with dots for words."""
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
    """Some calls of each step of each speaker, the same at each run, in one mixed order."""
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


async def ask(model: str, path: Path, calls: Sequence[Asked]) -> None:
    """Appends a line to `path` for each reply to `calls` that it has not yet."""
    clean_environment(True, 2)
    options = VLLMOptions.model_validate(
        {"model": model, "max_model_len": 4096, "max_inflight": IN_FLIGHT, "sampling": SAMPLING}
    )
    spec = VLLMBackend.engine(options, "small", True)
    assert spec is not None
    done = {(row["id"], row["layout"], row["seed"]) for row in _rows(path)}
    work = [
        (asked, name, seed)
        for asked in calls
        for seed in SEEDS
        for name in LAYOUTS
        if (asked.id, name, seed) not in done
    ]
    engine = await VLLMEngine.start(spec, print)
    sampling = json.dumps(options.sampling.for_engine())
    left = iter(work)
    with path.open("a") as file:

        async def slot() -> None:
            for asked, name, seed in left:
                chat = LAYOUTS[name](asked.pieces)
                request = Request(json.dumps(chat), "", seed * 7919 + 1, sampling, "")
                reply = await engine.generate(request)
                row = {
                    "id": asked.id, "layout": name, "seed": seed, "speaker": asked.speaker,
                    "step": asked.call.step.name, "finish_reason": reply.finish_reason,
                    "reply": reply.text, "input_tokens": reply.input_tokens,
                    **judged(asked.call.step, reply, asked.call.fields),
                }  # fmt: skip
                file.write(json.dumps(row) + "\n")
                file.flush()

        await asyncio.gather(*(slot() for _ in range(IN_FLIGHT)))
    engine.close()


def judged(step: Step[Any], reply: Completion, fields: Mapping[str, Any]) -> dict[str, Any]:
    """What is counted of one reply."""
    found, reason = _parse(step, reply, False, fields)
    text = reply.text.lower()
    return {
        "valid": found is not None,
        "reason": reason,
        "begun": text.lstrip("`jsonJSON \n").startswith("{"),
        "copied": '"..."' in text or any(words in text for words in _descriptions(step.schema)),
        "continued": bool(re.search(r"(^|\n|\\n|\")\s*(user|recommender)\s*:", text)),
    }


def _descriptions(schema: Any) -> Iterator[str]:
    """Instructions of fields, as a reply would repeat them."""
    if isinstance(schema, dict):
        what = schema.get("description")
        if isinstance(what, str) and len(what.split()) >= 3:
            yield what.rstrip(".").lower()
        for part in schema.values():
            yield from _descriptions(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from _descriptions(part)


def _rows(path: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [{**row, "cut": row["finish_reason"] != "stop"} for row in rows]


def scored(model: str, calls: Sequence[Asked]) -> None:
    """Prints how likely a valid reply is in each layout: what the share of valid replies cannot
    tell where it is near nothing. Nats of the reply's opening, up to the first value, and of a
    token of the whole reply; with 95 % of the bootstrap of the difference to `middle`."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    lm = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    openings: dict[str, list[float]] = defaultdict(list)
    wholes: dict[str, list[float]] = defaultdict(list)
    for asked in calls:
        first = next(iter(asked.call.step.schema["properties"]))
        reply = tokenizer.encode(asked.reply)
        opening = len(tokenizer.encode(f'{{"{first}":'))
        for name, layout in LAYOUTS.items():
            ids = tokenizer.encode(_rendered(tokenizer, layout(asked.pieces)))
            with torch.inference_mode():
                found = lm(torch.tensor([ids + reply]), logits_to_keep=len(reply) + 1)
            chosen = torch.log_softmax(found.logits[0, :-1], -1)[range(len(reply)), reply]
            openings[name].append(float(chosen[:opening].sum()))
            wholes[name].append(float(chosen.mean()))
        print(len(openings["middle"]), end=" ", flush=True)
    print(f"\n{len(calls)} calls\n")
    table = []
    for name in LAYOUTS:
        table.append([name])
        for found in (openings, wholes):
            apart = np.array(found[name]) - np.array(found["middle"])
            table[-1] += [f"{np.mean(found[name]):.2f}", _apart(apart, ".2f")]
    _table("layout", "opening", "minus `middle`", "a token", "minus `middle`", rows=table)


class Prefixes(NamedTuple):
    tokens: float
    """Of a prompt, in the mean."""
    shared: float
    """Tokens shared with the call before of the same role and dialogue."""
    shared_by_step: float
    """The same with the call before of the same step."""
    hits: float
    """The share of all tokens that a cache of whole blocks holds, empty at first."""


def prefixes(model: str, calls: Sequence[Asked]) -> dict[str, Prefixes]:
    """How much of a prompt is computed already, in each layout."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    found = {}
    for name, layout in LAYOUTS.items():
        before: dict[tuple[str, ...], list[int]] = {}
        shared: dict[int, list[int]] = {2: [], 3: []}  # by how long the key is
        cache: set[int] = set()
        tokens = hits = 0
        for asked in calls:
            ids = tokenizer.encode(_rendered(tokenizer, layout(asked.pieces)))
            tokens += len(ids)
            key = asked.dialogue, asked.call.role, asked.call.step.name
            for length in shared:
                if key[:length] in before:
                    shared[length].append(_shared(before[key[:length]], ids))
                before[key[:length]] = ids
            blocks = [hash(tuple(ids[:end])) for end in range(BLOCK, len(ids) + 1, BLOCK)]
            hits += BLOCK * sum(block in cache for block in blocks)
            cache.update(blocks)
        by_role, by_step = (float(np.mean(shared[length])) for length in (2, 3))
        found[name] = Prefixes(tokens / len(calls), by_role, by_step, hits / tokens)
    return found


def _rendered(tokenizer: Any, chat: Chat) -> str:
    return tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)


def _shared(one: Sequence[int], other: Sequence[int]) -> int:
    pairs = zip(one, other, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def report(model: str, path: Path) -> None:
    """Prints the tables of docs/designs/prompts.md, of the calls that have all their replies."""
    counts = Counter(row["id"] for row in _rows(path))
    whole = len(LAYOUTS) * len(SEEDS)
    rows = [row for row in _rows(path) if counts[row["id"]] == whole]
    print(f"{len(rows) // whole} calls, {len(SEEDS)} seeds, {len(rows)} replies\n")
    _table(
        "layout", "valid", "minus `middle`", "begun as JSON", "copied", "continued", "cut",
        rows=[_counted(rows, name) for name in LAYOUTS],
    )  # fmt: skip
    cached = prefixes(model, rehearsed())
    _table(
        "layout", "tokens", "shared with the call before", "of the same step", "cache hits",
        rows=[
            [name, f"{c.tokens:.0f}", f"{c.shared:.0f}", f"{c.shared_by_step:.0f}", f"{c.hits:.1%}"]
            for name, c in cached.items()
        ],
    )  # fmt: skip
    for key in ("speaker", "seed"):
        kinds = sorted({row[key] for row in rows})
        shares = [
            [
                f"{_share([r for r in rows if r[key] == kind], name, 'valid'):.0%}"
                for name in LAYOUTS
            ]
            for kind in kinds
        ]
        table = [[str(kind), *cells] for kind, cells in zip(kinds, shares, strict=True)]
        _table(key, *LAYOUTS, rows=table)


def _counted(rows: Sequence[Mapping[str, Any]], name: str) -> list[str]:
    """The row of one layout in the first table."""
    valid, base = (_by_call(rows, each, "valid") for each in (name, "middle"))
    apart = _apart(np.array([valid[id] - base[id] for id in base]), ".1%")
    shares = [_share(rows, name, key) for key in ("begun", "copied", "continued", "cut")]
    return [name, f"{_share(rows, name, 'valid'):.1%}", apart, *(f"{s:.1%}" for s in shares)]


def _share(rows: Sequence[Mapping[str, Any]], name: str, key: str) -> float:
    return float(np.mean([row[key] for row in rows if row["layout"] == name]))


def _table(*head: str, rows: Sequence[Sequence[str]]) -> None:
    for cells in (head, ["---"] * len(head), *rows):
        print(f"| {' | '.join(cells)} |")
    print()


def _apart(values: np.ndarray, form: str) -> str:
    """A mean difference, with 95 % of its bootstrap over calls."""
    low, high = _interval(values)
    return f"{values.mean():+{form}} [{low:+{form}}, {high:+{form}}]"


def _by_call(rows: Sequence[Mapping[str, Any]], layout: str, key: str) -> dict[str, float]:
    """The mean of `key` over the seeds, of each call."""
    found: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        if row["layout"] == layout:
            found[row["id"]].append(row[key])
    return {id: float(np.mean(values)) for id, values in found.items()}


def _interval(values: np.ndarray) -> tuple[float, float]:
    """95 % of the bootstrap of the mean, over calls."""
    rng = np.random.default_rng(0)
    means = rng.choice(values, (4000, len(values))).mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=("ask", "report", "score"))
    parser.add_argument("model")
    parser.add_argument("replies", type=Path, nargs="?", default=Path("layouts.jsonl"))
    parser.add_argument("--calls", type=int, default=20)
    parser.add_argument("--speakers", nargs="*", help="agents, or target_item; default: all")
    given = parser.parse_args()
    if given.command == "score":
        scored(given.model, drawn(rehearsed()))
    elif given.command == "ask":
        whole = len(SEEDS) * len(LAYOUTS)
        rows = Counter(row["id"] for row in _rows(given.replies))
        seen = {id for id, count in rows.items() if count == whole}
        left = [
            asked
            for asked in drawn(rehearsed())
            if asked.id not in seen and (not given.speakers or asked.speaker in given.speakers)
        ]
        asyncio.run(ask(given.model, given.replies, left[: given.calls]))
    else:
        report(given.model, given.replies)


if __name__ == "__main__":
    main()
