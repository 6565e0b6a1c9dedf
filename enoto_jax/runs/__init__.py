"""The folder that a run leaves: files, checkpoints, locks, policies."""
