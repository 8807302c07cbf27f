"""Judges of recorded dialogues, one a sub-package (docs/add-a-judge.md)."""
