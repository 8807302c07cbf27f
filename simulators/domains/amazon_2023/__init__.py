"""A category of Amazon Reviews 2023 (Hou et al. 2024), as CSI uses it (appendix A.2).

The folder holds the official files of the category, still compressed or not:
`Clothing_Shoes_and_Jewelry.jsonl.gz` (reviews) and `meta_Clothing_Shoes_and_Jewelry.jsonl.gz`
(products). They are never part of crsweep. Instead of the reviews it may hold the authors'
`interactions.json`, which has the targets, their prices and the history of each user; without
either, the users are those of `profiles`.

1. Users and products with fewer than `k_core` reviews are dropped until none is left.
2. Products without a title, a description, a category below the root, features or a price are left
   out and counted; then users with fewer than `k_core` products left. Products are not counted
   again: in the authors' release every user has 10 products or more, and 63 products have one user
   (`core_again: products` repeats step 1 instead, `none` skips it).
3. Histories are in time order. The targets are the latest product and all others of exactly its
   category path; users with fewer than `min_targets` are left out. The rest is the history.
4. The budget is [lowest, highest] of the targets' prices; the paper says "estimated from the price
   distribution" (docs/papers/csi.md has what the authors' release shows of that).

Profiles are read from the file `profiles`. Without it, a model writes them from the reviews
(`simulators.domains.core.profiling`), of the first `profile_users` users by a hash of their names.

- A share `train_users` of the users, drawn by a hash of their names, are the cases of the split
  `train`, and `validation_users` those of `validation`; the paper has no split.
- Reviews and products contain HTML ("<br />", "&amp;"): tags are left out, entities read.
- Products keep their own ids, also where titles are equal: dialogues name ids.
- Facts are the category path, the store, the average rating and the number of ratings. Features
  follow the description.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from agents.core.errors import DataError
from agents.core.items import Catalogue, Interactions, Item, VisibleCase
from agents.core.paths import FilePath
from agents.core.plugins import operational
from simulators.core.cases import Case, HiddenCase, Published, Split
from simulators.core.profiles import BuyerBudget, BuyerProfile, WrittenProfiles
from simulators.domains.amazon_2023.buyers import Buyer, BuyerData, published_buyers, reviewers
from simulators.domains.amazon_2023.products import catalogue_alone
from simulators.domains.amazon_2023.reviews import review_texts
from simulators.domains.core import profiling
from simulators.domains.core.amazon_reviews_2023 import dataset_of
from simulators.domains.core.files import check_folder, digest_of, need_file, short
from simulators.domains.core.profile_files import profile_of, read_profiles
from simulators.domains.core.profiling.naming import ItemNames
from simulators.domains.core.recorded import FileDomain, FileOptions, fingerprint

__all__ = ["Amazon2023"]

_Share = Annotated[float, Field(ge=0, le=1)]

_OPEN = (
    "A.2 does not say whether 10-core is repeated after incomplete items are excluded "
    "(core_again), which missing fields exclude an item, "
)
_PUBLISHED = {
    "Clothing_Shoes_and_Jewelry": Published(
        "CSI, Table 2 (its authors' release has 2,754 users, 4,505 items, 51,309 interactions)",
        {"users": 2_195, "items": 4_328, "interactions": 29_426, "categories": 592},
        f"the paper and its authors' release differ themselves: {_OPEN}and that every user of the "
        "release has 3 targets or more (min_targets)",
    ),
    "Electronics": Published(
        "CSI, Table 2",
        {"users": 7_568, "items": 11_893, "interactions": 108_518, "categories": 720},
        f"{_OPEN}and whether users need 3 targets, as in the authors' release of Clothing "
        "(min_targets); we know of no release of Electronics",
    ),
}


class _Options(FileOptions):
    category: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")] = (
        "Clothing_Shoes_and_Jewelry"
    )
    """As written in the names of the files."""
    k_core: Annotated[int, Field(ge=0)] = 10
    """Minimum reviews of a user and of a product; 0 and 1 switch the filter off."""
    core_again: Literal["users", "products", "none"] = "users"
    """Who is counted again after incomplete products are left out: users, or both."""
    min_targets: Annotated[int, Field(ge=1)] = 1
    """Minimum targets of a user. In the authors' release, every user has 3 or more."""
    train_users: _Share = 0.1
    """Share of users who are cases of the split `train`."""
    validation_users: _Share = 0.0
    """Share of users who are cases of the split `validation`."""
    profiles: FilePath | None = operational(None)
    """A file of profiles, in our layout or that of CSI's authors. Users without a profile are not
    cases. Its digest is part of the identity."""
    profile_users: Annotated[int, Field(ge=1)] | None = None
    """The number of users for whom a model writes profiles; by default all. The others are not
    cases."""
    profile_items: Annotated[int, Field(ge=1, le=profiling.MOST_ITEMS)] = profiling.MOST_ITEMS
    """The maximum number of purchases, the latest ones, in a prompt for a profile."""
    max_bad_lines: float = operational(0.01, ge=0, le=1)
    """A file with a larger share of malformed lines is refused; otherwise they are left out and
    reported."""


class Amazon2023(FileDomain):
    """Products of a category, and people who bought and reviewed them."""

    Options = _Options
    options: _Options
    name = "amazon_2023"
    version = 2
    _written: WrittenProfiles | None = None
    """Profiles that a model has written."""

    @property
    def dataset(self) -> str:
        return dataset_of(self.options.category)

    def files(self) -> Sequence[Path]:
        options = self.options
        check_folder(options.path, f"Amazon Reviews 2023 {options.category}")
        products = need_file(
            options.path,
            f"meta_{options.category}.jsonl.gz",
            f"meta_{options.category}.jsonl",
        )
        source = self._source()
        return [products, *([] if source is None else [source])]

    def published(self) -> Published | None:
        return _PUBLISHED.get(self.options.category)

    @property
    def catalogue(self) -> Catalogue:
        return self._data.catalogue

    def case_ids(self, split: Split) -> Sequence[str]:
        return self._splits[split]

    def case(self, split: Split, case_id: str) -> Case:
        buyer = self._cases.get(case_id)
        if buyer is None or case_id not in self._split_sets[split]:
            raise DataError(f"{self.options.path}: there is no case {case_id!r}")
        items = self.catalogue.items
        return Case(
            VisibleCase(case_id, tuple(items[place] for place in buyer.history)),
            HiddenCase(tuple(items[place] for place in buyer.targets), self._profiles.get(case_id)),
        )

    @property
    def has_profiles(self) -> bool:
        return self.options.profiles is not None or self._written is not None

    def profiles_recipe(self) -> profiling.WriteProfiles | None:
        if self.has_profiles or not self.options.path.is_dir() or self._reviews is None:
            return None
        return profiling.WriteProfiles(self.options.profile_users, self.options.profile_items)

    def with_profiles(self, written: WrittenProfiles) -> Amazon2023:
        found = Amazon2023(self.options)
        found._written = written
        vars(found)["_data"] = self._data  # read once
        return found

    def reviewers(self) -> Sequence[str]:
        """All users, by a hash of their names."""
        return sorted(self._data.buyers, key=lambda user: (_uniform(user), user))

    def buyers(self, users: Sequence[str]) -> list[profiling.ReviewedBuyer]:
        """What profiles of `users` are written from. Reads the reviews again, for their texts."""
        assert self._reviews is not None
        items, bought = self.catalogue.items, {user: self._data.buyers[user] for user in users}
        wanted = {
            (user, items[place].id)
            for user, buyer in bought.items()
            for place in (*buyer.history, *buyer.targets)
        }
        texts = review_texts(self._reviews, wanted, self.options.max_bad_lines)

        def purchases(user: str, places: Sequence[int]) -> list[profiling.Purchase]:
            found = ((items[place], texts[user, items[place].id]) for place in places)
            return [profiling.Purchase(i, t.rating, t.title, t.text) for i, t in found]

        return [
            profiling.ReviewedBuyer(
                user,
                purchases(user, buyer.history),
                purchases(user, buyer.targets),
                items[buyer.targets[-1]].attributes["category"],
                buyer.budget,
            )
            for user, buyer in bought.items()
        ]

    def groups(self, split: Split, case_id: str) -> Mapping[str, str]:
        profile = self._profiles.get(case_id)
        return {} if profile is None else profile.groups

    def wants(self, case_id: str) -> tuple[tuple[str, ...], BuyerBudget]:
        """The category path of a case's targets, and the budget that their prices give."""
        buyer = self._cases[case_id]
        path = self.catalogue.items[buyer.targets[-1]].attributes["category"]
        return path, buyer.budget

    def interactions(self) -> Interactions:
        """The histories, and the targets of `train` users, but for the last of each."""
        users, items, times = [], [], []
        for user, case_id in enumerate(self._cases):
            events = self._seen(case_id)[:-1]
            users += [user] * len(events)
            items += events
            times += range(len(events))
        return Interactions(
            tuple(self._cases),
            np.array(users, np.int32),
            np.array(items, np.int32),
            np.array(times, np.int64),
        )

    def validation_items(self) -> np.ndarray:
        """Each user's last item outside the targets; -1 for users without one."""
        seen = (self._seen(case_id) for case_id in self._cases)
        return np.array([events[-1] if events else -1 for events in seen], np.int32)

    def statistics(self) -> dict[str, int]:
        paths = {item.attributes["category"] for item in self.catalogue.items}
        return {
            "users": len(self._cases),
            "items": len(self.catalogue),
            "interactions": sum(len(b.history) + len(b.targets) for b in self._cases.values()),
            "categories": len(paths),
        }

    def remarks(self) -> Sequence[str]:
        remarks = [*self._data.remarks]
        if self._written is not None:
            content = self._written.content
            remarks.append(
                f"a model wrote {len(content['profiles']):,} profiles; {content['leaks']:,} of its "
                "replies named an item, in full or in part, and were asked for again; "
                f"{len(content['left_out']):,} users without a valid profile are left out"
            )
        if self.options.profiles is not None:
            remarks += self._profiles_that_name_items
        if self.options.profiles is not None and self._data.buyers:
            dropped = len(self._data.buyers) - len(self._cases)
            if dropped:
                remarks.append(f"{dropped:,} users without a profile are left out")
            strangers = len(self._read_profiles) - len(self._cases)
            if strangers:
                remarks.append(f"{strangers:,} profiles are of unknown users")
        return remarks

    @cached_property
    def _profiles_that_name_items(self) -> list[str]:
        """A remark on the profiles of a file, which are used as they are.

        They are compared with what their users bought; of users that only the profiles know, with
        the items of exactly their category path, as all targets are.
        """
        names, items = ItemNames(self.catalogue), self.catalogue.items
        by_path: dict[tuple[str, ...], list[Item]] = {}
        for item in items:
            by_path.setdefault(item.attributes["category"], []).append(item)
        found: dict[str, str] = {}
        for case_id, buyer in self._cases.items():
            profile = self._profiles[case_id]
            bought = [items[place] for place in (*buyer.history, *buyer.targets)]
            texts = (profile.general_preference, profile.target_needs, *profile.purchase_reasons)
            named = names.all_named(texts, bought or by_path.get(profile.category_path, ()))
            if named:
                found[case_id] = named[0]
        if not found:
            return []
        case_id, words = next(iter(found.items()))
        return [
            f"{len(found):,} of {len(self._cases):,} profiles of {self.options.profiles} name an "
            f"item, in full or in part, which the paper forbids; they are used as they are (the "
            f"first: {case_id}, {short(words)})"
        ]

    @cached_property
    def _reviews(self) -> Path | None:
        """The file of reviews, which alone has texts."""
        names = (f"{self.options.category}.jsonl.gz", f"{self.options.category}.jsonl")
        found = [self.options.path / name for name in names]
        return next((path for path in found if path.is_file()), None)

    def _source(self) -> Path | None:
        """The file of the users; None where only profiles say who there is."""
        options = self.options
        present = {entry.name for entry in options.path.iterdir()}
        names = [f"{options.category}.jsonl.gz", f"{options.category}.jsonl", "interactions.json"]
        found = [name for name in names if name in present]
        if len(found) > 1:
            raise DataError(
                f"{options.path}: holds {' and '.join(found)}; `path` must be a folder with one of "
                "them"
            )
        if found:
            return options.path / found[0]
        if options.profiles is None:
            raise DataError(
                f"{options.path}: there is no {names[0]} and no interactions.json; expected one of "
                "them, or the option `profiles`"
            )
        return None

    @cached_property
    def _fingerprint(self) -> str:
        files = [digest_of(path) for path in self.files()]
        if self.options.profiles is not None:
            files.append(digest_of(self.options.profiles))
        if self._written is not None:
            files.append(self._written.digest)
        return fingerprint(self.name, self.version, self.options, files)

    @cached_property
    def _data(self) -> BuyerData:
        options = self.options
        products, *sources = self.files()
        if not sources:
            return catalogue_alone(products, options.category, options.max_bad_lines)
        if sources[0].suffix == ".json":
            return published_buyers(
                sources[0], products, options.category, options.max_bad_lines, options.min_targets
            )
        return reviewers(
            sources[0],
            products,
            options.category,
            options.max_bad_lines,
            k=options.k_core,
            again=options.core_again,
            min_targets=options.min_targets,
        )

    @cached_property
    def _read_profiles(self) -> dict[str, BuyerProfile]:
        if self._written is not None:
            return {
                user: profile_of(given, f"the written profile of {user}")
                for user, given in self._written.content["profiles"].items()
            }
        path = self.options.profiles
        return {} if path is None else read_profiles(path)

    @cached_property
    def _profiles(self) -> dict[str, BuyerProfile]:
        """By case."""
        return {f"u{user}": profile for user, profile in self._read_profiles.items()}

    @cached_property
    def _cases(self) -> dict[str, Buyer]:
        """Every case, in the order of the file of the users."""
        found = {f"u{user}": buyer for user, buyer in self._data.buyers.items()}
        if not self.has_profiles:
            return found
        if not found:  # users that only the profiles know
            return {c: Buyer((), (), p.budget) for c, p in self._profiles.items()}
        kept = {case_id: buyer for case_id, buyer in found.items() if case_id in self._profiles}
        if not kept:
            raise DataError(
                f"{self.options.profiles}: found no profile of any of the {len(found):,} users; "
                f"the first is called {next(iter(found))[1:]!r}"
            )
        return kept

    @cached_property
    def _splits(self) -> dict[Split, tuple[str, ...]]:
        if not self._data.buyers:
            return {"train": (), "validation": (), "test": tuple(self._cases)}
        found: dict[Split, list[str]] = {"train": [], "validation": [], "test": []}
        train, validation = self.options.train_users, self.options.validation_users
        for case_id in self._cases:
            place = _uniform(case_id)
            which: Split = (
                "train" if place < train else "validation" if place < train + validation else "test"
            )
            found[which].append(case_id)
        return {split: tuple(ids) for split, ids in found.items()}

    @cached_property
    def _split_sets(self) -> dict[Split, frozenset[str]]:
        return {split: frozenset(ids) for split, ids in self._splits.items()}

    def _seen(self, case_id: str) -> list[int]:
        """What recommenders may learn of a user, oldest first."""
        buyer = self._cases[case_id]
        trained = case_id in self._split_sets["train"]
        return [*buyer.history, *(buyer.targets if trained else ())]


def _uniform(case_id: str) -> float:
    """A number in [0, 1) that depends on the name alone."""
    digest = hashlib.blake2b(case_id.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
