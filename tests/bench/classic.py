"""What the policies of the multi-round setting reach in a world whose best policy is known, and how
fast they are.

    python -m tests.bench.classic toy
    DATA_ROOT=... python -m tests.bench.classic speed

`toy`: the success of `ear`, `crm` and `unicorn` with 5 seeds in `tests.agents.multi_round.toy`,
where the best policy has 1. The limit is 0.95. Average turns are printed too (best: 2.33), but only
the rewards of `ear` and `crm` ask for few: those of UNICORN pay 0.01 for every "yes", also for one
that was known.

`speed`: on LastFM, one round of training for each agent, with the shares of network, replay, user
and state (candidates, scores, entropies); and evaluation, many dialogues at once. All in dialogues
per second of one core, so that others on the machine do not count: run it with
OPENBLAS_NUM_THREADS=1. UNICORN's public code tests 5.7 dialogues a second by its own log; the limit
is 20 times that. Vectors and weights are hardly trained, which changes nothing about the work.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from agents.core import plugins
from agents.multi_round.embeddings import Embedded, EmbeddingOptions, vectors_of
from agents.multi_round.practice import Practice
from agents.multi_round.space import AttributeSpace
from simulators.domains.lastfm import LastFM
from tests.agents.multi_round.toy import BEST_SUCCESS, OPTIONS, TURNS, toy

SEEDS = 5
LEAST = 0.95
PUBLISHED = 5.7  # dialogues a second
FASTER = 20
EVALUATED = 512
REINFORCE = {"imitated": 20, "updates": 100, "at_once": 64, "lr": 0.01}
TOY = {
    "ear": REINFORCE,
    "crm": REINFORCE,
    "unicorn": {
        "dialogues": 5000,
        "at_once": 32,
        "batch_size": 64,
        "updates_every": 3,
        "lr": 1e-3,
        "hidden": 32,
        "replay": 4000,
        "target_rate": 0.05,
    },
}
ROUND = {
    "ear": {"imitated": 0, "updates": 1},
    "crm": {"imitated": 0, "updates": 1},
    "unicorn": {"dialogues": 128},
}


def recipe_of(name: str, options: dict[str, Any]) -> Any:
    cls: Any = plugins.load("agents", name, "agent")
    return cls.recipe(plugins.build_options(cls.Options, options))


def best_of_toy(names: list[str], seeds: list[int]) -> dict[str, Any]:
    """Per agent: the success rates, by seed."""
    found = {}
    for name in names:
        shares = []
        for seed in seeds:
            practice = toy(seed)
            recipe = recipe_of(name, {**OPTIONS, **TOY[name]})
            *_, last = recipe.train(practice, seed, None)
            policy = recipe.load(last.result, None)
            reached = practice.evaluate(policy, practice.users, practice.targets, seed)
            shares.append(round(reached.success(TURNS) / BEST_SUCCESS, 3))
            turns = round(reached.average_turns(TURNS), 2)
            print(f"{name}, seed {seed}: {shares[-1]}, {turns} turns", flush=True)
        found[name] = shares
    return found


def speeds() -> dict[str, Any]:
    """Dialogues a second, and where the time of training goes."""
    options: Any = plugins.build_options(
        LastFM.Options, {"path": Path(os.environ["DATA_ROOT"]) / "lastfm"}
    )
    domain = LastFM(options)
    data = domain.training_data()
    *_, last = Embedded(EmbeddingOptions(epochs=1), is_short=True).fit(data, 0)
    assert last.result is not None
    vectors = vectors_of(last.result, AttributeSpace.of(domain.catalogue))
    found: dict[str, Any] = {}
    for name, given in ROUND.items():
        recipe = recipe_of(name, given)
        practice = Practice(data, vectors, recipe.options.rules())
        run = training_of(name, recipe, practice)
        began = time.process_time()
        run.one_round() if name == "unicorn" else run.one_update()
        seconds = time.process_time() - began
        shares = {part: round(spent / seconds, 3) for part, spent in run.clock.spent.items()}
        policy = recipe.load(run.result(), domain.catalogue)
        chosen = np.random.default_rng(0).permutation(len(practice.users))[:EVALUATED]
        began = time.process_time()
        practice.evaluate(policy, practice.users[chosen], practice.targets[chosen], 0)
        found[name] = {
            "training": round(recipe.options.at_once / seconds, 1),
            "shares": shares,
            "evaluation": round(EVALUATED / (time.process_time() - began), 1),
        }
        print(f"{name}: {found[name]}", flush=True)
    return found


def training_of(name: str, recipe: Any, practice: Practice) -> Any:
    if name == "unicorn":
        from agents.unicorn.training import Training as Learning

        return Learning(recipe.options, practice, 0, None)
    from agents.multi_round.reinforce import Training

    return Training(recipe, practice, 0, None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["toy", "speed"])
    parser.add_argument("--agents", nargs="+", default=list(TOY), choices=list(TOY))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(SEEDS)))
    given = parser.parse_args()
    if given.what == "toy":
        figures = best_of_toy(given.agents, given.seeds)
        worst = min(min(shares) for shares in figures.values())
        print(json.dumps({"figures": figures, "limit": LEAST, "efficiency": worst / LEAST}))
        return
    figures = speeds()
    limit = FASTER * PUBLISHED
    efficiency = figures["unicorn"]["evaluation"] / limit
    print(json.dumps({"figures": figures, "limit": limit, "efficiency": efficiency}))


if __name__ == "__main__":
    main()
