"""The Bellman target, and the critics' loss that every algorithm shares.

y = r + discount (1 - terminated) value. A time limit does not cut the bootstrap. A backup defines
the value of the next state. The loss uses the policy only through its distribution.

In every loss, the first argument is the parameters by which it is differentiated. Whatever else it
reads comes from the state, so no gradient can leave its network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import jax
import jax.numpy as jnp

from enoto_jax.exploration import Exploration
from enoto_jax.nets.distributions import Distribution
from enoto_jax.nets.ensembles import own_part
from enoto_jax.nets.networks import positive
from enoto_jax.targets import TargetRule
from enoto_jax.types import (
    Array,
    InputError,
    Key,
    LossFn,
    Metrics,
    Spec,
    Transition,
    Unit,
    check_positive,
)

QFn = Callable[[Any, Array, Array], Array]  # (params, observation, action) -> [N, ...]
PolicyFn = Callable[[Any, Array], Distribution]  # (params or state, observation) -> actions
Reduce = Callable[[Key, Array], Array]  # (key, q [N, B]) -> [B] or [N, B]
# (params, state, batch, key, q_data [N, B]) -> (scalar added to the critics' loss, metrics)
TermFn = Callable[[Any, Any, Transition, Key, Array], tuple[Array, Metrics]]
# (key, number of terms) -> keys of the backup, the weight, and the terms
Streams = Callable[[Key, int], tuple[Key, Key, Sequence[Key]]]


class Backup(Unit):
    """The value of the next state, before the discount."""

    def __call__(
        self,
        key: Key,
        policy: Distribution,
        q_of: Callable[[Array], Array],
        reduce: Reduce,
        temperature: Array,
    ) -> tuple[Array, Array]:
        """Return the value of the next states.

        Args:
          key: The random key for the actions and the target rule, or two keys, one for each.
          policy: The policy at the next states.
          q_of: Maps actions [..., B, A] to target critics [N, ..., B].
          reduce: The target rule.
          temperature: The entropy's weight; 0 if the algorithm has none.

        Returns:
          The value, [B] or [N, B], and the critics next_q [N, B] at the action from which it
          bootstraps (for SUNRISE's weight).
        """
        raise NotImplementedError


class soft(Backup):
    """rule(Q(s2, a2)) - temperature log pi(a2 | s2), a2 sampled (SAC)."""

    def __call__(self, key, policy, q_of, reduce, temperature):
        sample_key, rule_key = _two(key)
        action, log_prob = policy.sample(sample_key)
        next_q = q_of(action)
        return reduce(rule_key, next_q) - temperature * log_prob, next_q


class sampled(Backup):
    """rule(Q(s2, a2)), a2 sampled, no entropy (CORL's CQL, AWAC, TD3)."""

    def __call__(self, key, policy, q_of, reduce, temperature):
        sample_key, rule_key = _two(key)
        next_q = q_of(policy.sample(sample_key)[0])
        return reduce(rule_key, next_q), next_q


class deterministic(Backup):
    """rule(Q(s2, mode(s2))), no entropy (d3rlpy's CQL, hence ENOTO's offline phase)."""

    def __call__(self, key, policy, q_of, reduce, temperature):
        next_q = q_of(policy.mode())
        return reduce(key, next_q), next_q


class best_of(Backup):
    """The largest rule(Q(s2, a)) of k sampled actions, no entropy (CQL's max backup, AntMaze)."""

    k: Annotated[int, "actions sampled per transition."] = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("best_of: k", self.k)

    def __call__(self, key, policy, q_of, reduce, temperature):
        sample_key, rule_key = _two(key)
        actions, _ = policy.sample(sample_key, (self.k,))
        q = q_of(actions)  # [N, K, B]
        values = reduce(rule_key, q.reshape(q.shape[0], -1))
        values = values.reshape(*values.shape[:-1], *q.shape[1:])  # [K, B] or [N, K, B]
        # A rule with a target for every critic has no single best action.
        ranked = values if values.ndim == 2 else jnp.min(q, axis=0)
        best = jnp.argmax(ranked, axis=0)  # [B]
        next_q = jnp.take_along_axis(q, best[None, None], axis=1)[:, 0]
        return jnp.max(values, axis=-2), next_q


class CriticTerm(Unit):
    """An additional loss on the critics, such as CQL's penalty."""

    def bind(self, q: QFn, policy: PolicyFn, spec: Spec) -> TermFn:
        """Return the term for these critics and policy, (actor params, observation) -> actions."""
        raise NotImplementedError


def target(batch: Transition, discount: float, value: Array) -> Array:
    """Return y = r + discount (1 - terminated) value, for a value [B] or [N, B]."""
    return batch.reward + discount * (1.0 - batch.terminated) * value


def checked(rule: TargetRule) -> Reduce:
    """Return the rule with a check that it returns values [B] or [N, B] for q [N, B].

    Raises:
      InputError: It does not; raised when it is called, or when its shapes are evaluated.
    """

    def reduce(key: Key, q: Array) -> Array:
        value = rule(key, q)
        form = getattr(value, "shape", None)
        if form not in (q.shape, q.shape[1:]):
            seen = f"a {type(value).__name__}" if form is None else list(form)
            raise InputError(
                f"--target: {getattr(rule, 'name', rule)} returns {seen} for q {list(q.shape)}; a "
                "rule must return [B], or [N, B] for one target per critic"
            )
        if not jnp.issubdtype(value.dtype, jnp.floating):
            raise InputError(
                f"--target: {getattr(rule, 'name', rule)} returns {value.dtype}; a rule must "
                "return floating-point values"
            )
        return value

    return reduce


def _two(key: Key) -> Key:
    return jax.random.split(key) if key.ndim == 0 else key


def nested(key: Key, terms: int) -> tuple[Key, Key, Sequence[Key]]:
    """Return keys as SAC and its relatives draw them: the backup splits its own key."""
    backup_key, weight_key, *term_keys = jax.random.split(key, 2 + terms)
    return backup_key, weight_key, term_keys


def flat(key: Key, terms: int) -> tuple[Key, Key, Sequence[Key]]:
    """Return keys as AWAC and TD3 draw them, so that older runs resume with the same numbers."""
    keys = jax.random.split(key, 3 + terms)
    return keys[:2], keys[2], list(keys[3:])


def critic_loss(
    q: QFn,
    policy: PolicyFn,
    rule: TargetRule,
    backup: Backup,
    discount: float,
    exploration: Exploration,
    terms: Sequence[TermFn] = (),
    streams: Streams = nested,
) -> LossFn:
    """Make the loss: sum over critics of the batch mean of w (Q_i(s, a) - y)^2, plus the terms.

    Args:
      q: The critics.
      policy: (state, observation) -> distribution of actions.
      rule: Reduces the target critics.
      backup: The value of the next state.
      discount: Gamma.
      exploration: Gives the weights w.
      terms: Additional losses.
      streams: How the loss's key is split.
    """
    reduce = checked(rule)

    def loss(params, state, batch, key):
        backup_key, weight_key, term_keys = streams(key, len(terms))
        following = policy(state, batch.next_observation)

        def next_q_of(action):
            return q(state.targets["critic"], batch.next_observation, action)

        entropy = "temperature" in state.params
        temperature = positive(state.params["temperature"]) if entropy else jnp.float32(0.0)
        value, next_q = backup(backup_key, following, next_q_of, reduce, temperature)
        y = target(batch, discount, value)
        weight = exploration.td_weight(
            weight_key, next_q, lambda key: next_q_of(following.sample(key)[0])
        )
        q_data = q(params, batch.observation, batch.action)
        if y.ndim == 2:
            y = own_part(params, y)
        total, metrics = temporal_difference(q_data, y, weight, _of_learners(params, batch))
        for term, term_key in zip(terms, term_keys):
            extra, about = term(params, state, batch, term_key, q_data)
            total, metrics = total + extra, {**metrics, **about}
        return total, metrics

    return loss


def _of_learners(params: Any, batch: Transition) -> Transition:
    """Return the batch with the masks of only those critics that learn in this update."""
    if "mask" not in batch.extras:
        return batch
    mask = jnp.swapaxes(own_part(params, jnp.swapaxes(batch.extras["mask"], 0, 1)), 0, 1)
    return batch._replace(extras={**batch.extras, "mask": mask})


def temporal_difference(
    q_data: Array, y: Array, weight: Array, batch: Transition
) -> tuple[Array, Metrics]:
    """Return the sum over critics of the batch mean of w (Q_i - y)^2, and the metrics of critics.

    Args:
      q_data: Q_i(s, a), [N, B].
      y: Targets, [B] or [N, B].
      weight: The weight of every transition, [B] or []; or also of every critic, [N, B].
      batch: Its "mask", if any, selects the critics that learn; each one's loss is then sum /
        (count + 1) (SUNRISE). "learns" selects the chunks to learn from; the mean is still over B.

    Raises:
      InputError: The weight has another shape.
    """
    if jnp.shape(weight) not in ((), q_data.shape[1:], q_data.shape):
        raise InputError(
            f"--exploration: td_weight returns {list(jnp.shape(weight))} for critics "
            f"{list(q_data.shape)}; it must return [B] or one number"
        )
    error = weight * jnp.square(q_data - y)
    if "learns" in batch.extras:
        error = batch.extras["learns"] * error
    if "mask" in batch.extras:
        mask = jnp.swapaxes(batch.extras["mask"], 0, 1)
        total = jnp.sum(jnp.sum(mask * error, axis=1) / (jnp.sum(mask, axis=1) + 1.0))
    else:
        total = jnp.sum(jnp.mean(error, axis=1))
    return total, {
        "td_loss": total,
        "q_data": jnp.mean(q_data),
        "q_std": jnp.mean(jnp.std(q_data, axis=0)),
        "target": jnp.mean(y),
        "weight": jnp.mean(weight),
    }
