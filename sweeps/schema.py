"""The schema of sweep files, which is checked before anything starts."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from agents.core.paths import PathText
from agents.core.plugins import refuse_booleans
from agents.core.seeds import Seeds
from simulators.core.cases import Split

_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"


def is_valid_name(text: str) -> bool:
    """Whether `text` can be a `PlainName`."""
    return re.fullmatch(_NAME, text) is not None


def _is_name(text: str) -> str:
    if not is_valid_name(text):
        raise ValueError(
            "expected at most 100 letters, digits, '.', '_' and '-', beginning with a letter or a "
            "digit"
        )
    return text


PlainName = Annotated[
    str,
    AfterValidator(_is_name),
    WithJsonSchema({"type": "string", "pattern": f"^{_NAME}$"}),
]
"""A name that can be a file name and cannot leave its folder."""

VariableName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=200)]

ROLES = ("agent", "user", "critic", "judge")
"""The possible first parts of a role's name."""

SeedNumber = Annotated[int, Field(ge=0, lt=2**48)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _no_booleans_for_numbers(cls, data: Any) -> Any:
        return refuse_booleans(cls, data)


class PluginRef(BaseModel):
    """A plug-in by name, or `{name: ..., option: ...}`. The options are checked by its class."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"name": value}
        if not isinstance(value, dict):
            raise ValueError("expected a name, or a mapping with `name` and options")
        return value

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class JudgeRef(PluginRef):
    """A judge by name, or `{name: ..., samples: n, option: ...}`."""

    samples: Annotated[int, Field(ge=1, le=1000)] = 1
    """How often each subject is judged, each time with another seed."""
    label: PlainName | None = None
    """The name in roles and tables, by default the plug-in's. Two judges of one plug-in need
    different labels."""

    @property
    def title(self) -> str:
        """The label, or else the last part of the name."""
        return self.label or self.name.rpartition(".")[2]


class Price(_Part):
    """The price of a million tokens, in any currency. It does not affect dialogues."""

    input: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    output: Annotated[float, Field(ge=0, allow_inf_nan=False)]

    def of(self, given: int, made: int) -> float:
        """The price of so many input and output tokens."""
        return (given * self.input + made * self.output) / 1_000_000


class ModelSpec(BaseModel):
    """A model: its backend, and the options that the backend's class checks."""

    model_config = ConfigDict(extra="allow", frozen=True)
    backend: str
    price: Price | None = None
    """Neither an option of the backend nor part of the model's identity."""

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class Cases(_Part):
    split: Split = "test"
    sample: Annotated[int, Field(ge=1)] | None = None
    """The first n cases of a seeded permutation; without it, all cases."""
    sample_seed: SeedNumber = 0
    by: tuple[Literal["openness", "style"], ...] = ()
    """Draws `sample` users for each group, by group (CSI, appendix A.2); a user may be drawn for
    several. Needs users with profiles."""

    @field_validator("by")
    @classmethod
    def _each_once(cls, by: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(by)) < len(by):
            raise ValueError("expected openness and style at most once each")
        return by


class Limits(_Part):
    max_turns: Annotated[int, Field(ge=1, le=1000)] = 5
    shown_items: Annotated[int, Field(ge=1, le=100)] = 10
    episode_tokens: Annotated[int, Field(ge=1)] = 60_000
    """Input and output tokens of a dialogue, which ends after the turn that reaches this limit."""


class SeedSet(_Part):
    sampling: SeedNumber = 0
    training: SeedNumber = 0
    order: SeedNumber | Literal["seed"] = 0
    """`seed`: the same as `sampling`."""


class Retries(_Part):
    """How often infrastructure errors are retried; no other errors are."""

    transient: Annotated[int, Field(ge=0, le=100)] = 5
    episode: Annotated[int, Field(ge=0, le=100)] = 2


class Caps(_Part):
    """What all runs of a sweep together may use. A run stops when a cap is reached."""

    tokens: Annotated[int, Field(ge=1)] | None = None
    """Input and output tokens of all roles; replies from a cache are free."""
    cost: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Computed from the `price` of the models."""
    gpu_hours: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """GPUs times the hours that engines of the sweep held them."""


def _number_or_auto(most: int) -> BeforeValidator:
    """Gives one message for the two forms that a value may have."""

    def check(value: Any) -> Any:
        if value == "auto" or (type(value) is int and 1 <= value <= most):
            return value
        raise ValueError(f"expected auto, or a whole number from 1 to {most:,}, found {value!r}")

    return BeforeValidator(check)


class Run(_Part):
    """How to run. Nothing here affects an outcome."""

    executor: Literal["ray", "local"] = "ray"
    episode_workers: Annotated[
        Annotated[int, Field(ge=1, le=1024)] | Literal["auto"], _number_or_auto(1024)
    ] = 2
    """Processes that play dialogues. `auto`: one on every node of the cluster, including nodes that
    join during the run."""
    gpus: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """The maximum number of GPUs that engines of this sweep hold at once, so that sweeps can share
    a cluster."""
    placement: Literal["pack", "spread"] = "pack"
    """Where replicas of models go. `pack`: to as few nodes as possible, which leaves whole nodes
    for large models. `spread`: to as many as possible, so that a lost node costs each model little.
    Under a limit of `gpus`, both use the nodes with most GPUs."""
    mixed_gpus: bool = False
    """Whether engines may use GPUs of several types, and several versions of vLLM."""
    concurrency: Annotated[
        Annotated[int, Field(ge=1, le=100_000)] | Literal["auto"], _number_or_auto(100_000)
    ] = 64
    """Dialogues at once, over all workers. `auto` begins with 64, adds more as long as engines and
    servers have room, and reduces them when they do not."""
    ray_address: str | None = None
    """A running cluster to join (`auto`, `host:port`); without it, a local Ray is started."""
    fit_gpus: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0
    """GPUs that Ray reserves for each fit; no engine is loaded yet while fits run."""
    env_from: list[VariableName] = []
    """Environment variables that must be set where the driver runs: keys, tokens, locations. Their
    values are given to every process of the sweep, and written to no file."""
    env_file: PathText | None = None
    """Where to look up variables of `env_from` that the environment lacks: a file of `NAME=value`
    lines, or a folder with one file per name (a mounted Kubernetes secret)."""


class Cache(_Part):
    """Completed calls, kept so that none is paid for twice. Nothing here affects an outcome."""

    path: PathText | None = None
    """A folder that sweeps share; by default `~/.cache/crsweep/calls`."""
    mode: Literal["readwrite", "read", "off"] = "readwrite"
    """`read` adds nothing to the folder; `off` does not use it. In every mode, a sweep's own calls
    are kept in its own folder until it is complete: after a crash, the resumed run replays them."""
    journal: PathText | None = None
    """A folder for the sweep's own calls instead of its output folder: for `out` in an object
    store, a disk that outlives the machine."""
    match: Literal["declared", "strict"] = "declared"
    """`strict`: a cached reply counts only if what serves now has made it."""
    owners: Annotated[int, Field(ge=1, le=64)] = 1
    """Number of processes that serve the cache."""

    @model_validator(mode="before")
    @classmethod
    def _off_is_a_word(cls, data: Any) -> Any:
        """Accepts `off`, which YAML 1.1 reads as false."""
        if isinstance(data, dict) and data.get("mode") is False:
            return {**data, "mode": "off"}
        return data


class Artifacts(_Part):
    """What agents need before their dialogues, kept so that it is made once. Nothing here affects
    an outcome."""

    path: PathText | None = None
    """A folder that sweeps share; by default `~/.cache/crsweep/artifacts`."""
    state_every: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 30
    """Seconds between saves of a running fit."""


class Seeding(_Part):
    """`seed: 3` sets sampling and training; `seeds` sets them separately, or additionally the
    order."""

    seed: SeedNumber | None = None
    seeds: SeedSet | None = None

    @model_validator(mode="after")
    def _one_way_of_seeding(self) -> Self:
        apart = set() if self.seeds is None else self.seeds.model_fields_set - {"order"}
        if self.seed is not None and apart:
            names = " and ".join(f"`seeds.{name}`" for name in sorted(apart))
            raise ValueError(f"give `seed` or {names}, not both")
        return self

    @property
    def seeding(self) -> Seeds:
        given = self.seeds or SeedSet()
        sampling = given.sampling if self.seed is None else self.seed
        training = given.training if self.seed is None else self.seed
        return Seeds(sampling, training, sampling if given.order == "seed" else given.order)

    @property
    def order_is_given(self) -> bool:
        """Whether the order is set to something other than the default."""
        return self.seeds is not None and self.seeds.order not in (0, "seed")


class CellConfig(Seeding):
    """One cell: everything that its dialogues are made of. A grid axis sets a path in here."""

    domain: PluginRef
    cases: Cases = Cases()
    models: dict[PlainName, ModelSpec]
    roles: dict[str, str]
    agent: PluginRef
    simulator: PluginRef = PluginRef(name="target_item")
    critic: PluginRef | None = None
    """Scores each turn after the user's answer, and may end the dialogue; none by default."""
    success: PluginRef = PluginRef(name="user_accepts")
    limits: Limits = Limits()

    @model_validator(mode="before")
    @classmethod
    def _options_of_defaults(cls, value: Any) -> Any:
        """`simulator: {max_facts: 2}` gives an option to the default simulator."""
        if not isinstance(value, dict):
            return value
        names = {"simulator": "target_item", "success": "user_accepts"}
        given = {key: value[key] for key in names if isinstance(value.get(key), dict)}
        return {**value, **{key: {"name": names[key], **ref} for key, ref in given.items()}}


class TableSpec(_Part):
    """A table of the sweep, for `crsweep table DIR --name`. Nothing here affects an outcome."""

    rows: list[str] = []
    """Axes whose values are the rows; all of them if neither rows nor columns are given."""
    columns: list[str] = []
    """Axes whose values are columns; `metric` places the metrics among them, by default last."""
    metrics: list[str] = []
    """By default the sweep's."""
    ties: str | None = None
    """An axis; the values that are tied with its best are marked."""
    by: list[Literal["openness", "style"]] = []
    """Shows each metric for each group of users, as `crsweep table DIR --by` does."""
    published: str | None = None
    """A paper's table to show next to ours, `af_irs/table2`; it sets the rows and columns."""

    @model_validator(mode="after")
    def _one_layout(self) -> Self:
        if self.published and (self.rows or self.columns or self.ties or self.by):
            raise ValueError(
                "`published` has the paper's rows and columns; leave `rows`, `columns`, `ties` and "
                "`by` out"
            )
        return self


class FigureSpec(_Part):
    """A figure of the sweep, for `crsweep plot DIR NAME`. Nothing here affects an outcome."""

    kind: Literal["turns", "tradeoff", "bars", "shares", "cost", "seeds", "sensitivity", "curves"]
    metrics: list[str] = []
    """What to draw, if the kind leaves a choice; for `curves`, the series measured in training; for
    `shares`, each action or strategy to show, as `turn_share@NAME`."""
    axis: str | None = None
    """The axis whose values have different colours; without it, each cell has its own."""
    by: list[Literal["openness", "style"]] = []
    """For `turns`, `bars` and `shares`: a panel for each group of users."""
    baseline: str | None = None
    """For `bars`: the label of the bar that the others are shown as differences to."""
    of: Literal["action", "strategy"] = "action"
    """For `shares` without `metrics`: the column of `turns` to count."""
    parts: Annotated[int, Field(ge=2, le=20)] | None = None
    """For `shares`: the number of equal parts that each dialogue is cut into, instead of turns."""
    width: Literal["column", "page"] = "column"
    """The width, in terms of a two-column paper."""

    @model_validator(mode="after")
    def _has_panels(self) -> Self:
        if self.baseline is not None and self.kind != "bars":
            raise ValueError("`baseline` is for bars; leave it out")
        if self.parts is not None and self.kind != "shares":
            raise ValueError("`parts` is for shares; leave it out")
        if self.by and self.kind not in ("turns", "bars", "shares"):
            raise ValueError(
                f"`by` gives turns, bars and shares a panel for each group of users; a figure of "
                f"the kind {self.kind} has none, leave it out"
            )
        return self


Axes = dict[str, list[Any]]


class Header(_Part):
    """The parts of a sweep file that do not belong to a cell."""

    name: PlainName
    out: PathText
    question: Annotated[str, Field(max_length=4000)] = ""
    """The question of the sweep, for its report. It does not affect dialogues."""
    grid: Axes | None = None
    grids: list[Axes] | None = None
    zip: list[Axes] = []
    exclude: list[dict[str, Any]] = []
    run: Run = Run()
    retries: Retries = Retries()
    max_failed: Annotated[float, Field(ge=0, le=1)] | None = None
    """Share of episodes that may fail of one cause before a run stops. No limit by default, because
    a weak model that fails many dialogues is a result."""
    caps: Caps = Caps()
    cache: Cache = Cache()
    artifacts: Artifacts = Artifacts()
    judges: list[JudgeRef] = []
    """Judges that read the dialogues afterwards and give verdicts. They do not affect dialogues."""
    metrics: Annotated[list[str], Field(min_length=1)] = ["sr@1", "sr@3", "sr@5", "at_fail_plus_1"]
    tables: dict[PlainName, TableSpec] = {}
    """Name -> a table. Tables do not affect dialogues."""
    figures: dict[PlainName, FigureSpec] = {}
    """Name -> a figure. Figures do not affect dialogues."""

    @model_validator(mode="before")
    @classmethod
    def _off_is_a_mode(cls, data: Any) -> Any:
        """`cache: off` is short for `cache: {mode: off}`."""
        given = data.get("cache") if isinstance(data, dict) else None
        return {**data, "cache": {"mode": "off"}} if given is False or given == "off" else data

    @model_validator(mode="after")
    def _one_way_of_gridding(self) -> Header:
        if self.grid is not None and self.grids is not None:
            raise ValueError("give `grid` or `grids`, not both")
        return self

    @property
    def blocks(self) -> list[Axes]:
        """The grid's blocks; without a grid, one empty block (a single cell)."""
        if self.grids is not None:
            return self.grids
        return [self.grid or {}]
