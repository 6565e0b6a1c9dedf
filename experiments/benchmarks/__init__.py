"""Measurements of speed; each prints ratios within one run."""
