"""The commands: `enoto train` and its neighbours."""
