"""Does LatentCRS's training recover planted intents?   python -m tests.bench.planted_intents

A synthetic domain with known intents: every item belongs to one; every user has a few and switches
between them; the next item belongs to the user's current intent. There are two kinds of words, as
vectors: about the intent of the next item (`informative`), and about an intent that is drawn
independently (`independent`, the negative control). Compared by recall@20 of the test items under
full ranking:

    iclrec        the recommender alone: histories, no words
    ranker        a network over history and words, with as many parameters as LatentCRS
    no_inference, direct_kl, whole    LatentCRS and two ablations of its Table 5

It is small enough to take a few minutes on one core. We expected, before the first run: with
informative words, `whole` is better than all others; with independent words, it gains nothing over
`iclrec`. Generator and settings are fixed below. Every run is printed, and docs/papers/latentcrs.md
reports all runs that were made.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy.stats import t

from agents.core.items import Interactions, TrainingData
from agents.latentcrs import LatentCRS
from agents.latentcrs.model import IntentModel
from agents.latentcrs.pipeline import Windows, histories_of
from agents.latentcrs.settings import Settings
from agents.latentcrs.training import Examples, train
from agents.recommenders.core import Recommender, RecommenderRef, histories, recall, target_ranks
from agents.training.k_means import k_means

SEEDS = range(5)
INTENTS, ITEMS, USERS, LENGTH, WORDS = 12, 300, 400, 17, 32
OWN, STAY = 3, 0.6  # intents of a user; chance to keep the intent of the moment
NOISE = 1.0  # standard deviation of words, whose means are standard normal draws
RECOMMENDER = {
    "name": "iclrec",
    "hidden": 32,
    "max_length": 15,
    "max_epochs": 30,
    "patience": 5,
    "intents": 16,
}
OPTIONS = {
    "intents": 16,
    "width": 32,
    "negatives": ITEMS,
    "windows_per_user": 4,
    "longest": 15,
    "warm_up_epochs": 20,
    "max_rounds": 20,
}
VARIANTS = {
    "whole": {},
    "direct_kl": {"direct_kl": True},
    "no_inference": {"inference_model": False},
}
K = 20


class World(NamedTuple):
    """The items of users, and the intent of each item."""

    data: TrainingData
    tests: np.ndarray
    intents: np.ndarray
    """Of items."""


def world(seed: int) -> World:
    rng = np.random.default_rng([seed, 1])
    intents = rng.integers(0, INTENTS, ITEMS)
    weights = rng.exponential(size=ITEMS)  # popularity
    walks = []
    for _ in range(USERS):
        own = rng.choice(INTENTS, OWN, replace=False)
        now, walk = rng.choice(own), []
        while len(walk) < LENGTH:
            if rng.random() > STAY:
                now = rng.choice(own)
            able = weights * (intents == now)
            able[walk] = 0
            if not able.any():
                now = rng.choice(own)
                continue
            walk.append(rng.choice(ITEMS, p=able / able.sum()))
        walks.append(walk)
    found = np.array(walks, np.int32)
    users = np.repeat(np.arange(USERS, dtype=np.int32), LENGTH - 2)
    names = tuple(f"u{user}" for user in range(USERS))
    flat = found[:, :-2].ravel()
    interactions = Interactions(names, users, flat, np.arange(len(flat)))
    return World(TrainingData(ITEMS, interactions, found[:, -2]), found[:, -1], intents)


def words_of(targets: np.ndarray, given: World, seed: int, *, informative: bool) -> np.ndarray:
    """(targets, WORDS), float16."""
    rng = np.random.default_rng([seed, 2, informative, len(targets)])
    means = np.random.default_rng([seed, 3]).normal(size=(INTENTS, WORDS))
    about = given.intents[targets] if informative else rng.integers(0, INTENTS, len(targets))
    return (means[about] + rng.normal(0, NOISE, (len(targets), WORDS))).astype(np.float16)


class Held(NamedTuple):
    """The test examples: whole histories, the words, and the items."""

    histories: np.ndarray
    words: np.ndarray
    targets: np.ndarray
    seen: list[np.ndarray]

    def recall(self, scores: np.ndarray) -> float:
        return recall(target_ranks(scores, self.targets, self.seen), K)


def encoded(recommender: Recommender, past: list[np.ndarray]) -> np.ndarray:
    return np.stack([recommender.user_embedding(items.tolist()) for items in past])


def last(steps: Iterator):
    *_, step = steps
    return step.result


def examples_of(given: World, recommender: Recommender, seed: int, informative: bool) -> Examples:
    options = LatentCRS.Options(**OPTIONS)
    windows = last(
        Windows(options.windows_per_user, None, USERS, options.longest, None).fit(given.data, seed)
    )
    past, targets = histories_of(windows), windows.arrays["targets"]
    users = encoded(recommender, histories(given.data))
    return Examples(
        encoded(recommender, past),
        words_of(targets, given, seed, informative=informative),
        targets,
        past,
        windows.arrays["validation"],
        k_means(users, options.intents, seed),
        np.asarray(recommender.item_embeddings, np.float32),
    )


def ranker(examples: Examples, held: Held, wanted: int, seed: int, settings: Settings) -> tuple:
    """Scores of a network over history and words with about `wanted` parameters."""
    wide = examples.histories.shape[1] + WORDS
    d_v = examples.items.shape[1]
    hidden = round((wanted - d_v) / (wide + 1 + d_v))
    torch.manual_seed(seed)
    net = torch.nn.Sequential(
        torch.nn.Linear(wide, hidden), torch.nn.ReLU(), torch.nn.Linear(hidden, d_v)
    )
    adam = torch.optim.Adam(net.parameters(), lr=settings.lr)
    items = torch.from_numpy(examples.items / np.sqrt((examples.items**2).mean()))
    mean = {n: getattr(examples, n)[~examples.validation].astype(np.float32).mean(axis=0) for n in
            ("histories", "words")}  # fmt: skip
    scale = {n: getattr(examples, n)[~examples.validation].astype(np.float32).std(axis=0) for n in
             ("histories", "words")}  # fmt: skip

    def inputs(source, rows=slice(None)):
        parts = [(getattr(source, n)[rows].astype(np.float32) - mean[n]) / scale[n] for n in mean]
        return torch.from_numpy(np.concatenate(parts, axis=1))

    learned, checked = np.flatnonzero(~examples.validation), np.flatnonzero(examples.validation)
    best, best_scores, waited = -1.0, None, 0
    for _ in range(2 * settings.warm_up_epochs + settings.max_rounds):
        order = learned[torch.randperm(len(learned)).numpy()]
        for start in range(0, len(order), settings.batch_size):
            rows = order[start : start + settings.batch_size]
            targets = torch.from_numpy(examples.targets[rows].astype(np.int64))
            adam.zero_grad()
            F.cross_entropy(net(inputs(examples, rows)) @ items.T, targets).backward()
            adam.step()
        with torch.no_grad():
            scores = (net(inputs(examples, checked)) @ items.T).numpy()
            ranks = target_ranks(
                scores, examples.targets[checked].astype(np.int64),
                [examples.seen[row] for row in checked],
            )  # fmt: skip
            now = recall(ranks, K)
            if now > best:
                best, waited = now, 0
                best_scores = (net(inputs(held)) @ items.T).numpy()
            else:
                waited += 1
        if waited >= settings.patience:
            break
    return best_scores, sum(p.numel() for p in net.parameters())


def run(seed: int, lr: float) -> dict[tuple[str, str], float]:
    given = world(seed)
    recipe = RecommenderRef.model_validate(RECOMMENDER).recipe()
    recommender = recipe.restored(last(recipe.fit(given.data, seed)))
    past = histories(given.data)
    past = [np.append(items, v) for items, v in zip(past, given.data.validation, strict=True)]
    alone = encoded(recommender, past)
    found: dict[tuple[str, str], float] = {}
    for informative in (True, False):
        kind = "informative" if informative else "independent"
        words = words_of(given.tests, given, seed, informative=informative)
        held = Held(alone, words, given.tests.astype(np.int64), past)
        found[kind, "iclrec"] = held.recall(alone @ recommender.item_embeddings.T)
        examples = examples_of(given, recommender, seed, informative)
        parameters = 0
        for name, changed in VARIANTS.items():
            settings = Settings(**LatentCRS.Options(**OPTIONS, **changed, lr=lr).settings())
            started = time.perf_counter()
            *steps, end = train(settings, examples, seed, None)
            result = end.result
            assert result is not None
            scores = IntentModel(result).probabilities(held.histories, held.words)
            found[kind, name] = held.recall(scores)
            skip = ("anchors", "items", "mean", "scale")
            parameters = sum(a.size for n, a in result.arrays.items() if not n.endswith(skip))
            shown = f"{found[kind, name]:.4f} after {len(steps)} epochs"
            print(
                f"seed {seed} {kind:11} {name:12} recall@{K} {shown}, "
                f"{time.perf_counter() - started:.0f} s",
                flush=True,
            )
        settings = Settings(**LatentCRS.Options(**OPTIONS, lr=lr).settings())
        scores, count = ranker(examples, held, parameters, seed, settings)
        found[kind, "ranker"] = held.recall(scores)
        print(
            f"seed {seed} {kind:11} iclrec {found[kind, 'iclrec']:.4f}, "
            f"ranker {found[kind, 'ranker']:.4f} ({count:,} parameters, LatentCRS {parameters:,})",
            flush=True,
        )
    return found


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, default=1e-3, help="of all but iclrec")
    lr = parser.parse_args().lr
    torch.set_num_threads(1)
    runs = [run(seed, lr) for seed in SEEDS]
    print(f"\nrecall@{K}: mean and 95% interval of t over {len(runs)} seeds")
    quantile = t.ppf(0.975, len(runs) - 1)
    for kind, name in runs[0]:
        values = np.array([found[kind, name] for found in runs])
        half = quantile * values.std(ddof=1) / len(values) ** 0.5
        gain = values - np.array([found[kind, "iclrec"] for found in runs])
        half_gain = quantile * gain.std(ddof=1) / len(values) ** 0.5
        print(
            f"{kind:11} {name:12} {values.mean():.4f} +- {half:.4f}   "
            f"over iclrec {gain.mean():+.4f} +- {half_gain:.4f}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
