"""Where the cells of a plan take their cases from: domain, split and sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from agents.core import plugins
from agents.core.errors import DataError, blaming
from agents.core.plugins import Options
from agents.core.seeds import Seeds
from agents.core.text import repaired
from simulators.core.cases import Domain
from simulators.core.profiles import GROUPS, WrittenProfiles
from sweeps import identity
from sweeps.artifacts import Need
from sweeps.missing import refused_data
from sweeps.origins import Origins, check
from sweeps.schema import Cases, CellConfig, PluginRef
from sweeps.speakers import require

if TYPE_CHECKING:  # OmegaConf, which workers need not import
    from sweeps.load import LoadedSweep

DOMAINS = "simulators.domains"

FindProfiles = Callable[[str], WrittenProfiles | None]
"""Finds the stored profiles with an artifact's key. The store is in a package above this one."""


@dataclass(frozen=True)
class Source:
    """Where a group of cells takes its cases from: one domain and one sample of its cases."""

    source_id: str
    domain_ref: PluginRef
    domain: Domain
    split: Any
    order: Sequence[int]
    """Positions of the sample in `domain.case_ids(split)`."""
    drawn_for: Mapping[int, tuple[str, ...]] | None = None
    """If cases are drawn by group: the groups that each of `order` was drawn for."""
    written: WrittenProfiles | None = None
    """The profiles of its users, if a model has written them."""
    is_pending: bool = False
    """Whether its cases are unknown until a model has written their profiles."""

    @cached_property
    def _ids(self) -> Sequence[str]:
        return self.domain.case_ids(self.split)

    def __len__(self) -> int:
        return len(self.order)

    def case_id(self, position: int) -> str:
        return self._ids[self.order[position]]

    def groups(self, position: int) -> tuple[str, ...]:
        """The groups that a case represents: those it was drawn for, or else all that it belongs
        to."""
        if self.drawn_for is not None:
            return self.drawn_for[self.order[position]]
        return tuple(self.domain.groups(self.split, self.case_id(position)).values())


class Sources:
    """The sources of one plan; what cells share is made once."""

    def __init__(self, loaded: LoadedSweep, find_profiles: FindProfiles) -> None:
        self.made: list[Source] = []
        self._loaded = loaded
        self._find_profiles = find_profiles
        self._domains: dict[str, Domain] = {}
        self._with_profiles: dict[str, tuple[Domain, WrittenProfiles]] = {}
        self._positions: dict[str, int] = {}

    def domain(self, config: CellConfig, origins: Origins) -> Domain:
        """The domain of a cell, without profiles written by a model."""
        key = identity.canonical(config.domain.model_dump())
        if key not in self._domains:
            self._domains[key] = make_domain(config.domain, origins)
        return self._domains[key]

    def position(
        self,
        config: CellConfig,
        origins: Origins,
        point: Mapping[str, Any],
        profiles: Need | None = None,
    ) -> int:
        """The position of the cell's source in the plan; a new source is added.

        `profiles` are those that a model has to write before there are cases.
        """
        parts = [config.domain.model_dump(), config.cases.model_dump()]
        key = identity.canonical([*parts, profiles and profiles.identity])
        if key not in self._positions:
            self.made.append(self._make(config, origins, point, profiles))
            self._positions[key] = len(self.made) - 1
        return self._positions[key]

    def fingerprint(self, config: CellConfig, origins: Origins, point: Mapping[str, Any]) -> str:
        """The fingerprint of the domain without profiles written by a model."""
        try:
            with blaming(DataError):
                return self.domain(config, origins).fingerprint()
        except DataError as error:
            raise refused_data(error, self._loaded, origins, point) from None

    def _make(
        self,
        config: CellConfig,
        origins: Origins,
        point: Mapping[str, Any],
        profiles: Need | None,
    ) -> Source:
        domain, cases, written = self.domain(config, origins), config.cases, None
        try:
            if profiles is not None:
                domain, written = self._written(domain, profiles)
            with blaming(DataError):
                ids, fingerprint = domain.case_ids(cases.split), domain.fingerprint()
            order = _order(ids, cases.sample_seed)
        except DataError as error:
            raise refused_data(error, self._loaded, origins, point) from None
        if profiles is not None and written is None:
            _refuse_too_many(cases, len(ids), origins)
            pending = identity.digest([fingerprint, cases.model_dump(), profiles.identity])
            return Source(pending, config.domain, domain, cases.split, [], is_pending=True)
        return replace(self._drawn_from(domain, ids, order, config, origins), written=written)

    def _written(self, domain: Domain, profiles: Need) -> tuple[Domain, WrittenProfiles | None]:
        """The domain with `profiles`, if they have been written."""
        key = profiles.key(Seeds(0, 0, 0))
        if key not in self._with_profiles:
            found = self._find_profiles(key)
            if found is None:
                return domain, None
            self._with_profiles[key] = domain.with_profiles(found), found
        return self._with_profiles[key]

    def _drawn_from(
        self,
        domain: Domain,
        ids: Sequence[str],
        order: Sequence[int],
        config: CellConfig,
        origins: Origins,
    ) -> Source:
        """The source with the cases that the cell asks for."""
        cases, fingerprint = config.cases, domain.fingerprint()
        if cases.by:
            drawn = self._drawn(domain, ids, order, config, origins)
            by = [*cases.by, cases.sample]
            return Source(
                identity.digest([fingerprint, cases.split, cases.sample_seed, by]),
                config.domain,
                domain,
                cases.split,
                [position for position in order if position in drawn],
                drawn,
            )
        wanted = len(ids) if cases.sample is None else cases.sample
        if wanted > len(ids):
            raise origins.refuse(
                ("cases", "sample"),
                f"expected at most {len(ids)}, the cases of the domain, found {wanted}",
            )
        return Source(
            identity.digest([fingerprint, cases.split, cases.sample_seed]),
            config.domain,
            domain,
            cases.split,
            order[:wanted],
        )

    def _drawn(
        self,
        domain: Domain,
        ids: Sequence[str],
        order: Sequence[int],
        config: CellConfig,
        origins: Origins,
    ) -> dict[int, tuple[str, ...]]:
        """Position -> the groups that a case is drawn for: the first cases of each group in
        `order`."""
        cases = config.cases
        if not domain.has_profiles:
            raise origins.refuse(
                ("cases", "by"), f"the users of {config.domain.name} have no profiles here"
            )
        members: dict[str, list[int]] = {g: [] for kind in cases.by for g in GROUPS[kind]}
        for position in order:
            groups = domain.groups(cases.split, ids[position])
            for kind in cases.by:
                members[groups[kind]].append(position)
        wanted = cases.sample
        if wanted is not None and wanted > min(map(len, members.values())):
            sizes = ", ".join(f"{group} {len(own)}" for group, own in members.items())
            raise origins.refuse(
                ("cases", "sample"),
                f"expected at most {min(map(len, members.values()))}, the size of the smallest "
                f"group of users ({sizes}), found {wanted}; lower it, or set `sample: null` for "
                "all users of each group",
            )
        drawn: dict[int, tuple[str, ...]] = {}
        for group, positions in members.items():
            for position in positions[:wanted]:
                drawn[position] = (*drawn.get(position, ()), group)
        return drawn


def _refuse_too_many(cases: Cases, users: int, origins: Origins) -> None:
    """Refuses a sample of each group for which there are too few users, whatever their groups are:
    before a model has written their profiles."""
    if cases.sample is None:
        return
    for kind in cases.by:
        groups = GROUPS[kind]
        if cases.sample * len(groups) > users:
            raise origins.refuse(
                ("cases", "sample"),
                f"expected at most {users // len(groups)}, because the split {cases.split} has "
                f"{users:,} users, in {len(groups)} groups by {kind}, found {cases.sample}",
            )


def _order(ids: Sequence[str], sample_seed: int) -> list[int]:
    """The order of the sample. Raises DataError for case ids that no file can hold."""
    try:
        return identity.sample_order(ids, sample_seed)
    except (AttributeError, UnicodeEncodeError):
        odd = next(i for i in ids if not isinstance(i, str) or repaired(i) != i)
        raise DataError(
            f"a case has the id {odd!r}; expected a string without lone surrogates"
        ) from None


def make_domain(ref: PluginRef, origins: Origins, written: WrittenProfiles | None = None) -> Domain:
    """The domain that `ref` names. It reads its data on first use.

    With `written`, its users are those whose profiles a model has written.
    """
    cls = require(plugins.load, DOMAINS, ref.name, "domain", origins, ("domain",))
    options: Options = check(cls.Options, ref.options, origins, ("domain",))
    try:
        with blaming(DataError):
            domain: Domain = cls(options)
    except DataError as error:
        raise origins.refuse(("domain",), error.message) from None
    return domain if written is None else domain.with_profiles(written)
