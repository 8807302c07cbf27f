"""Tools that agents share besides recommenders."""
