"""Training: one immutable state, one `init`, one `update`. All optimiser code is here.

A network here is anything with parameters and a loss: actors, critics, and also the temperature and
Lagrange multipliers (networks without input). Each loss is differentiated only with respect to its
own network. Each network has its own optimiser, and a network that is not updated does not move.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from enoto_jax.nets import ensembles
from enoto_jax.nets.ensembles import Drawn
from enoto_jax.types import (
    Array,
    Chunk,
    DualFn,
    InputError,
    Key,
    LossFn,
    Metrics,
    MonteCarlo,
    Params,
    Spec,
    Transition,
    Unit,
)


class TrainState(flax.struct.PyTreeNode):
    """Everything that training changes; plain arrays only.

    Attributes:
      params: Parameters, by network.
      targets: Slow copies of the tracked networks' parameters.
      opt_states: Optimiser states, by network.
      frozen: Parameters of networks without a loss (the offline policy that PEX keeps).
      step: Updates done in this phase; it decides which delayed networks are updated next.
    """

    params: Mapping[str, Params]
    targets: Mapping[str, Params]
    opt_states: Mapping[str, optax.OptState]
    frozen: Mapping[str, Params]
    step: Array


class Algorithm(NamedTuple):
    """Networks, one loss per network, and how to act; made by e.g. `sac(n=10).build(spec)`.

    Attributes:
      nets: Modules, by name.
      inputs: Example inputs with which `init` traces each module.
      losses: By network, in the order of the updates within a step.
      optimisers: By network; a network without one is frozen.
      tracked: Networks with a Polyak-averaged target.
      tau: The rate of that average.
      act: (state, key, observation [D], k) -> k sampled actions [k, A].
      mode: (state, observation [..., D]) -> deterministic action [..., A], for evaluation.
      exploration: How the online loop chooses actions, weighs and masks transitions.
      critics: N, the number of critics; 0 without any.
      q: (critic params, observation, action) -> [N, ...], or None.
      moments: (state, observation [D]) -> mean and std before tanh, or None: not a tanh-Gaussian.
      delays: k, by network or for "targets": one update in every k (TD3, REDQ); 1 by default.
      coasting: Delayed networks whose optimiser also steps, with gradients of 0, in the updates
        that skip them, so that its momentum carries them on (WSRL-code).
      monte_carlo: How the return-to-go that batches need as an extra is computed, or None.
      priority: (state, batch) -> new priorities [B] of the batch's rows, for balanced replay.
      duals: Losses of multipliers, functions of the metrics of an update's losses; they are last.
      learners: Ensemble -> how many of its copies learn in an update, drawn again for each. The
        others do not move, and their loss is not computed. Each copy has its own optimiser state,
        so that Adam counts only the copy's own updates.
      batches: How many batches of the phase's size an update takes (independent agents); above 1
        only offline.
      simultaneous: Whether every loss sees the parameters from before the update, and the targets
        follow those, as if one optimiser stepped all networks at once. Otherwise later losses see
        what earlier ones have produced, and the targets follow that.
      next_actions: Whether batches need the data's next action, the extra "next_action" [B, A].
      evaluates: (state, key, observation [..., D]) -> action [..., A], for policies that are
        evaluated with their noise; None: evaluated by `mode`.
      proposals: Like `act`: what exploration rules choose from; None: samples of the policy itself.
      chunk: How batches join h consecutive steps, see `replay.chunks`; None: single steps. Unless
        `chunk.single`, the actions of h steps are one action here: A is h times the environment's.
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
    coasting: tuple[str, ...] = ()
    monte_carlo: MonteCarlo | None = None
    priority: Callable[[TrainState, Transition], Array] | None = None
    duals: Mapping[str, DualFn] = {}
    learners: Mapping[str, int] = {}
    batches: int = 1
    simultaneous: bool = False
    next_actions: bool = False
    evaluates: Callable[[TrainState, Key, Array], Array] | None = None
    proposals: Callable[[TrainState, Key, Array, int], Array] | None = None
    chunk: Chunk | None = None

    @property
    def open_loop(self) -> Chunk | None:
        """The chunk, if its actions are chosen together and taken one after the other."""
        return None if self.chunk is None or self.chunk.single else self.chunk


class AlgorithmConfig(Unit):
    """Options of an algorithm.

    In every algorithm, `discount`, `tau`, `log_std_range` and names that end in `_rate` are
    checked.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value in vars(self).items():
            number = isinstance(value, int | float)  # other types are refused by what reads them
            if number and name in ("discount", "tau") and not 0.0 <= value <= 1.0:
                raise InputError(f"{self.name}: {name} is {value}; it must lie between 0 and 1")
            if number and name.endswith("_rate") and not 0.0 <= value < float("inf"):
                raise InputError(
                    f"{self.name}: {name} is {value}; a learning rate must be 0 or more"
                )
            if name == "log_std_range" and not sorted(value) == list(value):
                raise InputError(f"{self.name}: {name} is {value}; give (low, high)")

    def build(self, spec: Spec) -> Algorithm:
        """Make the algorithm for observations and actions of these sizes.

        Raises:
          InputError: Options cannot work; the message is one line.
        """
        raise NotImplementedError


def acting_by(policy: Callable[[Any, Array], Any]) -> dict[str, Any]:
    """Return the fields `act` and `mode` of an `Algorithm` whose policy is a distribution.

    Args:
      policy: (state, observation) -> distribution of actions, see `nets.distributions`.
    """

    def act(state, key, observation, k):
        return policy(state, observation).sample(key, (k,))[0]

    def mode(state, observation):
        return policy(state, observation).mode()

    return {"act": act, "mode": mode}


def moments_of(policy: Callable[[Any, Array], Any]) -> Callable[[Any, Array], tuple[Array, Array]]:
    """Return the field `moments` of an `Algorithm` whose policy, as above, is a `TanhNormal`."""

    def moments(state, observation):
        chosen = policy(state, observation)
        return chosen.mean, jnp.exp(chosen.log_std)

    return moments


def init(algorithm: Algorithm, key: Key) -> TrainState:
    """Return fresh parameters, targets equal to them, and fresh optimisers.

    Args:
      algorithm: The algorithm with the networks; made by e.g. `sac(n=10).build(spec)`.
      key: Consumed; every network gets its own.

    Raises:
      InputError: The key is not one of `jax.random.key`.
    """
    _check_key(key)
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
        opt_states={
            name: (jax.vmap(tx.init) if name in algorithm.learners else tx.init)(params[name])
            for name, tx in algorithm.optimisers.items()
        },
        frozen={name: p for name, p in all_params.items() if name not in params},
        step=jnp.int32(0),
    )


def update(
    algorithm: Algorithm, state: TrainState, batch: Transition, key: Key
) -> tuple[TrainState, Mapping[str, Metrics]]:
    """Take one gradient step per network, in the algorithm's order; then update the targets.

    Later losses see the parameters that earlier ones have just produced, unless the algorithm is
    `simultaneous`.

    Args:
      algorithm: The losses and optimisers.
      state: The state, which is not changed. Its step decides which delayed networks are updated;
        if all seeds of a vmap share one step, a delayed update stays a branch and costs nothing
        when not taken.
      batch: Transitions [batches * B].
      key: Consumed; every loss gets its own.

    Returns:
      The next state, and metrics by network (each with its "loss"), averaged over the axes that a
      loss gives them. For a network that is updated every k updates, they are k-fold then and 0
      otherwise, so that their mean over updates is right over whole periods; `means` is always.

    Raises:
      InputError: The batch has other shapes, a loss is not one number, or the key is not one of
        `jax.random.key`.
    """
    _check_key(key)
    _check_batch(batch)
    metrics: dict[str, Metrics] = {}
    before = state
    keys = jax.random.split(key, len(algorithm.losses))
    for loss_key, (name, loss) in zip(keys, algorithm.losses.items()):
        seen = before if algorithm.simultaneous else state
        state, metrics[name] = _step(algorithm, name, state, loss, seen, batch, loss_key)
    for name, dual in algorithm.duals.items():
        state, metrics[name] = _step(algorithm, name, state, dual, dict(metrics))
    follow = partial(_follow, algorithm, before if algorithm.simultaneous else state)
    every = algorithm.delays.get("targets", 1)
    targets, _ = _every(every, state.step, follow, lambda: state.targets)
    return state.replace(targets=targets, step=state.step + 1), jax.tree.map(jnp.mean, metrics)


def means(
    algorithm: Algorithm, sums: Mapping[str, Mapping[str, Any]], first: int, last: int
) -> dict[str, dict[str, Any]]:
    """Return the means of metrics, each over the updates in which its network was updated.

    Args:
      algorithm: The algorithm whose updates they are.
      sums: Network -> quantity -> sum of what `update` returned in the updates first to last - 1.
      first: The number of the first update in this phase, from 0.
      last: The number after the last one.

    Returns:
      Network -> quantity -> mean, without the networks that were not updated at all.
    """
    every = {name: algorithm.delays.get(name, 1) for name in sums}
    counts = {name: k * (last // k - first // k) for name, k in every.items()}
    return {
        name: {quantity: x / counts[name] for quantity, x in own.items()}
        for name, own in sums.items()
        if counts[name]
    }


def keys(count: int, seed: int = 0) -> Iterator[Key]:
    """Yield independent random keys: `for key in keys(1_000): ...`.

    Args:
      count: How many keys.
      seed: A different seed gives different keys; the first keys do not depend on `count`.
    """
    root, block = jax.random.key(seed), 1_000  # made in blocks, which takes a tenth of the time
    for first in range(0, count, block):
        made = jax.random.split(jax.random.fold_in(root, first), block)
        yield from made[: count - first]


def _check_key(key: Any) -> None:
    """Refuse the older keys of `PRNGKey`: their extra axis would be taken for several keys."""
    if not jax.dtypes.issubdtype(getattr(key, "dtype", None), jax.dtypes.prng_key):
        raise InputError("key: give a key made by jax.random.key(seed), not by jax.random.PRNGKey")


def _check_batch(batch: Any) -> None:
    """Refuse shapes that broadcasting would take for something else."""
    if not isinstance(batch, Transition):
        raise InputError(f"batch: {type(batch).__name__}; give a Transition of arrays [B, ...]")
    shapes = {name: jnp.shape(x) for name, x in zip(Transition._fields[:6], batch)}
    seen = shapes["observation"]
    for name, shape in shapes.items():
        rank = 1 if name in ("reward", "terminated", "truncated") else 2
        same = shape == seen if "observation" in name else shape[:1] == seen[:1]
        if len(shape) != rank or not same:
            raise InputError(
                f"batch: {name} has shape {list(shape)} and observation {list(seen)}; observations "
                "and actions must be [B, size], rewards and flags [B]"
            )


def _step(algorithm, name, state, loss, *seen) -> tuple[TrainState, Metrics]:
    """Return the state after a gradient step of one network on loss(its params, *seen).

    A delay may skip the step.
    """
    params, opt_state = state.params[name], state.opt_states[name]

    def moved(grads):
        changes, after = algorithm.optimisers[name].update(grads, opt_state, params)
        return optax.apply_updates(params, changes), after

    def learn():
        if name in algorithm.learners:
            return _learn_drawn(algorithm, name, loss, (params, opt_state), *seen)
        grads, metrics = _gradients(name, loss, params, *seen)
        return moved(grads), metrics

    def skip():
        if name in algorithm.coasting:
            return moved(jax.tree.map(jnp.zeros_like, params))
        return params, opt_state

    every = algorithm.delays.get(name, 1)
    (params, opt_state), metrics = _every(every, state.step, learn, skip)
    state = state.replace(
        params={**state.params, name: params}, opt_states={**state.opt_states, name: opt_state}
    )
    return state, metrics


def _learn_drawn(algorithm, name, loss, before, state, batch, key) -> tuple[Any, Metrics]:
    """Step the copies that are drawn for this update; return parameters and optimiser state."""
    total = jax.tree.leaves(before[0])[0].shape[0]
    index = jax.random.permutation(jax.random.fold_in(key, 1), total)[: algorithm.learners[name]]
    params, opt_state = (ensembles.take(tree, index) for tree in before)

    def of_drawn(params):
        return loss(Drawn(params, index, total), state, batch, key)

    grads, metrics = _gradients(name, of_drawn, params)
    step = algorithm.optimisers[name].update
    changes, moved = ensembles.each(step, grads, opt_state, params)
    after = (optax.apply_updates(params, changes), moved)
    after = tuple(ensembles.put(tree, index, new) for tree, new in zip(before, after))
    return after, metrics


def _gradients(name, loss, params, *seen) -> tuple[Params, Metrics]:
    """Return a loss's gradients by `params`, and its metrics; its value must be one number."""

    def scalar(params):
        found = loss(params, *seen)
        good = isinstance(found, tuple) and len(found) == 2 and isinstance(found[1], Mapping)
        good = good and jnp.shape(found[0]) == ()
        if not good or not jnp.issubdtype(jnp.result_type(found[0]), jnp.floating):
            raise InputError(
                f"the loss of {name} must return one number (float32, shape []) and a dictionary "
                "of metrics"
            )
        return found

    (value, about), grads = jax.value_and_grad(scalar, has_aux=True)(params)
    return grads, {"loss": value, **about}


def _follow(algorithm, state) -> tuple[Mapping[str, Params], Metrics]:
    """Return the targets after a step of their Polyak average."""
    moved = {
        name: optax.incremental_update(state.params[name], state.targets[name], algorithm.tau)
        for name in algorithm.tracked
    }
    return {**state.targets, **moved}, {}


def _every(every: int, number: Array, change: Callable, skip: Callable) -> tuple[Any, Metrics]:
    """Return `change()` in the last of every `every` updates; else `skip()` and metrics of 0."""
    if every == 1:
        return change()
    _, metrics = jax.eval_shape(change)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), metrics)

    def due():
        after, metrics = change()
        return after, jax.tree.map(lambda x: every * x, metrics)

    return jax.lax.cond(number % every == every - 1, due, lambda: (skip(), zeros))
