"""Judges of recorded dialogues, one per sub-package (docs/add-a-judge.md)."""
