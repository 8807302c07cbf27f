"""What policies share: labels, options, data, recipes, and how a trained one answers."""
