"""Critics, one plug-in per module: they score each turn of a dialogue, and may end it."""
