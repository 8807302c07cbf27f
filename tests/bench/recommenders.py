"""Quality of recommenders: NDCG@10, Recall@10 and @20 of held-out items under full ranking.

    DATA_ROOT=... python -m tests.bench.recommenders --data ml-100k
    DATA_ROOT=... python -m tests.bench.recommenders --data ml-1m --min-rating 4 --k-core 0

The domain is `movielens` with min_rating 3 and k_core 10 (AF-IRS, section 5.1.1); LatentCRS has 4
and 0 (section 5.2). Recommenders have their default options; `--options` changes those of the
trained ones (`--options '{max_length: 50, full_softmax: 0, negatives: 256}'`), which run with
`--seeds` seeds. Items that a user had before are excluded from the ranking. SASRec and ICLRec
select their best epoch on the validation set, so compare the test numbers, on which nothing was
selected. `eq4` ranks by `similarities` instead of `scores`; `--scores-only` skips it. The
validation score after each epoch is printed to stderr.

ir_measures computes every number again from the rankings. The exit code is 1 if its numbers differ,
or if `popularity` or `item_knn` beats a seed of a trained recommender on validation.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ir_measures
import numpy as np
import yaml

from agents.core.artifacts import Progress
from agents.recommenders.core import (
    Recommender,
    RecommenderRef,
    histories,
    ndcg,
    positions,
    recall,
    target_ranks,
)
from simulators.core.cases import Domain
from simulators.domains.movielens import MovieLens

MEASURES = (("NDCG@10", ndcg, 10), ("Recall@10", recall, 10), ("Recall@20", recall, 20))
"""Of each split. The first decides which recommender is ahead."""
ORACLES = (ir_measures.nDCG @ 10, ir_measures.R @ 10, ir_measures.R @ 20)
DEEPEST = 20
TRAINED = ("sasrec", "iclrec")


class Held(NamedTuple):
    """Users whose next item is known."""

    histories: list[list[int]]
    targets: list[int]


def validation(domain: Domain) -> Held:
    data = domain.training_data()
    return Held([seen.tolist() for seen in histories(data)], data.validation.tolist())


def test(domain: Domain) -> Held:
    cases = [domain.case("test", case_id) for case_id in domain.case_ids("test")]
    return Held(
        [positions(case.visible.history, domain.catalogue) for case in cases],
        [domain.catalogue.position[case.hidden.targets[0].id] for case in cases],
    )


def ranks(
    rate: Callable[[Sequence[int]], np.ndarray], held: Held
) -> tuple[np.ndarray, list[list[int]]]:
    """For each user: the rank of the target, and the best items, from a separate sort."""
    places, lists = [], []
    for seen, target in zip(held.histories, held.targets, strict=True):
        scores = rate(seen)
        places.append(target_ranks(scores[None], np.array([target]), [np.array(seen)]))
        order = np.argsort(-scores, kind="stable").tolist()
        left_out = set(seen) - {target}
        lists.append([item for item in order if item not in left_out][:DEEPEST])
    return np.concatenate(places), lists


def fitted(
    domain: Domain, given: Mapping[str, Any], seed: int, minutes: float
) -> tuple[Recommender, Progress]:
    """After `minutes`, training stops at the end of an epoch, and its best epoch is used."""
    name = given["name"]
    recipe = RecommenderRef.model_validate(given).recipe()
    data = domain.training_data()
    started = time.perf_counter()
    training = recipe.fit(data, seed)
    while True:
        progress = next(training)
        seconds = time.perf_counter() - started
        print(f"{name}, seed {seed}: {progress.note}, {seconds:.0f} s", file=sys.stderr, flush=True)
        if progress.result is not None:
            return recipe.load(progress.result, domain.catalogue), progress
        if seconds > 60 * minutes and progress.done < progress.most:
            short = {**given, "max_epochs": progress.done}
            training = RecommenderRef.model_validate(short).recipe().fit(data, seed, progress.state)


def by_oracle(lists: list[list[int]], targets: Sequence[int]) -> list[float]:
    """The same measures of the same rankings, computed by ir_measures."""
    qrels = {str(user): {str(target): 1} for user, target in enumerate(targets)}
    run = {
        str(user): {str(item): float(-place) for place, item in enumerate(items)}
        for user, items in enumerate(lists)
    }
    found = ir_measures.calc_aggregate(ORACLES, qrels, run)
    return [found[measure] for measure in ORACLES]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="ml-100k")
    parser.add_argument("--min-rating", type=float, default=3.0)
    parser.add_argument("--k-core", type=int, default=10)
    parser.add_argument("--recommenders", nargs="+", default=["popularity", "item_knn", *TRAINED])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--options", type=yaml.safe_load, default={}, help="of trained ones, YAML")
    parser.add_argument("--scores-only", action="store_true")
    parser.add_argument("--minutes", type=float, default=math.inf, help="at most, for a training")
    given = parser.parse_args()
    path = Path(os.environ["DATA_ROOT"]) / given.data
    domain = MovieLens(
        MovieLens.Options(path=path, min_rating=given.min_rating, k_core=given.k_core)
    )
    splits = [validation(domain), test(domain)]
    print(f"{given.data}: {domain.statistics()}")
    columns = "".join(f" {name:>9}" for name, _, _ in MEASURES)
    print(
        f"{'':20} {'validation':>{len(columns)}} {'test':>{len(columns)}}\n"
        f"{'recommender':20} {columns} {columns} {'seconds':>8} {'epochs':>6} {'ms/user':>8}"
    )
    users = sum(len(held.targets) for held in splits)
    best: dict[str, list[float]] = {}
    furthest = 0.0
    for name in given.recommenders:
        for seed in range(given.seeds if name in TRAINED else 1):
            started = time.perf_counter()
            own = {"name": name, **(given.options if name in TRAINED else {})}
            recommender, progress = fitted(domain, own, seed, given.minutes)
            seconds = time.perf_counter() - started
            rates = [("", recommender.scores), (" eq4", recommender.similarities)]
            for label, rate in rates[: 1 if given.scores_only else 2]:
                started = time.perf_counter()
                ranked = [ranks(rate, held) for held in splits]
                each = 1000 * (time.perf_counter() - started) / users
                found = [[measure(own, k) for _, measure, k in MEASURES] for own, _ in ranked]
                again = [
                    by_oracle(lists, held.targets)
                    for (_, lists), held in zip(ranked, splits, strict=True)
                ]
                furthest = max(furthest, float(np.abs(np.subtract(found, again)).max()))
                shown = "  ".join(" ".join(f"{value:9.4f}" for value in split) for split in found)
                title = f"{name}{label}" + (f", seed {seed}" if name in TRAINED else "")
                print(
                    f"{title:20}  {shown} {seconds:8.1f} {progress.done:6} {each:8.2f}", flush=True
                )
                if not label:
                    best.setdefault(name, []).append(found[0][0])
    agreed = furthest < 1e-9
    print(f"largest difference from ir_measures: {furthest:.1e}")
    trained = [value for name in best if name in TRAINED for value in best[name]]
    others = [value for name in best if name not in TRAINED for value in best[name]]
    ahead = not trained or not others or min(trained) > max(others)
    if trained and others:
        print(f"every trained recommender is ahead of the others on validation: {ahead}")
    return 0 if ahead and agreed else 1


if __name__ == "__main__":
    sys.exit(main())
