"""The words of the package: axis letters, transitions, and a name for every kind of unit.

Axis letters, used in every docstring:

====== =====================  ====== =========================
letter axis                   letter axis
====== =====================  ====== =========================
S      seeds                  K      candidate actions
B      batch                  D      observation size
N      critics                A      action size
====== =====================  ====== =========================
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import jax

Array = jax.Array
Key = jax.Array
Params = Any
Metrics = Mapping[str, Array]


class InputError(ValueError):
    """The user gave something that cannot work. Its text is one line: what, where, what to do."""


class RunError(RuntimeError):
    """A run cannot go on: its world, its numbers or its disk failed. Its text is one line."""


class Stopped(Exception):
    """A signal asked the run to stop; a checkpoint is saved."""


class Spec(NamedTuple):
    """Sizes that the networks are built from. Actions live in [-1, 1]^A."""

    observation_size: int
    action_size: int


class Transition(NamedTuple):
    """One step, or any number of them along leading axes (a data set, a batch, a replay buffer).

    `terminated` ends the bootstrap; `truncated` (a time limit) only ends the episode. The two are
    never both true.
    """

    observation: Array  # [..., D] float32
    action: Array  # [..., A] float32
    reward: Array  # [...] float32
    terminated: Array  # [...] bool
    truncated: Array  # [...] bool
    next_observation: Array  # [..., D] float32, the true successor, never the reset that follows
    extras: Mapping[str, Array] = {}  # "mask" [..., N]: which critics learn; "mc_return" [...]


class MonteCarlo(NamedTuple):
    """How a transition's return-to-go is computed: the extra "mc_return" of a batch.

    G_t = r_t + discount G_{t+1} within an episode, nothing after its end. Where every reward of an
    episode is `sparse` (the reward of not being there yet), G_t = sparse / (1 - discount)
    (Cal-QL).
    """

    discount: float
    sparse: float | None = None


class TargetRule(Protocol):
    """Reduces the target critics' values of the next action, and does nothing else."""

    def __call__(self, key: Key, q: Array) -> Array:
        """q [N, B] -> one target for all critics [B], or one a critic [N, B]."""


# (parameters of that network, state, batch, key, metrics of the losses before it in this update)
# -> (scalar, metrics). The gradient is taken with respect to the first argument only.
LossFn = Callable[[Params, Any, Transition, Key, Mapping[str, Metrics]], tuple[Array, Metrics]]
