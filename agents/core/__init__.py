"""The words everybody speaks: items, dialogues, steps, prompts, rules, errors."""
