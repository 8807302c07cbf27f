"""How well the policies of the multi-round setting do in a world whose best policy is known, and
how fast they are.

    python -m tests.bench.classic toy
    DATA_ROOT=... python -m tests.bench.classic speed
    DATA_ROOT=... python -m tests.bench.classic lastfm --agents ear --seeds 0 1 2

`toy`: the success rates of `ear`, `crm`, `crif` and `unicorn` with 5 seeds in
`tests.agents.multi_round.toy`, where the best policy has 1. The limit is 0.95. Average turns are
printed too (best: 2.33), but only the rewards of `ear`, `crm` and `crif` favour few turns:
UNICORN's pay 0.01 for every "yes", even if the answer was known.

`speed`: on LastFM, one round of training for each agent, with the shares of network, replay, user
and state (candidates, scores, entropies), and evaluation of many dialogues at once. The unit is
dialogues per second of CPU time, so that other processes do not matter: run it with
OPENBLAS_NUM_THREADS=1. According to its log, UNICORN's public code tests 5.7 dialogues per second;
the limit is 20 times that. Vectors and weights are barely trained, which does not affect the speed.

`lastfm`: SR@15, SR@14, AT and hDCG of fully trained agents on the 2,000 test pairs of
`sweeps/classic/lastfm.yaml`, many dialogues at once; of policy networks also with actions drawn
instead of the likeliest ones. The seed affects vectors, policy and openings.
Runs with different seeds share nothing, so the mean and its 95 % interval (Student's t) cover the
variation of all training.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from agents.core import plugins
from agents.multi_round.embeddings import EmbeddingOptions, EmbeddingRecipe, vectors_of
from agents.multi_round.policy import AbsGreedyPolicy, MaxEntropyPolicy, Policy
from agents.multi_round.practice import Practice
from agents.multi_round.reinforce import NetworkPolicy
from agents.multi_round.space import AttributeSpace
from simulators.domains.lastfm import LastFM
from sweeps import identity
from tests.agents.multi_round.toy import BEST_SUCCESS, OPTIONS, TURNS, toy

SEEDS = 5
LEAST = 0.95
PUBLISHED = 5.7  # dialogues a second
FASTER = 20
EVALUATED = 512
PAIRS = 2000  # of the sweep: the first of the order that its sample_seed gives
RULES: dict[str, Policy] = {"abs_greedy": AbsGreedyPolicy(), "max_entropy": MaxEntropyPolicy()}
REINFORCE = {"imitated": 20, "updates": 100, "at_once": 64, "lr": 0.01}
TOY = {
    "ear": REINFORCE,
    "crm": REINFORCE,
    "crif": {"updates": 120, "at_once": 64, "lr": 0.01},
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
    "crif": {"updates": 1},
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


def lastfm() -> LastFM:
    options: Any = plugins.build_options(
        LastFM.Options, {"path": Path(os.environ["DATA_ROOT"]) / "lastfm"}
    )
    return LastFM(options)


def on_lastfm(names: list[str], seeds: list[int]) -> dict[str, Any]:
    """Per agent: the metrics of every seed, and their mean with its interval."""
    domain = lastfm()
    data = domain.training_data()
    ids = list(domain.case_ids("test"))
    order = identity.sample_order(ids, sample_seed=0)
    cases = [domain.case("test", ids[place]) for place in order[:PAIRS]]
    numbers = {name: place for place, name in enumerate(data.interactions.user_ids)}
    users = np.array([numbers[str(case.visible.user_id)] for case in cases])
    places = domain.catalogue.position
    targets = np.array([places[case.hidden.targets[0].id] for case in cases])
    found: dict[str, dict[str, list[float]]] = {}
    for seed in seeds:
        made: dict[EmbeddingOptions, Any] = {}
        for name in names:
            recipe = recipe_of(name if name in TOY else "ear", {"repeat": True})
            wanted = recipe.options.vectors
            if wanted not in made:
                *_, last = EmbeddingRecipe(wanted).fit(data, seed)
                assert last.result is not None
                made[wanted] = vectors_of(last.result, AttributeSpace.of(domain.catalogue))
            practice = Practice(data, made[wanted], recipe.options.rules())
            policy = RULES.get(name) or trained(recipe, practice, seed, domain)
            acting = {name: policy}
            if isinstance(policy, NetworkPolicy):
                acting[f"{name}, actions sampled"] = policy.sampled()
            for title, each in acting.items():
                reached = practice.evaluate(each, users, targets, seed)
                measured = {
                    "sr@15": reached.success(15),
                    "sr@14": reached.success(14),
                    "at": reached.average_turns(15),
                    "hdcg": reached.hdcg(),
                }
                print(f"{title}, seed {seed}: {measured}", flush=True)
                for metric, value in measured.items():
                    found.setdefault(title, {}).setdefault(metric, []).append(round(value, 4))
    return {
        name: {"seeds": values, "mean": {m: interval(v) for m, v in values.items()}}
        for name, values in found.items()
    }


def trained(recipe: Any, practice: Practice, seed: int, domain: LastFM) -> Policy:
    last = deque(recipe.train(practice, seed, None), maxlen=1).pop()
    return recipe.load(last.result, domain.catalogue)


def interval(values: list[float]) -> tuple[float, float | None]:
    """The mean of seeds, and half of its 95 % interval; None for one seed."""
    n = len(values)
    half = stats.t.ppf(0.975, n - 1) * stats.sem(values) if n > 1 else None
    return round(float(np.mean(values)), 4), half if half is None else round(float(half), 4)


def speeds(names: list[str]) -> dict[str, Any]:
    """Dialogues per second, and how the training time is divided."""
    domain = lastfm()
    data = domain.training_data()
    *_, last = EmbeddingRecipe(EmbeddingOptions(epochs=1), is_short=True).fit(data, 0)
    assert last.result is not None
    vectors = vectors_of(last.result, AttributeSpace.of(domain.catalogue))
    found: dict[str, Any] = {}
    for name in names:
        recipe = recipe_of(name, ROUND[name])
        practice = Practice(data, vectors, recipe.options.rules())
        run = recipe.training(practice, 0, None)
        run.one_round()  # makes what is only made once
        run.clock.spent.clear()
        began, on_the_wall = time.process_time(), time.perf_counter()
        run.one_round()
        seconds, passed = time.process_time() - began, time.perf_counter() - on_the_wall
        shares = {part: round(spent / passed, 3) for part, spent in run.clock.spent.items()}
        shares["rest"] = round(1 - sum(run.clock.spent.values()) / passed, 3)
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["toy", "speed", "lastfm"])
    parser.add_argument("--agents", nargs="+", default=list(TOY), choices=[*RULES, *TOY])
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(SEEDS)))
    given = parser.parse_args()
    if given.what == "toy":
        measured = best_of_toy(given.agents, given.seeds)
        worst = min(min(shares) for shares in measured.values())
        print(json.dumps({"measured": measured, "limit": LEAST, "efficiency": worst / LEAST}))
        return
    if given.what == "lastfm":
        print(json.dumps(on_lastfm(given.agents, given.seeds)))
        return
    measured = speeds(given.agents)
    limit = FASTER * PUBLISHED
    efficiency = min(one["evaluation"] for one in measured.values()) / limit
    print(json.dumps({"measured": measured, "limit": limit, "efficiency": efficiency}))


if __name__ == "__main__":
    main()
