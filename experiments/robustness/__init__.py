"""Robustness tests: kills, hostile input, and lost hosts."""
