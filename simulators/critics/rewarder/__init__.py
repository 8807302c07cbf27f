"""The Rewarder of RSO (Zhao et al., section III-D, eq. 9): has the user accepted by now?

After each turn the model is asked `samples` times for a verdict from 1 to 5 on the dialogue so far.
`values` maps each verdict to a number in [0, 1]; their mean is the turn's score r_t. A score above
`threshold` ends the dialogue: d_t = 1[r_t > tau].

The paper states the scale, the 10 draws (IV-D, after self-consistency) and rewards in [0, 1]. It
prints neither threshold, temperature nor the values. The defaults are those of the authors'
released code: threshold 0.7, temperature 1.1, and the table below. Its order is not that of the
verdicts: a rejection is worth less than a turn without a recommendation.

| verdict | what it says | value |
|---|---|---|
| 1 | nothing was recommended yet | 0.6 |
| 2 | the user is not interested | 0.4 |
| 3 | the user rejected it | 0.2 |
| 4 | the user is interested | 0.8 |
| 5 | the user accepted it | 1.0 |

Decided here: a draw that stays invalid is counted (`unparsed`) and left out; the released code
counts it as verdict 1. With fewer than `min_valid` valid draws the turn has no score. The mean is
exact: half of the draws at 0.6 and half at 0.8 are 0.7, which is not above 0.7, in whatever order
they come.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Sequence
from fractions import Fraction
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from agents.core.ask import Ask, together
from agents.core.dialogue import Dialogue
from agents.core.errors import ContextOverflow, ReplyInvalid
from agents.core.steps import ReplyModel, Step
from simulators.core.critic import Critic, CriticOptions, CriticTurn

__all__ = ["Rewarder"]

_VERDICTS = 5
_Value = Annotated[float, Field(ge=0, le=1)]


class _Verdict(ReplyModel):
    verdict: Annotated[
        int, Field(ge=1, le=_VERDICTS, strict=True, description="Choose the verdict that applies.")
    ]


_RATE = Step("rate", "score", _Verdict)


class _Options(CriticOptions):
    samples: Annotated[int, Field(ge=1, le=1000)] = 10
    """Draws for each turn (section IV-D)."""
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.7
    """A score above it ends the dialogue; 1 never does. From the released code."""
    temperature: Annotated[float, Field(ge=0, le=2)] | None = 1.1
    """The temperature of the draws; `null` is the model's own. From the released code."""
    values: Annotated[tuple[_Value, ...], Field(min_length=_VERDICTS, max_length=_VERDICTS)] = (
        0.6,
        0.4,
        0.2,
        0.8,
        1.0,
    )
    """The scores of the verdicts 1 to 5. From the released code."""
    min_valid: Annotated[int, Field(ge=1)] | None = None
    """Valid draws that a turn needs to have a score; by default half of `samples`, rounded up. Our
    choice."""

    @model_validator(mode="after")
    def _min_valid_within_samples(self) -> Self:
        if self.min_valid is not None and self.min_valid > self.samples:
            raise ValueError(
                f"min_valid: expected at most `samples` ({self.samples}), found {self.min_valid}"
            )
        return self

    @property
    def needed(self) -> int:
        """Valid draws that a score needs."""
        return self.min_valid if self.min_valid is not None else (self.samples + 1) // 2


class Rewarder(Critic):
    """Scores each turn by several draws of a 1 to 5 verdict (RSO), and ends accepted dialogues."""

    version = 3
    Options = _Options
    options: _Options
    steps = (_RATE,)

    @classmethod
    def draws(cls, options: Any) -> int:
        return options.samples

    @classmethod
    def temperature(cls, options: Any) -> float | None:
        return options.temperature

    async def after_turn(self, dialogue: Dialogue, ask: Ask) -> CriticTurn:
        options, at = self.options, ask.at(self.options.temperature)
        replies = [
            at(_RATE, noun=self.noun, conversation=dialogue.messages, items=dialogue.shown)
            for _ in range(options.samples)
        ]
        found = await together(_verdict(reply) for reply in replies)
        valid = [verdict for verdict in found if verdict is not None]
        counts = Counter(valid)
        record: dict[str, Any] = {
            "verdicts": [counts[verdict] for verdict in range(1, _VERDICTS + 1)],
            "unparsed": len(found) - len(valid),
        }
        if len(valid) < options.needed:
            return CriticTurn(None, extra=record)
        score = _mean([options.values[verdict - 1] for verdict in valid])
        return CriticTurn(float(score), score > _exact(options.threshold), record)


def _mean(values: Sequence[float]) -> Fraction:
    """Exact: sums of floats exceed a threshold that they equal, in some orders."""
    return sum(map(_exact, values), Fraction(0)) / len(values)


def _exact(value: float) -> Fraction:
    """The number that was written: 0.7 and not the float next to it."""
    return Fraction(repr(value))


async def _verdict(reply: Awaitable[_Verdict]) -> int | None:
    """The verdict of one draw; None if it is invalid. Infrastructure errors are raised."""
    try:
        return (await reply).verdict
    except (ReplyInvalid, ContextOverflow):
        return None
