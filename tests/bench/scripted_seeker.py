"""Does the policy gradient find the rewarded strategy, and does the entropy term keep exploring?

    python -m tests.bench.scripted_seeker [--settings FILE] [--seeds N] [--out FILE]

A scripted seeker says one of a few sentences, and accepts only after one particular strategy; that
turn has the reward 1, all others 0. The policy starts from random weights. Prints, over seeds, for
beta 0 and for the default beta: the probability of that strategy in the first turn after training,
whether it is the likeliest, and the entropy; and an interval for the difference in entropy.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import yaml
from scipy import stats

from agents.core.dialogue import Message
from agents.policies.core.dialogues import state_of
from agents.policies.core.labels import INSPIRED
from agents.policies.core.network import NetworkRef
from agents.policies.core.options import RlOptions
from agents.policies.core.recipes import Reinforced, Untrained
from agents.policies.core.trained import TrainedPolicy

SETTINGS = Path(__file__).with_suffix(".yaml")
OPENINGS = ("I want a film for tonight", "Can you help me find a comedy?", "Something scary please")
ANSWERS = ("Hm, I am not sure", "Maybe, tell me more", "No, something else")


def dialogue(
    policy: TrainedPolicy, settings: dict[str, Any], drawn: random.Random
) -> dict[str, Any]:
    """A rollout in the form that a learner takes."""
    said = [Message("user", drawn.choice(OPENINGS))]
    steps, accepts = [], False
    for _ in range(settings["turns"]):
        state = state_of(said)
        [found] = policy.decide([state], [drawn.getrandbits(48)], "sample")
        accepts = found.label == settings["wanted"]
        steps.append({"state": state, "label": found.label, "reward": float(accepts)})
        if accepts:
            break
        said += [Message("recommender", found.label), Message("user", drawn.choice(ANSWERS))]
    return {"steps": steps, "success": accepts}


def train(settings: dict[str, Any], beta: float | None, seed: int) -> Iterator[TrainedPolicy]:
    """The policy before each update, and after the last."""
    ref = NetworkRef.model_validate(settings["network"])
    given = {**settings["rl"], "epochs": 1, "dialogues": settings["dialogues"]}
    options = RlOptions.model_validate(given if beta is None else {**given, "beta": beta})
    start = Untrained(ref, "inspired")
    recipe = Reinforced(ref, "inspired", start, options.settings(), "planner")
    *_, first = start.fit(None, seed)  # type: ignore[arg-type]
    learner = recipe.learner(first.result, seed, None)  # type: ignore[arg-type]
    drawn = random.Random(seed)
    while True:
        weights = learner.weights()
        policy = TrainedPolicy(ref.network(weights), INSPIRED, weights, ref.name)
        yield policy
        if learner.done == recipe.updates:
            return
        left = recipe.dialogues - learner.done * recipe.every
        learner.update([dialogue(policy, settings, drawn) for _ in range(min(recipe.every, left))])


def outcome(policy: TrainedPolicy, wanted: str) -> dict[str, Any]:
    """What a policy would do in the first turn, averaged over what the seeker may say."""
    states = [state_of([Message("user", words)]) for words in OPENINGS]
    found = policy.probabilities(states)
    entropy = float(-(found * np.log(found)).sum(axis=1).mean())
    place = INSPIRED.index(wanted)
    return {
        "probability": float(found[:, place].mean()),
        "likeliest": bool((found.argmax(axis=1) == place).all()),
        "entropy": entropy,
    }


def run(settings: dict[str, Any], seeds: int, out: Path | None) -> list[dict[str, Any]]:
    rows = []
    for seed in range(seeds):
        for beta in (0.0, None):
            began, policy = time.monotonic(), None
            for policy in train(settings, beta, seed):  # noqa: B007  (the last one counts)
                pass
            assert policy is not None
            row = {"seed": seed, "beta": beta, **outcome(policy, settings["wanted"])}
            rows.append({**row, "seconds": round(time.monotonic() - began, 1)})
            print(json.dumps(rows[-1]), flush=True)
            if out is not None:
                out.write_text(json.dumps(rows, indent=1))
    return rows


def report(rows: list[dict[str, Any]]) -> None:
    for beta, name in ((0.0, "beta 0"), (None, "the default beta")):
        mine = [row for row in rows if row["beta"] == beta]
        reached = sum(row["probability"] >= 0.9 for row in mine[:5])
        largest = sum(row["likeliest"] for row in mine)
        print(
            f"{name}: probability at least 0.9 in {reached} of {len(mine[:5])} seeds, the "
            f"likeliest in {largest} of {len(mine)}; mean probability "
            f"{fmean(row['probability'] for row in mine):.3f}, mean entropy "
            f"{fmean(row['entropy'] for row in mine):.4f} nats"
        )
    pairs = {row["seed"]: [0.0, 0.0] for row in rows}
    for row in rows:
        pairs[row["seed"]][row["beta"] is None] = row["entropy"]
    more = [with_beta - without for without, with_beta in pairs.values()]
    if len(more) > 1:
        half = stats.t.ppf(0.975, len(more) - 1) * stdev(more) / len(more) ** 0.5
        print(
            f"entropy with beta minus without: {fmean(more):.4f}, 95% interval "
            f"[{fmean(more) - half:.4f}, {fmean(more) + half:.4f}] over {len(more)} seeds"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", type=Path, default=SETTINGS)
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    settings = yaml.safe_load(given.settings.read_text())
    report(run(settings, given.seeds or settings["seeds"], given.out))


if __name__ == "__main__":
    main()
