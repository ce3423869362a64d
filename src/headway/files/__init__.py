"""Model folders: written whole, read with suspicion."""
