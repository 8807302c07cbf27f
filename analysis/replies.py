"""What the stored calls of a sweep say about its models' replies."""

from __future__ import annotations

from agents.core.calls import MOST_TOKENS
from agents.core.plural import many
from analysis.results import Results
from analysis.sql.tokens import UNCOUNTED


def uncounted(results: Results) -> int:
    """How many replies have no token counts, so that sums of tokens are lower bounds."""
    (found,) = results.query(f"SELECT count(*) FROM calls WHERE {UNCOUNTED}").fetchall()
    return found[0]


def cut_off_lines(results: Results) -> list[str]:
    """A line for each model with replies truncated by a token limit."""
    rows = results.query(
        "SELECT model, count(*) FILTER (WHERE finish_reason = 'length') AS cut, count(*), "
        "max(output_tokens) FILTER (WHERE finish_reason = 'length' "
        f"AND output_tokens BETWEEN 0 AND {MOST_TOKENS}) "
        "FROM calls WHERE finish_reason IS NOT NULL GROUP BY model HAVING cut > 0 ORDER BY model"
    ).fetchall()
    limits = _max_tokens(results)
    lines = []
    for model, cut, replies, longest in rows:
        limit, verb = limits.get(model), "was" if cut == 1 else "were"
        line = (
            f"{cut:,} of {many(replies, 'reply')} {verb} cut off at max_tokens"
            f"{'' if limit is None else f' {limit:,}'} (model {model})"
        )
        if longest is not None:
            line += f", the longest of them after {many(longest, 'token')}"
            if limit is not None and longest < limit:
                line += ": the server has a lower limit, or its context was full"
        lines.append(line)
    return lines


def _max_tokens(results: Results) -> dict[str, int]:
    """Model -> the `max_tokens` that the sweep file gives it, unless an axis may change it."""
    if any(axis.startswith("models") for axis in results.axes):
        return {}
    found = {}
    for name, model in (results.manifest.config.get("models") or {}).items():
        sampling = model.get("sampling") if isinstance(model, dict) else None
        limit = sampling.get("max_tokens") if isinstance(sampling, dict) else None
        if isinstance(limit, int):
            found[name] = limit
    return found
