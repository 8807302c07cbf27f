"""What is kept of a completed call."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgpack
import numpy as np

from agents.core.calls import Completion, Embedded

FORMAT = 1  # of entries; entries of another format fail their checksums
KEY = 16  # bytes of a request's key
SUM = 8  # bytes of a checksum
_COMPLETION, _EMBEDDED = 1, 2
# One for all: each has a buffer of a megabyte.
_pack = msgpack.Packer(unicode_errors="surrogatepass").pack
_PERSON = b"crsweep call %d" % FORMAT

Reply = Completion | Embedded


class Damage(NamedTuple):
    """The damage found in a run: calls that were paid for again, and files that are partly
    unreadable."""

    calls: int = 0
    files: frozenset[str] = frozenset()

    @classmethod
    def of(cls, parts: Iterable[Damage]) -> Damage:
        """All of them together."""
        found = list(parts)
        return cls(sum(p.calls for p in found), frozenset[str]().union(*(p.files for p in found)))


def encode(reply: Reply) -> bytes:
    """The reply without what belongs only to this one call (`cached`, `retries`, `waited`)."""
    if isinstance(reply, Embedded):
        vectors = np.ascontiguousarray(reply.vectors, np.float32)
        fields: list[Any] = [
            _EMBEDDED,
            list(vectors.shape),
            vectors.tobytes(),
            reply.input_tokens,
            reply.fingerprint,
        ]
    else:
        fields = [
            _COMPLETION,
            reply.text,
            reply.finish_reason,
            reply.input_tokens,
            reply.output_tokens,
            reply.thinking_tokens,
            reply.thinking,
            reply.fingerprint,
        ]
    packed = _pack(fields)
    assert packed is not None  # the type stub says Optional
    return packed


def decode(data: bytes) -> Reply:
    """The reply, marked as cached. Raises ValueError if `data` is not an entry."""
    try:
        kind, *fields = msgpack.unpackb(data, unicode_errors="surrogatepass")
        if kind == _EMBEDDED:
            shape, vectors, tokens, fingerprint = fields
            found = np.frombuffer(vectors, np.float32).reshape(shape).copy()  # may be written to
            return Embedded(found, tokens, cached=True, fingerprint=fingerprint)
        if kind != _COMPLETION:
            raise ValueError(f"unknown kind {kind!r}")
        text, finish, tokens, output, thought, thinking, fingerprint = fields
        return Completion(
            text, finish, tokens, output, thought, True, 0, thinking, fingerprint
        )  # fmt: skip
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise ValueError(f"not an entry of the call cache: {error}") from None


def checksum(key: bytes, data: bytes) -> bytes:
    """The checksum of an entry, keyed with its key, so that a misplaced entry counts as damaged."""
    return hashlib.blake2b(data, key=key, digest_size=SUM, person=_PERSON).digest()
