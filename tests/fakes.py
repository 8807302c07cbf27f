"""The helpers for tests of plug-ins, and a case with a target, which agents cannot import."""

from agents.core.items import VisibleCase
from agents.core.testing import CATALOGUE, ITEMS, FakeModel, by_step, make_ask, scripted
from simulators.core.cases import Case, HiddenCase

__all__ = ["CASE", "CATALOGUE", "ITEMS", "FakeModel", "by_step", "make_ask", "scripted"]

CASE = Case(VisibleCase("u1", ITEMS[2:4]), HiddenCase((ITEMS[1],)))
