"""A run's folder: files, checkpoints, locks, policies."""
