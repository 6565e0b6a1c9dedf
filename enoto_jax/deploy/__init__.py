"""Policies and agents outside a training run."""
