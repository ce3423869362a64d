"""Strings to ids and back; no torch."""
