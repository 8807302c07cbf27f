"""The types that all layers share: items, dialogues, steps, prompts, seeds, errors."""
