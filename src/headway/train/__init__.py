"""The loop, its state, and the run directory around it."""
