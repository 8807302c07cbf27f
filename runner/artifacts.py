"""The artifact store of a sweep file: where it is, and what is in it."""

from __future__ import annotations
