"""Implicit Q-learning (Kostrikov et al. 2022): nothing is learned from actions outside the data."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from enoto_jax import targets
from enoto_jax.algorithms import losses
from enoto_jax.core import Algorithm
from enoto_jax.exploration import Exploration, policy
from enoto_jax.nets import distributions
from enoto_jax.nets.ensembles import ensemble
from enoto_jax.nets.initialisers import Init, orthogonal_init
from enoto_jax.nets.networks import Critic, Gaussian, Value, check_sizes
from enoto_jax.types import InputError, Spec, TargetRule


def iql(
    spec: Spec,
    *,
    n: int = 2,
    target: TargetRule | None = None,
    exploration: Exploration | None = None,
    expectile: float = 0.7,
    beta: float = 3.0,
    cap: float = 100.0,
    squashed: bool = False,
    hidden: tuple[int, ...] = (256, 256),
    layer_norm: bool = False,
    actor_init: Init | None = None,
    critic_init: Init | None = None,
    log_std_range: tuple[float, float] = (-5.0, 2.0),
    actor_rate: float = 3e-4,
    critic_rate: float = 3e-4,
    value_rate: float = 3e-4,
    decay_steps: int | None = None,
    discount: float = 0.99,
    tau: float = 0.005,
) -> Algorithm:
    """V is an upper expectile of Q over the data's actions, and Q bootstraps from V (IQL-code).

    With u = target(Q_target(s, a)) - V(s): L_V = mean |expectile - 1(u <= 0)| u^2;
    L_Q = sum_i mean_B w (Q_i - y)^2 with y = r + discount (1 - terminated) V(s2);
    L_pi = -mean min(exp(beta u), cap) log pi(a | s). In that order V, pi, Q.

    Args:
      spec: sizes of observations and actions.
      n: N, the number of critics.
      target: rule that reduces the target critics, in V's regression and in the advantage; min_q
        by default.
      exploration: how to act online and weigh transitions; policy by default.
      expectile: of Q that V estimates: 0.5 is the mean, 1 the maximum.
      beta: inverse temperature: the larger, the more the best actions count.
      cap: largest weight of an action.
      squashed: a tanh-squashed Gaussian (d3rlpy) instead of a plain one with its mean in [-1, 1]
        whose samples are clipped (the authors').
      hidden: widths of the hidden layers of all networks.
      layer_norm: LayerNorm before each ReLU, in all networks.
      actor_init: how the actor starts; orthogonal with gain sqrt(2), heads too, by default.
      critic_init: how the critics and V start; the same by default.
      log_std_range: bounds of the policy's log standard deviation.
      actor_rate: Adam's learning rate of the actor, at the start.
      critic_rate: Adam's learning rate of the critics.
      value_rate: Adam's learning rate of V.
      decay_steps: updates after which a cosine has taken the actor's rate to 0; None: constant.
        Give the phase's steps where they are not the default's.
      discount: gamma.
      tau: rate of the targets' Polyak average, per update.

    Raises:
      InputError: n, a width or decay_steps below 1, or an expectile outside (0, 1).
    """
    check_sizes(n, hidden)
    if not 0.0 < expectile < 1.0:
        raise InputError(f"iql: expectile is {expectile}; it lies between 0 and 1")
    if decay_steps is not None and decay_steps < 1:
        raise InputError(f"iql: decay_steps is {decay_steps}; give at least 1, or None")
    exploration, hidden = exploration or policy(), tuple(hidden)
    target = target or targets.min_q()
    start = orthogonal_init(head_gain=2**0.5)
    actor_net = Gaussian(
        spec.action_size,
        hidden,
        layer_norm,
        actor_init or start,
        tuple(log_std_range),
        bounded=not squashed,
    )
    critic_net = ensemble(Critic(hidden, layer_norm, critic_init or start), n)
    value_net = Value(hidden, layer_norm, critic_init or start)
    family = distributions.TANH_NORMAL if squashed else distributions.CLIPPED_NORMAL

    def q_of_data(state, batch, key):
        q = critic_net.apply(state.targets["critic"], batch.observation, batch.action)
        return target(key, q)

    def values(state, batch):
        """V after its step, at both states: [2, B]; pi and Q share the one pass."""
        both = jnp.stack([batch.observation, batch.next_observation])
        return value_net.apply(state.params["value"], both)

    def value_loss(params, state, batch, key, seen):
        del seen
        u = q_of_data(state, batch, key) - value_net.apply(params, batch.observation)
        weight = jnp.where(u > 0.0, expectile, 1.0 - expectile)
        return jnp.mean(weight * jnp.square(u)), {"advantage": jnp.mean(u)}

    def actor_loss(params, state, batch, key, seen):
        del seen
        u = q_of_data(state, batch, key) - values(state, batch)[0]
        log_prob = family.log_prob(*actor_net.apply(params, batch.observation), batch.action)
        return losses.weighted_cloning(log_prob, u, beta, cap)

    def critic_loss(params, state, batch, key, seen):
        del seen
        sample_key, weight_key = jax.random.split(key)
        y = batch.reward + discount * (1.0 - batch.terminated) * values(state, batch)[1]

        def next_q_of(key):
            moments = actor_net.apply(state.params["actor"], batch.next_observation)
            action, _ = family.sample(key, *moments)
            return critic_net.apply(state.targets["critic"], batch.next_observation, action)

        # The bootstrap is V, so these critics serve the weight alone; XLA drops them without one.
        weight = exploration.td_weight(weight_key, next_q_of(sample_key), next_q_of)
        q_data = critic_net.apply(params, batch.observation, batch.action)
        return losses.temporal_difference(q_data, y, weight, batch)

    def act(state, key, observation, k):
        return family.sample(key, *actor_net.apply(state.params["actor"], observation), (k,))[0]

    def mode(state, observation):
        return family.mode(actor_net.apply(state.params["actor"], observation)[0])

    def moments(state, observation):
        mean, log_std = actor_net.apply(state.params["actor"], observation)
        return mean, jnp.exp(log_std)

    # A schedule also where the rate is constant, so that both phases' optimisers look alike.
    rate = (
        optax.constant_schedule(actor_rate)
        if decay_steps is None
        else optax.cosine_decay_schedule(actor_rate, decay_steps)
    )
    observation = jnp.zeros((1, spec.observation_size))
    return Algorithm(
        nets={"actor": actor_net, "critic": critic_net, "value": value_net},
        inputs={
            "actor": (observation,),
            "critic": (observation, jnp.zeros((1, spec.action_size))),
            "value": (observation,),
        },
        losses={"value": value_loss, "actor": actor_loss, "critic": critic_loss},
        optimisers={
            "actor": optax.adam(rate),
            "critic": optax.adam(critic_rate),
            "value": optax.adam(value_rate),
        },
        tracked=("critic",),
        tau=tau,
        act=act,
        mode=mode,
        q=critic_net.apply,
        moments=moments if squashed else None,
        critics=n,
        exploration=exploration,
    )
