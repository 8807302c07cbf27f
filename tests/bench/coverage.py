"""How often intervals cover the true value and tests are wrong, and whether power is as predicted.

    python -m tests.bench.coverage
    python -m tests.bench.coverage --write     # replaces tests/bench/coverage.json

Each row is 1,000 simulated sweeps with fixed seeds (`tests/analysis/statistics/simulated.py`), with
99 and 1,000 cases; sweeps whose agents vary by seed have 3, 5 and 10 seeds. Limits: coverage
between 93 and 97 %, and at least 93 % where there are so few seeds that results are marked; at most
5 % false positives after correction; and power within 5 points. Each limit allows for 3 standard
errors of the simulation. `efficiency` is the share of rows within their limits.
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path

import numpy as np

from analysis.statistics.components import FEW_SEEDS, Components
from analysis.statistics.power import power
from analysis.statistics.significance import holm
from tests.analysis.statistics.simulated import Design, covered, estimated
from tests.bench.ending import AtLeast, ending

SWEEPS, RESAMPLES = 1_000, 1_000
RESULT = Path(__file__).with_name("coverage.json")
ERROR = 3 * (0.05 * 0.95 / SWEEPS) ** 0.5


def rows() -> list[dict]:
    found = []
    for cases in (99, 1_000):
        designs = [Design(cases, 1), Design(cases, 5), Design(cases, 5, rates=False)]
        designs += [Design(cases, 5, means=(1.9, 1.6))]  # rates near 1
        designs += [Design(cases, s, agent_seed=a) for s in (3, 5, 10) for a in (0.05, 0.2)]
        for design in designs:
            share = covered(design, SWEEPS, 1, 10) / SWEEPS  # no interval is resampled
            few = design.agent_seed > 0 and design.seeds < FEW_SEEDS
            within = 0.93 <= share <= (1.0 if few else 0.97)
            found.append(_row("coverage of the 95 % interval", design, share, within, few=few))
    for design in (Design(99, 3, means=(0.0,) * 4), Design(99, 5, (0.0,) * 4, agent_seed=0.2)):
        share = false_positives(design)
        found.append(_row("false positives, 6 pairs, Holm", design, share, share <= 0.05 + ERROR))
    for design in (Design(99, 3, (0.33, 0.0)), Design(400, 5, (0.15, 0.0))):
        promised, reached = powers(design)
        within = abs(promised - reached) <= 0.05 + 3 * (reached * (1 - reached) / SWEEPS) ** 0.5
        found.append(_row("power", design, reached, within, promised=round(promised, 3)))
    return found


def false_positives(design: Design) -> float:
    rng, hits = np.random.default_rng(2), 0
    for _ in range(SWEEPS):
        pairs = itertools.combinations(design.values(rng), 2)
        hits += min(holm([estimated(design, a, b, RESAMPLES).p for a, b in pairs])) < 0.05
    return hits / SWEEPS


def powers(design: Design) -> tuple[float, float]:
    """The power predicted from the mean components of 200 other sweeps, and the actual power."""
    pilot = [e.variance for e in design.estimates(200, 3, 10) if e.variance is not None]
    case, seed, rest = map(float, np.mean([v[:3] for v in pilot], axis=0))
    variance = Components(case, seed, rest, design.cases, design.seeds)
    promised = power(design.truth, variance, design.cases, design.seeds, step=float(design.rates))
    return promised, float(np.mean([e.p < 0.05 for e in design.estimates(SWEEPS, 4, RESAMPLES)]))


def _row(what: str, design: Design, share: float, within: bool, **more: object) -> dict:
    row = {
        "what": what,
        "metric": "rate" if design.rates else "turns",
        "agents": len(design.means),
        "cases": design.cases,
        "seeds": design.seeds,
        "agent_by_seed": design.agent_seed,
        "share": round(share, 3),
        "within": bool(within),
        **more,
    }
    print(json.dumps(row), flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    chosen = parser.parse_args()
    found = rows()
    if chosen.write:
        RESULT.write_text("[\n" + ",\n".join(json.dumps(row) for row in found) + "\n]\n")
    within = sum(row["within"] for row in found) / len(found)
    measured = {"within_limits": AtLeast(round(within, 3), 1.0)}
    print(ending("coverage", measured, sweeps=SWEEPS, rows=len(found)))


if __name__ == "__main__":
    main()
