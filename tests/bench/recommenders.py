"""What recommenders are worth: NDCG@10 and Recall@10 of held-out items under full ranking.

    DATA_ROOT=... python -m tests.bench.recommenders --data ml-100k

The domain is `movielens` with min_rating 3 and k_core 10 (AF-IRS, section 5.1.1); every recommender
has its default options, SASRec with `--seeds` seeds. Items that a user had before are left out of
the ranking. SASRec picks its best epoch by the validation figures, so the test figures, which
nothing was chosen by, are the fair comparison. `eq4` ranks by `similarities` in place of `scores`.

Ends with 1 unless every seed of SASRec beats the others' NDCG@10 on validation.
"""

# Options are those of plug-ins, whose own classes pyright cannot know.
# pyright: reportArgumentType=false, reportCallIssue=false
# pyright: reportAttributeAccessIssue=false, reportOptionalMemberAccess=false

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

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

K = 10


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


def ranks(rate: Callable[[Sequence[int]], np.ndarray], held: Held) -> np.ndarray:
    one_by_one = zip(held.histories, held.targets, strict=True)
    return np.concatenate(
        [
            target_ranks(rate(seen)[None], np.array([target]), [np.array(seen)])
            for seen, target in one_by_one
        ]
    )


def fitted(domain: Domain, name: str, seed: int) -> tuple[Recommender, Progress]:
    recipe = RecommenderRef.model_validate(name).recipe()
    for progress in recipe.fit(domain.training_data(), seed):
        print(f"{name}, seed {seed}: {progress.note}", file=sys.stderr, flush=True)
        if progress.result is not None:
            return recipe.load(progress.result, domain.catalogue), progress
    raise AssertionError(f"{name} gave no result")


def figures(rate: Callable[[Sequence[int]], np.ndarray], splits: Sequence[Held]) -> list[float]:
    found = [ranks(rate, held) for held in splits]
    return [measure(places, K) for places in found for measure in (ndcg, recall)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="ml-100k")
    parser.add_argument("--min-rating", type=float, default=3.0)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    path = Path(os.environ["DATA_ROOT"]) / given.data
    domain = MovieLens(MovieLens.Options(path=path, min_rating=given.min_rating))
    splits = [validation(domain), test(domain)]
    print(f"{given.data}: {domain.statistics()}")
    print(
        f"{'recommender':20} {'validation':>19} {'test':>19}\n"
        f"{'':20} {f'NDCG@{K}':>9} {f'Recall@{K}':>9} {f'NDCG@{K}':>9} {f'Recall@{K}':>9}"
        f" {'seconds':>8} {'epochs':>6} {'ms/user':>8}"
    )
    trained = ("sasrec", "iclrec")
    runs = [("popularity", 0), ("item_knn", 0)]
    runs += [(name, seed) for name in trained for seed in range(given.seeds)]
    users = sum(len(held.targets) for held in splits)
    best: dict[str, list[float]] = {}
    for name, seed in runs:
        started = time.perf_counter()
        recommender, progress = fitted(domain, name, seed)
        seconds = time.perf_counter() - started
        for label, rate in (("", recommender.scores), (" eq4", recommender.similarities)):
            started = time.perf_counter()
            found = figures(rate, splits)
            each = 1000 * (time.perf_counter() - started) / users
            shown = " ".join(f"{value:9.4f}" for value in found)
            title = f"{name}{label}" + (f", seed {seed}" if name in trained else "")
            print(f"{title:20} {shown} {seconds:8.1f} {progress.done:6} {each:8.2f}", flush=True)
            if not label:
                best.setdefault(name, []).append(found[0])
    low = min(min(best.pop(name)) for name in trained)
    ahead = low > max(max(found) for found in best.values())
    print(f"every seed of {' and '.join(trained)} beats the others on validation: {ahead}")
    return 0 if ahead else 1


if __name__ == "__main__":
    sys.exit(main())
