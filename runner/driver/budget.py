"""What a sweep has used in tokens, money and GPU hours over all its runs, and its caps.

1. Every reply that did not come from a cache was paid for, including those of failed and lost
   attempts.
2. The folder's calls show what was paid and committed; the manifest's entry of a run shows what its
   driver saw, including calls of interrupted dialogues. For each run and model, the larger count is
   used.
3. Prices are those currently in the sweep file, by the model's name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from agents.core.calls import MOST_TOKENS
from analysis.results import Results
from analysis.sql.tokens import UNCOUNTED
from runner.placement.groups import needs_of
from sweeps import manifest as manifests
from sweeps.manifest import RunEntry
from sweeps.plan import Plan
from sweeps.schema import Caps, Price
from workers.core.usage import Usage, add

LEAST_UNCOUNTED = 10  # replies, none of them counted: fewer say little about a server
_POSSIBLE = f"BETWEEN 0 AND {MOST_TOKENS}"  # a count of one call


def check_caps(plan: Plan) -> dict[str, Price]:
    """The prices by model name. Raises UsageError for a cap that could not be enforced."""
    caps, origins = plan.loaded.header.caps, plan.loaded.origins
    prices: dict[str, Price] = {}
    for cell in plan.cells:
        for name, model in cell.config.models.items():
            if model.price is None:
                continue
            if prices.setdefault(name, model.price) != model.price:
                raise origins.refuse(
                    ("models", name, "price"),
                    "this model has different prices in different cells, but costs are summed by "
                    "model name; use one name per price",
                )
    if caps.cost is not None:
        for name in dict.fromkeys(name for cell in plan.cells for name in cell.models):
            if name not in prices:
                raise origins.refuse(
                    ("models", name),
                    "caps.cost needs the price of every model that is used; expected "
                    "price: {input: ..., output: ...} (per million tokens), found none",
                )
    local = plan.loaded.header.run.executor == "local"
    if caps.gpu_hours is not None and local and needs_of(plan, cpu=False).specs:
        raise origins.refuse(
            ("caps", "gpu_hours"),
            "cannot be enforced with run.executor: local, which starts engines in its own process "
            "and does not count their hours; expected run.executor: ray",
        )
    return prices


@dataclass
class Budget:
    """The caps, and how much of them was used before and during this run.

    `gpu_seconds` returns the GPU seconds of this run so far.
    """

    caps: Caps
    prices: Mapping[str, Price]
    before: Mapping[str, Usage] = field(default_factory=dict)
    gpu_seconds_before: float = 0.0
    now: dict[str, Usage] = field(default_factory=dict)
    gpu_seconds: Callable[[], float] = lambda: 0.0

    @property
    def tokens(self) -> int:
        return sum(used.tokens for part in (self.before, self.now) for used in part.values())

    @property
    def cost(self) -> float:
        return sum(
            self.prices[name].of(used.input, used.output)
            for part in (self.before, self.now)
            for name, used in part.items()
        )

    @property
    def gpu_hours(self) -> float:
        return (self.gpu_seconds_before + self.gpu_seconds()) / 3600

    def used(self) -> dict[str, tuple[float, float]]:
        """Maps each cap that is set to what has been used and to the cap itself."""
        caps = {name: cap for name, cap in self.caps if cap is not None}
        return {name: (getattr(self, name), cap) for name, cap in caps.items()}

    def reached(self) -> str | None:
        """Describes a cap that is reached or cannot be enforced; None if there is none."""
        used = self.used()
        for name, (now, cap) in used.items():
            if now >= cap:
                return f"caps.{name} is reached: {_words(name, now)} of {_words(name, cap)}"
        if "tokens" in used or "cost" in used:
            for name, one in self.now.items():
                if _never_counts(one):
                    return (
                        f"the server of the model {name!r} returns no token counts, so caps "
                        "on tokens and cost cannot be enforced"
                    )
        return None

    def needs(self) -> list[str]:
        """The overrides that the next run needs to continue; the user chooses the numbers."""
        uncounted = any(map(_never_counts, self.now.values()))
        found: list[str] = []
        for name, (now, cap) in self.used().items():
            if uncounted and name != "gpu_hours":
                found.append(f"caps.{name}=null")
            elif now >= cap:
                found.append(f"caps.{name}=MORE_THAN_{_words(name, now).replace(',', '')}")
        return found

    def line(self) -> str | None:
        """`caps: tokens 1,204 of 1,000,000`, or None where nothing is capped.

        Replies without token counts make lower bounds of tokens and cost.
        """
        least = any(one.uncounted for part in (self.before, self.now) for one in part.values())
        parts = [
            f"{name.replace('gpu_hours', 'GPU hours')} "
            f"{'at least ' * (least and name != 'gpu_hours')}{_words(name, now)} "
            f"of {_words(name, cap)}"
            for name, (now, cap) in self.used().items()
        ]
        return f"caps: {', '.join(parts)}" if parts else None


def _never_counts(used: Usage) -> bool:
    """Whether a server seems to return no token counts at all; single replies may lack them."""
    return used.uncounted >= LEAST_UNCOUNTED and not used.counted


def _words(name: str, value: float) -> str:
    return f"{value:,.0f}" if name == "tokens" else f"{value:,.4f}".rstrip("0").rstrip(".")


def budget_of(plan: Plan) -> Budget:
    """The budget of a sweep, including what its folder has used. Reads nothing if there are no
    caps."""
    caps, prices = plan.loaded.header.caps, check_caps(plan)
    out = plan.loaded.out
    if caps == Caps() or manifests.read(out) is None:
        return Budget(caps, prices)
    results = Results.open(out)
    before = paid(results)
    if caps.cost is not None:
        for name, used in before.items():
            if used.tokens and name not in prices:
                raise plan.loaded.origins.refuse(
                    ("caps", "cost"),
                    f"{out} has used {used.tokens:,} tokens of the model {name!r}, which has no "
                    "price here; add it to `models`, with its price",
                )
    return Budget(caps, prices, before, _gpu_seconds(results.manifest.runs))


def budget_in(results: Results) -> Budget | None:
    """The budget of a folder with the caps and prices of its last run; None before the
    first run."""
    runs = results.manifest.runs
    if not runs:
        return None
    return Budget(runs[-1].caps, runs[-1].prices, paid(results), _gpu_seconds(runs))


def paid(results: Results) -> dict[str, Usage]:
    """What all runs of a folder have paid for, by model."""
    rows = results.query(
        "SELECT driver_epoch, model, "
        f"coalesce(sum(input_tokens) FILTER (WHERE input_tokens {_POSSIBLE}), 0)::BIGINT, "
        f"coalesce(sum(output_tokens) FILTER (WHERE output_tokens {_POSSIBLE}), 0)::BIGINT, "
        f"count(*) FILTER (WHERE {UNCOUNTED}) FROM calls WHERE NOT cached GROUP BY ALL"
    ).fetchall()
    runs: dict[tuple[int, str], Usage] = {
        (epoch, model): Usage(*counts) for epoch, model, *counts in rows
    }
    for entry in results.manifest.runs:
        for model, counts in entry.tokens.items():
            known = runs.get((entry.driver_epoch, model), Usage())
            seen = Usage(*counts)
            runs[entry.driver_epoch, model] = Usage(*map(max, known, seen))
    total: dict[str, Usage] = {}
    for (_, model), used in runs.items():
        add(total, {model: used})
    return total


def _gpu_seconds(runs: list[RunEntry]) -> float:
    return sum(run.gpu_seconds for run in runs)
