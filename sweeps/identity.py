"""Identity: what makes two episodes the same.

An id is BLAKE2b-128 over canonical JSON of everything that can affect a dialogue. It does not
include the sample size, judges, metrics, concurrency, paths, names of models in the file, or the
host.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from agents.core.errors import UsageError
from agents.core.seeds import Seeds

RECIPE = 3
"""Version of this recipe, part of every id. It is raised when old ids no longer mean the same.

2: replies are written in the declared order of their fields; titles and leaks are recognised by
other rules.
3: the reply form that every prompt contains is worded differently.
"""


def canonical(value: Any) -> str:
    """JSON with sorted keys and without spaces; floats that are whole numbers are written as
    integers."""
    return json.dumps(
        _plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def digest(value: Any) -> str:
    """Hex BLAKE2b-128 of the canonical JSON of `value`."""
    text = canonical(value).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=16).hexdigest()


def cell_id(
    *,
    domain: str,
    split: str,
    agent: Mapping[str, Any],
    user: Mapping[str, Any],
    success: Mapping[str, Any],
    limits: Mapping[str, Any],
    models: Mapping[str, Any],
    critic: Mapping[str, Any] | None = None,
) -> str:
    """The id of a cell. `domain` is a fingerprint; `models` maps dialogue roles to identities.

    `agent`, `user` and `critic` have name, version, non-default options, and the digest of the
    prompts. A cell without a critic has the same id as before critics existed.
    """
    watched = {} if critic is None else {"critic": critic}
    return digest(
        {
            "recipe": RECIPE,
            "domain": domain,
            "split": split,
            "agent": agent,
            "user": user,
            "success": success,
            "limits": limits,
            "models": models,
            **watched,
        }
    )


def episode_id(cell: str, case_id: str, seeds: Seeds) -> str:
    """The id of the episode of `cell`, case and seeds."""
    text = f"{cell}\0{case_id}\0{seeds.sampling}\0{seeds.training}\0{seeds.order}"
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def number(text: str, key: bytes = b"") -> int:
    """A number below 2**64 derived from `text`, or from `text` and `key`."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8, key=key).digest(), "big")


def sample_order(case_ids: Iterable[str], sample_seed: int) -> list[int]:
    """Positions of `case_ids` in the order of the seeded permutation.

    Cases are sorted by a hash of seed and id, so a larger sample begins with the smaller one, and
    neither the order of the data nor a library's generator matters.
    """
    # `number` of each, but with the key hashed once: there may be a million cases.
    keyed = hashlib.blake2b(digest_size=8, key=str(sample_seed).encode())
    found = bytearray()
    for case in case_ids:
        one = keyed.copy()
        one.update(case.encode())
        found += one.digest()
    return np.argsort(np.frombuffer(found, dtype=">u8"), kind="stable").tolist()


def resolve_role(role: str, roles: Mapping[str, str]) -> str:
    """The model of `role`; `agent.planner` falls back to `agent`. Raises UsageError if there is
    none."""
    name = role
    while name not in roles:
        name, dot, _ = name.rpartition(".")
        if not dot:
            raise UsageError(f"roles: no model is given for the role {role!r}")
    return roles[name]


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
