"""How prompts are laid out as chat messages, compared on a real small model without guidance.

    python -m tests.bench.prompt_layouts ask MODEL replies.jsonl --calls 20    # until none is left
    python -m tests.bench.prompt_layouts report MODEL replies.jsonl
    python -m tests.bench.prompt_layouts score MODEL

Every agent plays a few dialogues with the rules backend. For each of its steps and each of the
user's, some calls are drawn and rendered in every layout of `LAYOUTS`, so that all layouts make the
same calls with the same seeds. Decoding is not guided, and invalid replies are not asked for again.
The tables and the decision are in docs/designs/prompts.md. It is not part of `make bench`, because
it takes half an hour.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agents.core.ask import _parse
from agents.core.calls import Completion
from agents.core.steps import Step
from tests.bench.prompt_layouts.calls import Asked, drawn, rehearsed
from tests.bench.prompt_layouts.layouts import LAYOUTS
from tests.bench.prompt_layouts.prefixes import prefixes, rendered
from workers.backends.core.engines import Request
from workers.backends.vllm.backend import VLLMBackend
from workers.backends.vllm.model.options import VLLMOptions
from workers.backends.vllm.serving.engine import VLLMEngine, clean_environment

SEEDS = (0, 1, 2)
# No penalty of repetitions: it counts the prompt's tokens too, and so keeps a model from the form.
SAMPLING = {"temperature": 0.4, "max_tokens": 120}
IN_FLIGHT = 16


async def ask(model: str, path: Path, calls: Sequence[Asked]) -> None:
    """Appends a line to `path` for each reply to `calls` that is not in it yet."""
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
    """What is counted for one reply."""
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
    """The instructions of fields, in the form in which a reply would copy them."""
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
    """Prints how likely a valid reply is in each layout, which the share of valid replies does not
    show if it is close to zero. In nats: the opening of the reply, up to the first value, and the
    mean over the tokens of the whole reply; with 95 % bootstrap intervals of the difference from
    `middle`."""
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
            ids = tokenizer.encode(rendered(tokenizer, layout(asked.pieces)))
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


def report(model: str, path: Path) -> None:
    """Prints the tables of docs/designs/prompts.md for the calls that have all their replies."""
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
    """A mean difference, with its 95 % bootstrap interval over calls."""
    low, high = _interval(values)
    return f"{values.mean():+{form}} [{low:+{form}}, {high:+{form}}]"


def _by_call(rows: Sequence[Mapping[str, Any]], layout: str, key: str) -> dict[str, float]:
    """The mean of `key` over the seeds, for each call."""
    found: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        if row["layout"] == layout:
            found[row["id"]].append(row[key])
    return {id: float(np.mean(values)) for id, values in found.items()}


def _interval(values: np.ndarray) -> tuple[float, float]:
    """The 95 % bootstrap interval of the mean, over calls."""
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
