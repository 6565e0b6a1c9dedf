"""Diagnostics of a state on the data set: its mean Q, its actions' distance (ENOTO, figure 1).

They are computed beside every evaluation and after AFTER updates of the online phase, always on the
same rows. One look costs two passes of the policy and three of the critics over ROWS rows, about as
much as a few updates.
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
AFTER = (100, 1_000, 5_000)  # updates after the hand-over, besides the evaluations

Look = Callable[[core.TrainState], Mapping[str, np.ndarray]]


def action_distances(
    algorithm: core.Algorithm, transform: Transform, state: core.TrainState, rows: Transition
) -> Array:
    """Euclidean distances [M] of the deterministic actions to the recorded ones, in world units.

    Of chunks the first actions are compared.

    Args:
      algorithm: Gives the actions.
      transform: That the state learned under.
      state: Of one seed.
      rows: Transitions [M, ...], as the agent sees them.
    """

    recorded = rows.action
    chosen = algorithm.mode(state, rows.observation)[..., : recorded.shape[-1]]
    world: Callable = transform.world_action
    return jnp.linalg.norm(world(chosen) - world(recorded), axis=-1)


def compile_probe(
    algorithm: core.Algorithm, seeds: SeedMap, transform: Transform, sample: Transition | None
) -> Look:
    """The seeds' states, on the devices -> quantity -> [S]; nothing without data.

    `action_distance` is the mean of `action_distances`, `temperature` SAC's. Where the algorithm
    has critics to ask: `q_mean` is the mean over rows and critics (not their targets), `q_std` the
    mean over rows of the standard deviation over critics, `q_policy` as `q_mean` at the
    deterministic actions, `policy_gap` their difference. `target` and `weight` are the means over
    rows of the phase's own Bellman target and of its weight of TD errors, always with the same
    noise: between the last offline look and the first online one, `target` jumps by what the
    change of rules does. ReBRAC's penalty is not in it: single rows do not tell the next action;
    nor do they tell chunks, whose critics are asked for `q_policy` alone.

    Args:
      algorithm: Of the phase.
      seeds: Whose states are looked at.
      transform: Of the run.
      sample: Transitions [M, ...] of the data set, as the world measures them; None: no data.
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
            # Of the critics' loss only these are computed; a return-to-go does not change them.
            batch = rows
            if algorithm.monte_carlo is not None:
                batch = rows._replace(extras={"mc_return": jnp.zeros(len(rows.reward))})
            if algorithm.next_actions:  # unknown, as after a cut: ReBRAC's target without penalty
                cut = jnp.ones_like(rows.truncated)
                batch = rows._replace(truncated=cut, extras={"next_action": rows.action})
            _, seen = algorithm.losses["critic"](critics, state, batch, jax.random.key(0))
            # A loss of one's own need not report them.
            found |= {k: jnp.mean(seen[k]) for k in ("target", "weight") if k in seen}
        return found

    program = seeds.compile(look, shared=(1,))
    return lambda state: seeds.get(program(state, rows))


def steps_after(phase: Phase) -> frozenset[int]:
    """The environment steps of an online phase at which its updates reach AFTER."""
    burst = phase.catch_up * phase.warmup * phase.utd
    return frozenset(
        phase.warmup + max(1, math.ceil((updates - burst) / phase.utd)) for updates in AFTER
    )
