"""What trains: one immutable state, one `init`, one `update`. The only optimiser code there is.

A network here is anything with parameters and a loss: actors, critics, and also the temperature and
Lagrange multipliers (networks without input). Each loss is differentiated with respect to its own
network alone, each network has its own optimiser, and one that is not updated does not move.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from enoto_jax.types import Array, Key, LossFn, Metrics, Params, Spec, Transition


@flax.struct.dataclass
class TrainState:
    """Everything that training changes; plain arrays only.

    Attributes:
      params: parameters, by network.
      targets: their slow copies, for the tracked networks.
      opt_states: optimiser states, by network.
      frozen: parameters that never train again (an offline policy kept by PEX).
      step: number of updates done in this phase.
    """

    params: Mapping[str, Params]
    targets: Mapping[str, Params]
    opt_states: Mapping[str, optax.OptState]
    frozen: Mapping[str, Params]
    step: Array


class Algorithm(NamedTuple):
    """Networks, one loss per network, and how to act; made by e.g. `sac(spec, n=10)`.

    Attributes:
      nets: modules, by name.
      inputs: example inputs that `init` traces each module with.
      losses: by network, in the order of the updates within a step.
      optimisers: by network.
      tracked: networks with a Polyak-averaged target.
      tau: rate of that average.
      act: (params, key, observation [D], k) -> k sampled actions [k, A].
      mode: (params, observation [..., D]) -> deterministic action [..., A], for evaluation.
      q: (critic params, observation, action) -> [N, ...].
      moments: (params, observation [D]) -> mean and std before tanh, or None: not a tanh-Gaussian.
      critics: N, the number of critics.
      exploration: how the online loop chooses actions, weighs and masks transitions.
    """

    nets: Mapping[str, nn.Module]
    inputs: Mapping[str, tuple]
    losses: Mapping[str, LossFn]
    optimisers: Mapping[str, optax.GradientTransformation]
    tracked: tuple[str, ...]
    tau: float
    act: Callable[[Mapping[str, Params], Key, Array, int], Array]
    mode: Callable[[Mapping[str, Params], Array], Array]
    q: Callable[[Params, Array, Array], Array]
    moments: Callable[[Mapping[str, Params], Array], tuple[Array, Array]] | None
    critics: int
    exploration: Any


AlgorithmFn = Callable[[Spec], Algorithm]


def init(algorithm: Algorithm, key: Key) -> TrainState:
    """Fresh parameters, targets equal to them, fresh optimisers."""
    keys = jax.random.split(key, len(algorithm.nets))
    params = {
        name: net.init(k, *algorithm.inputs[name])
        for k, (name, net) in zip(keys, algorithm.nets.items())
    }
    return TrainState(
        params=params,
        # Copies, because a donated buffer must not appear twice in one state.
        targets={name: jax.tree.map(jnp.copy, params[name]) for name in algorithm.tracked},
        opt_states={name: tx.init(params[name]) for name, tx in algorithm.optimisers.items()},
        frozen={},
        step=jnp.int32(0),
    )


def update(
    algorithm: Algorithm,
    state: TrainState,
    batch: Transition,
    key: Key,
    only: Collection[str] | None = None,
) -> tuple[TrainState, Mapping[str, Metrics]]:
    """One gradient step per network, in the algorithm's order, then the targets follow.

    Later losses see the parameters that earlier ones have just produced, and their metrics.

    Args:
      algorithm: the losses and optimisers.
      state: is not changed.
      batch: transitions [B].
      key: consumed; every loss gets its own.
      only: names of the networks to update; all by default. The others do not move.

    Returns:
      The next state, and metrics by network (each with its "loss").
    """
    metrics: dict[str, Metrics] = {}
    keys = jax.random.split(key, len(algorithm.losses))
    for loss_key, (name, loss) in zip(keys, algorithm.losses.items()):
        if only is not None and name not in only:
            continue
        grad = jax.value_and_grad(loss, has_aux=True)
        (value, seen), grads = grad(state.params[name], state, batch, loss_key, metrics)
        changes, opt_state = algorithm.optimisers[name].update(
            grads, state.opt_states[name], state.params[name]
        )
        state = state.replace(
            params={**state.params, name: optax.apply_updates(state.params[name], changes)},
            opt_states={**state.opt_states, name: opt_state},
        )
        metrics[name] = {"loss": value, **seen}
    tracked = [name for name in algorithm.tracked if only is None or name in only]
    targets = {
        name: optax.incremental_update(state.params[name], state.targets[name], algorithm.tau)
        for name in tracked
    }
    return state.replace(targets={**state.targets, **targets}, step=state.step + 1), metrics
