"""The commands: `python -m experiments.train` and its neighbours."""
