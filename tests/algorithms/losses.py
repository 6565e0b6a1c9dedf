"""Shared by the loss tests: sizes, comparisons, and the oracle's losses with draws from keys."""

import jax
import numpy as np

from enoto_jax import targets
from tests.oracle import reference

KEY = jax.random.key(11)
B, N, K, D, A = 6, 4, 5, 3, 2
SHAPE = {"n": N, "hidden": (8, 7), "discount": 0.9}
GAMMA = SHAPE["discount"]


def close(actual, expected, tolerance=1e-5):
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=1e-6)


def loss_of(algorithm, name, state, batch, key=KEY, seen=None):
    if name in algorithm.duals:
        return algorithm.duals[name](state.params[name], seen)
    return algorithm.losses[name](state.params[name], state, batch, key)


def along(exact, name, loss, direction, step=1e-6):
    """The oracle's derivative along a direction of one network's parameters."""

    def at(sign):
        moved = jax.tree.map(lambda x, d: x + sign * step * d, exact.params[name], direction)
        return loss(exact.replace(params={**exact.params, name: moved}))

    return (at(1) - at(-1)) / (2 * step)


def reads(algorithm, state, name, batch):
    """The state's networks that the loss depends on, apart from its own parameters."""

    def value(params, targets, frozen):
        moved = state.replace(params=params, targets=targets, frozen=frozen)
        return algorithm.losses[name](state.params[name], moved, batch, KEY)[0]

    parts = jax.grad(value, (0, 1, 2))(state.params, state.targets, state.frozen)
    named = {
        f"{part}.{k}": v
        for part, tree in zip(("params", "targets", "frozen"), parts)
        for k, v in tree.items()
    }
    return {k for k, v in named.items() if any(np.any(leaf) for leaf in jax.tree.leaves(v))}


# The oracle's side: policies, rules, backups and losses from float64 states and from keys.


def alpha_of(state):
    return np.exp(state.params["temperature"]["params"]["value"])


def noise(key, *shape):
    return np.asarray(jax.random.normal(key, shape), np.float64)


def policy_sample(state, observation, key, lead=()):
    mean, log_std = reference.mlp_actor(state.params["actor"], observation)
    return reference.tanh_normal(mean, log_std, noise(key, *lead, B, A))


def each_candidate(tree, observation, actions):
    """Values [N, K, B] of K candidates [K, B, A]."""
    return np.stack([reference.critics(tree, observation, a) for a in actions], axis=1)


def uniform(key, *shape):
    return np.asarray(jax.random.uniform(key, shape), np.float64)


def pair(key):
    return np.asarray(jax.random.choice(key, N, (2,), replace=False))


# Name -> our rule, and the oracle's as a function of (key, q).
RULES = {
    "min_q": (targets.min_q(), lambda key, q: reference.min_q(q)),
    "mean_q": (targets.mean_q(), lambda key, q: reference.mean_q(q)),
    "rem": (targets.rem(), lambda key, q: reference.rem(q, uniform(key, N, 1)[:, 0])),
    "rem_per_sample": (
        targets.rem(per_sample=True),
        lambda key, q: reference.rem(q, uniform(key, *q.shape)),
    ),
    "random_min_pair": (
        targets.random_min_pair(),
        lambda key, q: reference.random_min(q, pair(key)),
    ),
    "weighted_min_pair": (
        targets.weighted_min_pair(),
        lambda key, q: reference.weighted_min_pair(q),
    ),
    "independent": (targets.independent(), lambda key, q: reference.independent(q, 1)),
    "pairs": (targets.independent(group=2), lambda key, q: reference.independent(q, 2)),
    "mix": (targets.mix(k=0.6), lambda key, q: reference.mix(q, 0.6)),
}


def soft_target(state, data, key, rule, alpha):
    """y and the target critics' values at the sampled next action."""
    sample_key, rule_key = jax.random.split(key)
    action, log_prob = policy_sample(state, data.next_observation, sample_key)
    next_q = reference.critics(state.targets["critic"], data.next_observation, action)
    value = rule(rule_key, next_q)
    y = reference.sac_target(data.reward, data.terminated, GAMMA, value, alpha, log_prob)
    return y, next_q


def deterministic_target(state, data, key, rule):
    return reference.deterministic_backup(
        state.params["actor"],
        state.targets["critic"],
        data.reward,
        data.terminated,
        GAMMA,
        data.next_observation,
        lambda q: rule(key, q),
    )


def q_data(state, data):
    return reference.critics(state.params["critic"], data.observation, data.action)


def oracle_actor_loss(exact, data, reduce="min"):
    action, log_prob = policy_sample(exact, data.observation, jax.random.split(KEY)[0])
    q = reference.critics(exact.params["critic"], data.observation, action)
    return reference.actor_loss(alpha_of(exact), log_prob, q, reduce)


def oracle_temperature_loss(exact, data, form, per_action):
    _, log_prob = policy_sample(exact, data.observation, KEY)
    value = exact.params["temperature"]["params"]["value"]
    return reference.temperature_loss(value, log_prob, per_action * A, form)


def penalty_inputs(exact, data, key):
    """Values and log densities of the candidates, drawn with the term's key."""
    uniform_key, current_key, next_key = jax.random.split(key, 3)
    draws = jax.random.uniform(uniform_key, (K, B, A), minval=-1.0, maxval=1.0)
    critic = exact.params["critic"]
    found = {"q_data": q_data(exact, data), "action_size": A}
    found["q_random"] = each_candidate(critic, data.observation, np.asarray(draws, np.float64))
    for name, source_key, observation in (
        ("current", current_key, data.observation),
        ("next", next_key, data.next_observation),
    ):
        actions, log_prob = policy_sample(exact, observation, source_key, (K,))
        found[f"q_{name}"] = each_candidate(critic, data.observation, actions)
        found[f"log_prob_{name}"] = log_prob
    return found


def oracle_cql_loss(exact, data, weight, **options):
    """CQL's critic loss with its deterministic backup, each critic's gap, and the TD loss."""
    backup_key, _, term_key = jax.random.split(KEY, 3)
    y = deterministic_target(exact, data, backup_key, RULES["min_q"][1])
    penalty, gaps = reference.cql_penalty(**penalty_inputs(exact, data, term_key), **options)
    td_loss = reference.critic_loss(q_data(exact, data), y)
    return td_loss + weight * penalty, gaps, td_loss
