"""What trains: one immutable state, one `init`, one `update`. The only optimiser code there is.

A network here is anything with parameters and a loss: actors, critics, and also the temperature and
Lagrange multipliers (networks without input). Each loss is differentiated with respect to its own
network alone, each network has its own optimiser, and one that is not updated does not move.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from enoto_jax.nets import ensembles
from enoto_jax.types import Array, Key, LossFn, Metrics, MonteCarlo, Params, Transition


@flax.struct.dataclass
class TrainState:
    """Everything that training changes; plain arrays only.

    Attributes:
      params: parameters, by network.
      targets: their slow copies, for the tracked networks.
      opt_states: optimiser states, by network.
      frozen: parameters of networks without a loss (the offline policy that PEX keeps).
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
      optimisers: by network; a network without one is frozen.
      tracked: networks with a Polyak-averaged target.
      tau: rate of that average.
      act: (state, key, observation [D], k) -> k sampled actions [k, A].
      mode: (state, observation [..., D]) -> deterministic action [..., A], for evaluation.
      exploration: how the online loop chooses actions, weighs and masks transitions.
      critics: N, the number of critics; 0 without any.
      q: (critic params, observation, action) -> [N, ...], or None.
      moments: (state, observation [D]) -> mean and std before tanh, or None: not a tanh-Gaussian.
      delays: by network, or "targets": one step in so many updates (TD3, REDQ); 1 by default.
      monte_carlo: how the return-to-go that batches need as an extra is computed, or None.
      priority: (state, batch) -> new priorities [B] of the batch's rows, for balanced replay.
      agents: independent copies that train side by side, each on rows of its own: every array of
        the state but its step has them on its leading axis. None: one, without that axis.
    """

    nets: Mapping[str, nn.Module]
    inputs: Mapping[str, tuple]
    losses: Mapping[str, LossFn]
    optimisers: Mapping[str, optax.GradientTransformation]
    tracked: tuple[str, ...]
    tau: float
    act: Callable[[TrainState, Key, Array, int], Array]
    mode: Callable[[TrainState, Array], Array]
    exploration: Any
    critics: int = 0
    q: Callable[[Params, Array, Array], Array] | None = None
    moments: Callable[[TrainState, Array], tuple[Array, Array]] | None = None
    delays: Mapping[str, int] = {}
    monte_carlo: MonteCarlo | None = None
    priority: Callable[[TrainState, Transition], Array] | None = None
    agents: int | None = None


# Which axis of a state's arrays is the agents'.
AGENTS = TrainState(params=0, targets=0, opt_states=0, frozen=0, step=None)


def init(algorithm: Algorithm, key: Key) -> TrainState:
    """Fresh parameters, targets equal to them, fresh optimisers."""
    if algorithm.agents is not None:
        one = partial(init, algorithm._replace(agents=None))
        return jax.vmap(one, out_axes=AGENTS)(jax.random.split(key, algorithm.agents))
    keys = jax.random.split(key, len(algorithm.nets))
    all_params = {
        name: net.init(k, *algorithm.inputs[name])
        for k, (name, net) in zip(keys, algorithm.nets.items())
    }
    params = {name: all_params[name] for name in algorithm.nets if name in algorithm.optimisers}
    return TrainState(
        params=params,
        # Copies, because a donated buffer must not appear twice in one state.
        targets={name: jax.tree.map(jnp.copy, params[name]) for name in algorithm.tracked},
        opt_states={name: tx.init(params[name]) for name, tx in algorithm.optimisers.items()},
        frozen={name: p for name, p in all_params.items() if name not in params},
        step=jnp.int32(0),
    )


def update(
    algorithm: Algorithm,
    state: TrainState,
    batch: Transition,
    key: Key,
    only: Collection[str] | None = None,
    number: Array | None = None,
) -> tuple[TrainState, Mapping[str, Metrics]]:
    """One gradient step per network, in the algorithm's order, then the targets follow.

    Later losses see the parameters that earlier ones have just produced, and their metrics.

    Args:
      algorithm: the losses and optimisers.
      state: is not changed.
      batch: transitions [B]; of several agents, each gets an equal part.
      key: consumed; every loss gets its own.
      only: names of the networks to update; all by default. The others do not move.
      number: of this update, for the delays; the state's own count by default. One number for all
        seeds keeps a delayed step a branch under vmap, which costs nothing when it is not taken.

    Returns:
      The next state, and metrics by network (each with its "loss"). Those of a network that is
      updated every k-th time are k-fold then and 0 otherwise: their mean over updates is right.
    """
    number = state.step if number is None else number
    if algorithm.agents is not None:
        return _update_each(algorithm, state, batch, key, only, number)
    metrics: dict[str, Metrics] = {}
    keys = jax.random.split(key, len(algorithm.losses))
    for loss_key, name in zip(keys, algorithm.losses):
        if only is not None and name not in only:
            continue
        learn = partial(_learn, algorithm, name, state, batch, loss_key, dict(metrics))
        before = (state.params[name], state.opt_states[name])
        every = algorithm.delays.get(name, 1)
        (params, opt_state), metrics[name] = _every(every, number, learn, before)
        state = state.replace(
            params={**state.params, name: params},
            opt_states={**state.opt_states, name: opt_state},
        )
    tracked = [name for name in algorithm.tracked if only is None or name in only]
    follow = partial(_follow, algorithm, tracked, state)
    targets, _ = _every(algorithm.delays.get("targets", 1), number, follow, state.targets)
    return state.replace(targets=targets, step=state.step + 1), metrics


def apart(algorithm: Algorithm, state: TrainState) -> TrainState:
    """The state with the copies of every ensemble apart; `ensembles.stacked` undoes it exactly.

    One of several agents is as it was: their arrays have another axis before the copies'.
    """
    if algorithm.agents is not None:
        return state

    def parts(trees):
        return {name: ensembles.apart(algorithm.nets[name], tree) for name, tree in trees.items()}

    return TrainState(
        params=parts(state.params),
        targets=parts(state.targets),
        opt_states=parts(state.opt_states),
        frozen=parts(state.frozen),
        step=state.step,
    )


def _update_each(algorithm, state, batch, key, only, number) -> tuple[TrainState, Mapping]:
    """One update of every agent; metrics are their means."""
    one = algorithm._replace(agents=None)
    after, metrics = jax.vmap(
        lambda state, batch, key: update(one, state, batch, key, only, number),
        in_axes=(AGENTS, 0, 0),
        out_axes=(AGENTS, 0),
    )(
        state,
        jax.tree.map(lambda x: x.reshape(algorithm.agents, -1, *x.shape[1:]), batch),
        jax.random.split(key, algorithm.agents),
    )
    return after, jax.tree.map(lambda x: jnp.mean(x, axis=0), metrics)


def _learn(algorithm, name, state, batch, key, earlier) -> tuple[tuple, Metrics]:
    """One network's parameters and optimiser after a gradient step."""
    grad = jax.value_and_grad(algorithm.losses[name], has_aux=True)
    (value, seen), grads = grad(state.params[name], state, batch, key, earlier)
    changes, opt_state = algorithm.optimisers[name].update(
        grads, state.opt_states[name], state.params[name]
    )
    return (optax.apply_updates(state.params[name], changes), opt_state), {"loss": value, **seen}


def _follow(algorithm, names, state) -> tuple[Mapping[str, Params], Metrics]:
    """The targets after a step of their Polyak average."""
    moved = {
        name: optax.incremental_update(state.params[name], state.targets[name], algorithm.tau)
        for name in names
    }
    return {**state.targets, **moved}, {}


def _every(every: int, number: Array, change: Callable, before: Any) -> tuple[Any, Metrics]:
    """`change()` in the last of every so many updates, otherwise `before` and metrics of 0."""
    if every == 1:
        return change()
    _, metrics = jax.eval_shape(change)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), metrics)

    def due():
        after, metrics = change()
        return after, jax.tree.map(lambda x: every * x, metrics)

    return jax.lax.cond(number % every == every - 1, due, lambda: (before, zeros))
