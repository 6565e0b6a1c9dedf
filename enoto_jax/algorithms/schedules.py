"""Weights that fall during a phase, as a function of only the number of updates."""

from __future__ import annotations

import jax.numpy as jnp

from enoto_jax.types import Array, InputError


def falling(weight: float, step: Array, steps: int | None, floor: float) -> Array:
    """Return weight max(floor, 1 - step / steps), which is the same after a resume.

    Args:
      weight: The weight at the phase's first update.
      step: Number of the update, from 0.
      steps: Updates until the weight would reach 0; None: constant.
      floor: The smallest fraction of the weight that is left.
    """
    if steps is None:
        return jnp.float32(weight)
    return weight * jnp.maximum(floor, 1.0 - step.astype(jnp.float32) / steps)


def check_falling(name: str, steps: int | None, floor: float) -> None:
    """Check the options of a falling weight.

    Raises:
      InputError: There is less than 1 step, or the fraction is outside 0 to 1.
    """
    if steps is not None and steps < 1:
        raise InputError(f"{name}_decay_steps is {steps}; give at least 1 update, or none")
    if not 0.0 <= floor <= 1.0:
        raise InputError(f"{name}_floor is {floor}; it must lie between 0 and 1")
