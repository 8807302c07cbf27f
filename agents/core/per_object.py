"""A cache with one value for each object, shared by the whole process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

Owner = TypeVar("Owner")
Kept = TypeVar("Kept")


class PerObject(Generic[Owner, Kept]):
    """Values of `make` by object: made at the first use, and kept as long as the object exists.

    Threads that need the same value at once wait for the one that makes it.
    """

    def __init__(self, make: Callable[[Owner], Kept]) -> None:
        self._make = make
        self._made: WeakKeyDictionary[Owner, Kept] = WeakKeyDictionary()
        self._making = threading.Lock()

    def of(self, owner: Owner) -> Kept:
        with self._making:
            if owner not in self._made:
                self._made[owner] = self._make(owner)
            return self._made[owner]
