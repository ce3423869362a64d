"""Numbers: scores and how sure we are of them; no torch."""
