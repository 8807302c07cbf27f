"""Summaries of data sets: our counts, those of a paper, and what was left out."""

from __future__ import annotations

from collections.abc import Mapping

from simulators.core.cases import Domain
from sweeps.plan import Plan


def statistics_of(domain: Domain) -> str:
    """Our counts, with a paper's next to them if it used this data set."""
    ours, published = _counts(domain.statistics()), domain.published()
    if published is None:
        return ours
    return f"{ours}; {published.source} has {_counts(published.statistics)}"


def difference_of(domain: Domain) -> list[str]:
    """A line on why our counts may differ from those of a paper, if that is known."""
    published = domain.published()
    return [published.remark] if published is not None and published.remark else []


def statistics_lines(plan: Plan) -> list[str]:
    """One line for each domain, and one on why a paper's counts may differ."""
    return [
        f"{name}: {line}"
        for name, domain in _domains(plan)
        for line in [statistics_of(domain), *difference_of(domain)]
    ]


def remark_lines(plan: Plan) -> list[str]:
    """The remarks on the sweep file, and one line for each reason why data was left out."""
    of_domains = [f"{name}: {each}" for name, domain in _domains(plan) for each in domain.remarks()]
    return [*plan.remarks, *of_domains]


def _domains(plan: Plan) -> list[tuple[str, Domain]]:
    # Several samples may come from one domain.
    found = {id(one.domain): (plan.domain_name(one), one.domain) for one in plan.sources}
    return list(found.values())


def _counts(statistics: Mapping[str, int]) -> str:
    counts = ", ".join(f"{count:,} {what}" for what, count in statistics.items())
    if "users" not in statistics:  # recorded dialogues
        return counts
    each = statistics["interactions"] / statistics["users"]
    return f"{counts} ({each:.1f} per user)"
