"""Environments: Gymnasium's, with actions in [-1, 1]."""
