"""Diagnostics of a state on the data set, such as mean Q and action distance (ENOTO, figure 1).

They are computed with every evaluation and after AFTER updates of the online phase, always on the
same rows. Each time costs two passes of the policy and three of the critics over ROWS rows, about
as much as a few updates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from enoto_jax import core
from enoto_jax.nets.networks import positive
from enoto_jax.recipes.recipe import Phase
from enoto_jax.training.seeds import SeedMap
from enoto_jax.transforms import Transform
from enoto_jax.types import Array, Transition

ROWS = 2_048
AFTER = (100, 1_000, 5_000)  # updates after the hand-over, in addition to the evaluations

Look = Callable[[core.TrainState], Mapping[str, np.ndarray]]


def action_distances(
    algorithm: core.Algorithm, transform: Transform, state: core.TrainState, rows: Transition
) -> Array:
    """Return Euclidean distances [M] of deterministic to recorded actions, in world units.

    For chunks, the first actions are compared.

    Args:
      algorithm: The algorithm that gives the deterministic actions.
      transform: The transform that the state was trained with.
      state: One seed's train state.
      rows: Transitions [M, ...], as the agent sees them.
    """

    recorded = rows.action
    chosen = algorithm.mode(state, rows.observation)[..., : recorded.shape[-1]]
    world: Callable = transform.world_action
    return jnp.linalg.norm(world(chosen) - world(recorded), axis=-1)


def compile_probe(
    algorithm: core.Algorithm, seeds: SeedMap, transform: Transform, sample: Transition | None
) -> Look:
    """Compile the probe: the seeds' states on the devices -> quantity -> [S]; empty without data.

    `action_distance` is the mean of `action_distances`, and `temperature` is SAC's. If the
    algorithm has critics, `q_mean` is the mean over rows and critics (not their targets), `q_std`
    the mean over rows of the standard deviation over critics, `q_policy` the same as `q_mean` at
    the deterministic actions, and `policy_gap` is `q_policy - q_mean`. `target` and `weight` are
    the means over rows of the phase's own Bellman target and of its weight of TD errors, always
    with the same noise. Between the last offline probe and the first online one, `target` jumps by
    the effect of the change of rules. It excludes ReBRAC's penalty, because single rows do not
    contain the next action. Nor do they contain chunks, so with chunks the critics give `q_policy`
    only.

    Args:
      algorithm: The phase's algorithm.
      seeds: The seeds whose states are probed.
      transform: The run's transform.
      sample: Transitions [M, ...] of the data set, in world units; None without data.
    """
    if sample is None:
        return lambda state: {}
    rows = seeds.share(transform.transitions(sample))

    def look(state, rows):
        found = {"action_distance": jnp.mean(action_distances(algorithm, transform, state, rows))}
        if "temperature" in state.params:
            found["temperature"] = jnp.mean(positive(state.params["temperature"]))
        if algorithm.q is not None:
            critics = state.params["critic"]
            own = algorithm.q(critics, rows.observation, algorithm.mode(state, rows.observation))
            found["q_policy"] = jnp.mean(own)
            if algorithm.chunk is not None:
                return found
            q = algorithm.q(critics, rows.observation, rows.action)
            found |= {
                "q_mean": jnp.mean(q),
                "q_std": jnp.mean(jnp.std(q, axis=0)),
                "policy_gap": jnp.mean(own) - jnp.mean(q),
            }
            # Only these parts of the critics' loss are computed; the return-to-go does not change
            # them.
            batch = rows
            if algorithm.monte_carlo is not None:
                batch = rows._replace(extras={"mc_return": jnp.zeros(len(rows.reward))})
            if algorithm.next_actions:  # unknown, as after a cut: ReBRAC's target without penalty
                cut = jnp.ones_like(rows.truncated)
                batch = rows._replace(truncated=cut, extras={"next_action": rows.action})
            _, seen = algorithm.losses["critic"](critics, state, batch, jax.random.key(0))
            # A custom loss need not report them.
            found |= {k: jnp.mean(seen[k]) for k in ("target", "weight") if k in seen}
        return found

    program = seeds.compile(look, shared=(1,))
    return lambda state: seeds.get(program(state, rows))


def steps_after(phase: Phase) -> frozenset[int]:
    """Return the environment steps of an online phase at which its updates reach AFTER."""
    burst = phase.catch_up * phase.warmup * phase.utd
    return frozenset(
        phase.warmup + max(1, math.ceil((updates - burst) / phase.utd)) for updates in AFTER
    )
