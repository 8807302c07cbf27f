"""A sweep on a Ray of several nodes, while a script kills whatever a run is made of."""
