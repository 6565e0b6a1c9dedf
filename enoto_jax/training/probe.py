"""What a state says of the data set: its average Q there, its actions' distance (ENOTO, figure 1).

Looked at beside every evaluation, on the same sample of rows each time: never between updates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax.numpy as jnp
import numpy as np

from enoto_jax import core
from enoto_jax.training.seeds import SeedMap
from enoto_jax.transforms import Transform
from enoto_jax.types import Array, Transition

ROWS = 2_048

Look = Callable[[core.TrainState], Mapping[str, np.ndarray]]


def action_distances(
    algorithm: core.Algorithm, transform: Transform, state: core.TrainState, rows: Transition
) -> Array:
    """Euclidean distances [M] of the deterministic actions to the recorded ones, in world units.

    Args:
      algorithm: gives the actions.
      transform: that the state learned under.
      state: of one seed.
      rows: transitions [M, ...], as the agent sees them.
    """

    chosen, recorded = algorithm.mode(state, rows.observation), rows.action
    world: Callable = transform.world_action
    return jnp.linalg.norm(world(chosen) - world(recorded), axis=-1)


def compile_probe(
    algorithm: core.Algorithm, seeds: SeedMap, transform: Transform, sample: Transition | None
) -> Look:
    """The seeds' states, on the devices -> quantity -> [S]; nothing without data.

    `q_mean` is the mean over rows and critics (not their targets), `q_std` the mean over rows of
    the standard deviation over critics; both only where the algorithm has critics to ask.
    `action_distance` is the mean of `action_distances`.

    Args:
      algorithm: of the phase.
      seeds: whose states are looked at.
      transform: of the run.
      sample: transitions [M, ...] of the data set, as the world measures them; None: no data.
    """
    if sample is None:
        return lambda state: {}
    rows = seeds.share(transform.transitions(sample))

    def look(state, rows):
        found = {"action_distance": jnp.mean(action_distances(algorithm, transform, state, rows))}
        if algorithm.q is not None:
            q = algorithm.q(state.params["critic"], rows.observation, rows.action)
            found |= {"q_mean": jnp.mean(q), "q_std": jnp.mean(jnp.std(q, axis=0))}
        return found

    program = seeds.compile(look, shared=(1,))
    return lambda state: seeds.get(program(state, rows))
