"""SQL over `calls` on token counts: known ones, and those that are missing or impossible.

Servers gave impossible counts that earlier versions stored: they are as unknown as null.
"""

from __future__ import annotations

from agents.core.calls import MOST_TOKENS

_KNOWN = f"input_tokens BETWEEN 0 AND {MOST_TOKENS} AND output_tokens BETWEEN 0 AND {MOST_TOKENS}"

COUNTED = f"CASE WHEN {_KNOWN} THEN input_tokens::BIGINT + output_tokens END"
"""The tokens of a call; null where they are not known. Sums may be large."""

UNCOUNTED = f"finish_reason IS NOT NULL AND NOT coalesce({_KNOWN}, false)"
"""Whether an answered call has no usable token counts."""
