"""Check what an `Algorithm` promises, without computing anything: names, and shapes of actions.

This is for algorithms of your own: their errors are reported before an hour of training, in one
line.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from enoto_jax import core
from enoto_jax.exploration import Exploration
from enoto_jax.types import InputError, Spec


def check(name: str, algorithm: Any, spec: Spec) -> core.TrainState:
    """Check everything that the loops rely on.

    Args:
      name: The name of the algorithm's unit, for messages.
      algorithm: The result of the unit's `build`.
      spec: The sizes that it was built for.

    Returns:
      The shapes of the algorithm's initial state.

    Raises:
      InputError: It is not a `core.Algorithm`, its fields name different networks, or its functions
        return other shapes than `core.Algorithm` documents.
    """
    if not isinstance(algorithm, core.Algorithm):
        raise InputError(f"{name}: build returns a {type(algorithm).__name__}, not an Algorithm")
    if not isinstance(algorithm.exploration, Exploration):
        raise InputError(
            f"{name}: exploration is {algorithm.exploration!r}; give a rule, such as policy()"
        )
    _check_names(name, algorithm)
    return _check_shapes(name, algorithm, spec)


def _check_names(name: str, algorithm: core.Algorithm) -> None:
    learning = (*algorithm.losses, *algorithm.duals)
    for field, names, where, known in (
        ("nets", algorithm.nets, "inputs", algorithm.inputs),
        ("losses and duals", learning, "nets", algorithm.nets),
        ("losses and duals", learning, "optimisers", algorithm.optimisers),
        ("optimisers", algorithm.optimisers, "losses and duals", learning),
        ("q", ("critic",) if algorithm.q else (), "losses and duals", learning),
        ("tracked", algorithm.tracked, "losses and duals", learning),
        ("coasting", algorithm.coasting, "losses and duals", learning),
        ("learners", algorithm.learners, "losses and duals", learning),
        ("delays", algorithm.delays, "losses and duals", (*learning, "targets")),
    ):
        if missing := [x for x in names if x not in known]:
            raise InputError(f"{name}: {field} has {missing[0]!r}, which is not in {where}")
    if not learning:
        raise InputError(f"{name}: losses is empty; an algorithm needs at least one")
    for network, every in algorithm.delays.items():
        if not isinstance(every, int) or every < 1:
            raise InputError(f"{name}: delays has {every!r} for {network}; give 1 or more updates")
    if not 0.0 <= algorithm.tau <= 1.0:
        raise InputError(f"{name}: tau is {algorithm.tau}; it must lie between 0 and 1")


def _check_shapes(name: str, algorithm: core.Algorithm, spec: Spec) -> core.TrainState:
    """Check each promise on its own example: K = 3 candidate actions, B = 2 observations."""
    chunk, rule, n = algorithm.open_loop, algorithm.exploration, algorithm.critics
    evaluates, q = algorithm.evaluates, algorithm.q
    size = spec.action_size * (1 if chunk is None else chunk.length)
    one, two = jnp.zeros(spec.observation_size), jnp.zeros((2, spec.observation_size))
    promises: dict[str, tuple[Any, tuple[int, ...]]] = {
        "act(k=3)": (lambda s, k: algorithm.act(s, k, one, 3), (3, size)),
        "mode of 2 observations": (lambda s, k: algorithm.mode(s, two), (2, size)),
    }
    if evaluates is not None:
        promises["evaluates of 2 observations"] = (lambda s, k: evaluates(s, k, two), (2, size))
    if q is not None:
        action = jnp.zeros((2, size))
        promises["q of 2 rows"] = (lambda s, k: q(s.params["critic"], two, action), (n, 2))
    if rule.masks:
        promises["exploration.draw_mask"] = (lambda s, k: rule.draw_mask(k, n), (n,))
    key = jax.eval_shape(lambda: jax.random.key(0))
    state = jax.eval_shape(lambda k: core.init(algorithm, k), key)
    for what, (call, shape) in promises.items():
        check_shape(f"{name}: {what}", jax.eval_shape(call, state, key), shape)
    return state


def check_shape(what: str, found: Any, shape: tuple[int, ...]) -> None:
    """Refuse a shape other than the promised one, and values that are not floats.

    Raises:
      InputError: The shape or type differs; the message shows both.
    """
    if getattr(found, "shape", None) != shape or not jnp.issubdtype(found.dtype, jnp.floating):
        kind = type(found).__name__
        seen = f"{found.dtype}{list(found.shape)}" if hasattr(found, "shape") else f"a {kind}"
        raise InputError(f"{what} returns {seen}; it must return float32{list(shape)}")
