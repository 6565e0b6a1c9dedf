"""Environments: Gymnasium's and this package's own, with actions in [-1, 1]."""

from enoto_jax.envs.registration import register

register()
