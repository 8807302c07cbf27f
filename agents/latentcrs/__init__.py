"""LatentCRS: items ranked through latent intents that history and words share (section 4).

The model is trained before the dialogues (`pipeline`, `training`): intents are centroids of user
embeddings, an inference model and a generative model are trained in turn by variational EM. In each
turn the user's words so far are embedded by the role `agent.encoder`, and the catalogue is ranked
by p(v | S, x), the sum over the intents (`model`). The variants of section 4.3:

- `basic`: one embedding per turn and no generated text. Its messages are fixed sentences.
- `filter`: a model extracts strict requirements from the user's words; only items that meet all of
  them stay. `when_none_meets` says what happens where there is none.
- `rerank`: a model puts the first `reranked` items into a new order; what it leaves out follows.

We decided, besides what `losses` and `training` say: every turn recommends; what the user has had
or was shown before in this dialogue is not recommended again (`repeat`); a requirement is the value
of an attribute, and other words are ignored and recorded; the words of
all turns are joined by a space, as the paper concatenates them.

The options of Table 5: `inference_model: false` (the generative model alone, by eq. 8),
`direct_kl: true` (both models at once), `rec_loss: false` (without eq. 8 and 13).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from agents.core.agent import Agent, AgentContext, AgentOptions
from agents.core.artifacts import Recipe
from agents.core.ask import Ask
from agents.core.dialogue import AgentTurn, Dialogue
from agents.core.grounded_titles import ground
from agents.core.grounding import normalise
from agents.core.items import Catalogue, Item
from agents.core.plugins import operational
from agents.core.steps import ReplyModel, Step, Title, text
from agents.latentcrs.model import Ranker
from agents.latentcrs.pipeline import (
    ENCODER,
    Anchors,
    ExpectationMaximisation,
    UtteranceEmbeddings,
    Utterances,
    Windows,
    sentence,
)
from agents.latentcrs.settings import GForm, HForm, Variant
from agents.recommenders.core import Recommender, RecommenderRef, best, pool, positions

__all__ = ["LatentCRS"]

_LONGEST_WORDS = 4000  # characters, the latest kept


class _Requirements(ReplyModel):
    requirements: Annotated[
        list[Annotated[str, text(80)]],
        Field(
            max_length=8, description="List the required values, one property each; [] for none."
        ),
    ]


class _Order(ReplyModel):
    titles: Annotated[
        list[Title],
        Field(min_length=1, max_length=100, description="List the titles, best first."),
    ]


REQUIRE = Step("require", "extract", _Requirements)
RERANK = Step("rerank", "rank", _Order)


class _Options(AgentOptions):
    variant: Literal["basic", "filter", "rerank"] = "basic"
    recommender: RecommenderRef = Field(
        default_factory=lambda: RecommenderRef.model_validate("item_knn")
    )
    """Embeds histories and items. The paper's is `iclrec`."""
    repeat: bool = False
    """Whether items of the history, or items shown before in this dialogue, may be recommended."""
    when_none_meets: Literal["keep_all", "keep_most"] = "keep_all"
    """What `filter` ranks if no item meets all requirements: every item, or those that meet the
    most."""
    reranked: Annotated[int, Field(ge=2, le=100)] = 20
    """The number of items that `rerank` shows to the model."""

    windows_per_user: Annotated[int, Field(ge=1, le=1000)] = 5
    window_users: Annotated[int, Field(ge=1)] | None = None
    """The maximum number of users, drawn by the seed, that provide training windows; by default
    all."""
    validation_users: Annotated[int, Field(ge=1)] = 1000
    """The maximum number of users whose validation items decide when to stop. Each costs two model
    calls."""
    longest: Annotated[int, Field(ge=1, le=2048)] = 50
    """The maximum number of history items in an example."""
    window_seed: Annotated[int, Field(ge=0)] | None = None
    """The seed that draws the windows; by default the training seed."""

    intents: Annotated[int, Field(ge=1, le=10_000)] = 64
    """K of eq. 3."""
    width: Annotated[int, Field(ge=1, le=1024)] = 64
    """Units of the projections and of the network of eq. 5."""
    negatives: Annotated[int, Field(ge=1)] = 256
    """n: items drawn against the next ones of a batch; the catalogue's size or more: all."""
    negative_sampling: Literal["uniform", "popularity"] = "uniform"
    """What they are drawn from. With `popularity`, p(v), g estimates p(v | m) / p(v) (4.2.1)."""
    kl_weight: Annotated[float, Field(ge=0)] = 1.0
    """lambda of eq. 9."""
    generative_rec_weight: Annotated[float, Field(ge=0)] = 1.0
    """alpha_M of eq. 9."""
    inference_rec_weight: Annotated[float, Field(ge=0)] = 1.0
    """alpha_E of eq. 14."""
    g: GForm = "eq6"
    """Eq. 6, or (W_j m)(W_v v) alone, where v depends on the intent only (E.1)."""
    h: HForm = "exp"
    """What makes g positive in eq. 8."""
    inference_model: bool = True
    direct_kl: bool = False
    rec_loss: bool = True
    lr: Annotated[float, Field(gt=0)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    batch_size: Annotated[int, Field(ge=1)] = 256
    warm_up_epochs: Annotated[int, Field(ge=1)] = 50
    """The most epochs of each warm-up, and of training in one phase."""
    max_rounds: Annotated[int, Field(ge=1)] = 50
    """The most rounds of an E-step and an M-step."""
    patience: Annotated[int, Field(ge=1)] = 5
    """Epochs or rounds without a better validation NDCG@20 that end a phase."""
    device: Literal["cpu", "cuda"] = operational("cpu")
    threads: int = operational(1, ge=1)

    @model_validator(mode="after")
    def _one_ablation(self) -> _Options:
        if (not self.inference_model) + self.direct_kl + (not self.rec_loss) > 1:
            raise ValueError(
                "inference_model: false, direct_kl: true and rec_loss: false exclude each other"
            )
        return self

    @property
    def trained_variant(self) -> Variant:
        if not self.inference_model:
            return "no_inference"
        if self.direct_kl:
            return "direct_kl"
        return "whole" if self.rec_loss else "no_rec"

    def settings(self) -> dict[str, Any]:
        """Those of `agents.latentcrs.settings.Settings`."""
        same = (
            "width negatives negative_sampling kl_weight generative_rec_weight "
            "inference_rec_weight g h lr weight_decay batch_size warm_up_epochs max_rounds "
            "patience device threads"
        )
        own = {name: getattr(self, name) for name in same.split()}
        return {**own, "variant": self.trained_variant}


@dataclass(frozen=True, slots=True)
class _Ranked:
    """Items in order, and the record of how the order came about."""

    items: tuple[Item, ...]
    extra: Mapping[str, Any]


class LatentCRS(Agent):
    """Recommends in every turn what history and words make likely."""

    version: ClassVar[int] = 5
    Options = _Options
    options: _Options
    roles = ("agent", f"agent.{ENCODER}")
    embedding_roles = (f"agent.{ENCODER}",)
    steps = (REQUIRE, RERANK)

    @classmethod
    def roles_of(cls, options: _Options) -> tuple[str, ...]:
        # `basic` ranks by embeddings alone, so no model that speaks is loaded for it.
        return cls.embedding_roles if options.variant == "basic" else cls.roles

    @classmethod
    def needs(cls, options: _Options) -> Mapping[str, Recipe]:
        windows = Windows(
            options.windows_per_user,
            options.window_users,
            options.validation_users,
            options.longest,
            options.window_seed,
        )
        vectors = UtteranceEmbeddings(Utterances(windows))
        anchors = Anchors(options.recommender, options.intents)
        em = ExpectationMaximisation(options.recommender, anchors, vectors, options.settings())
        return {"recommender": options.recommender.recipe(), "em": em}

    def __init__(self, options: _Options, context: AgentContext) -> None:
        super().__init__(options, context)
        self._recommender: Recommender = context.artifacts["recommender"]
        self._ranker: Ranker = context.artifacts["em"]
        history = positions(context.case.history, context.catalogue)
        self._history = self._recommender.user_embedding(history)

    async def respond(self, dialogue: Dialogue, ask: Ask) -> AgentTurn:
        found = await self._ranked(dialogue, ask)
        shown = found.items[: self.context.shown_items]
        titles = "; ".join(item.title for item in shown)
        words = f"How about {titles}?" if shown else f"I have no other {self._noun} to recommend."
        return AgentTurn(words, "recommend", shown, found.items, extra=found.extra)

    async def _ranked(self, dialogue: Dialogue, ask: Ask) -> _Ranked:
        scores = await self._scores(dialogue, ask)
        allowed = pool(self.context, dialogue, self.options.repeat)
        extra: dict[str, Any] = {}
        if self.options.variant == "filter":
            allowed, extra = await self._filtered(allowed, dialogue, ask)
        items = self.context.catalogue.items
        ranked = tuple(items[place] for place in best(scores, len(scores), among=allowed).tolist())
        if self.options.variant == "rerank":
            return await self._reranked(ranked, dialogue, ask)
        return _Ranked(ranked, extra)

    async def _scores(self, dialogue: Dialogue, ask: Ask) -> np.ndarray:
        """(items,): p(v | S, x), of the history and what the user has said so far."""
        said = " ".join(m.text for m in dialogue.messages if m.speaker == "user")
        [vector] = await ask.as_role(ENCODER).embed([sentence(said[-_LONGEST_WORDS:])])
        # As in training, where vectors are stored as half floats.
        return self._ranker.scores(self._history, vector.astype(np.float16))

    async def _filtered(
        self, allowed: np.ndarray, dialogue: Dialogue, ask: Ask
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Those of `allowed` that meet the requirements, and the record of this."""
        reply = await ask(
            REQUIRE,
            noun=self._noun,
            attributes=list(self.context.catalogue.attributes),
            conversation=dialogue.messages,
        )
        values = _values(self.context.catalogue)
        known = [
            each for each in dict.fromkeys(map(normalise, reply.requirements)) if each in values
        ]
        met = np.zeros(len(allowed), np.int64)
        for each in known:
            met[values[each]] += 1
        most = len(known)
        if not (allowed & (met == most)).any():
            most = 0 if self.options.when_none_meets == "keep_all" else int(met[allowed].max())
        kept = allowed & (met >= most)
        unknown = [each for each in reply.requirements if normalise(each) not in values]
        return kept, {
            "requirements": known,
            "unknown_requirements": unknown,
            "met": most,
            "kept": int(kept.sum()),
        }

    async def _reranked(self, ranked: tuple[Item, ...], dialogue: Dialogue, ask: Ask) -> _Ranked:
        first = ranked[: self.options.reranked]
        if len(first) < 2:
            return _Ranked(ranked, {})
        reply = await ask(
            RERANK.bounded(titles=len(first)),
            noun=self._noun,
            limit=len(first),
            items=first,
            conversation=dialogue.messages,
        )
        repeat = self.options.repeat
        named = ground(reply.titles, self.context, dialogue, repeat=repeat, among=first)
        placed = {item.id for item in named.items}
        rest = tuple(item for item in ranked if item.id not in placed)
        return _Ranked((*named.items, *rest), named.extra())

    @property
    def _noun(self) -> str:
        return self.context.catalogue.noun


@lru_cache(maxsize=4)
def _values(catalogue: Catalogue) -> Mapping[str, np.ndarray]:
    """Every value of an attribute, normalised -> the places of the items that have it."""
    found: dict[str, set[int]] = {}
    for place, item in enumerate(catalogue.items):
        for values in item.attributes.values():
            for value in values:
                found.setdefault(normalise(value), set()).add(place)
    return {value: np.array(sorted(places)) for value, places in found.items()}
