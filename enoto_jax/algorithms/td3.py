"""TD3 with N critics (Fujimoto et al. 2018), and TD3+BC, which also clones the data's actions."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from enoto_jax import targets
from enoto_jax.algorithms import losses
from enoto_jax.core import Algorithm
from enoto_jax.exploration import Exploration, gaussian
from enoto_jax.nets.ensembles import ensemble
from enoto_jax.nets.initialisers import Init, torch_init
from enoto_jax.nets.networks import Critic, Deterministic, check_sizes
from enoto_jax.types import Array, InputError, LossFn, Spec, TargetRule

ActFn = Callable[[object, Array], Array]  # (actor params, observation) -> action


def smoothed_critic(
    q: losses.QFn,
    actor: ActFn,
    target: TargetRule,
    noise: float,
    clip: float,
    discount: float,
    exploration: Exploration,
) -> LossFn:
    """Sum over critics of mean_B w (Q_i(s, a) - y)^2, y = r + discount (1 - terminated) Q(s2, a2).

    Q is the rule's value; a2 the target actor's action plus clipped noise, clipped again (TD3).
    """

    def loss(params, state, batch, key, seen):
        del seen
        noise_key, rule_key, weight_key = jax.random.split(key, 3)
        chosen = actor(state.targets["actor"], batch.next_observation)

        def next_q_of(key):
            change = jnp.clip(noise * jax.random.normal(key, chosen.shape), -clip, clip)
            action = jnp.clip(chosen + change, -1.0, 1.0)
            return q(state.targets["critic"], batch.next_observation, action)

        next_q = next_q_of(noise_key)
        y = batch.reward + discount * (1.0 - batch.terminated) * target(rule_key, next_q)
        weight = exploration.td_weight(weight_key, next_q, next_q_of)
        q_data = q(params, batch.observation, batch.action)
        return losses.temporal_difference(q_data, y, weight, batch)

    return loss


def deterministic_actor(
    q: losses.QFn, actor: ActFn, reduce: TargetRule, alpha: float | None
) -> LossFn:
    """-lambda mean_B reduce(Q(s, pi(s))) + mean_{B, A} (pi(s) - a)^2 (TD3+BC, equations 3 to 5).

    lambda = alpha / mean_B |reduce(Q(s, pi(s)))|, a constant to the gradient. Without alpha there
    is no second term and lambda is 1: TD3.
    """

    def loss(params, state, batch, key, seen):
        del seen
        action = actor(params, batch.observation)
        value = reduce(key, q(state.params["critic"], batch.observation, action))
        gain = jnp.mean(value)
        if alpha is None:
            return -gain, {"q_policy": gain}
        factor = jax.lax.stop_gradient(alpha / jnp.mean(jnp.abs(value)))
        cloning = jnp.mean(jnp.square(action - batch.action))
        return cloning - factor * gain, {"q_policy": gain, "bc": cloning, "lambda": factor}

    return loss


def td3(
    spec: Spec,
    *,
    n: int = 2,
    target: TargetRule | None = None,
    exploration: Exploration | None = None,
    actor_value: TargetRule | None = None,
    alpha: float | None = None,
    policy_noise: float = 0.2,
    noise_clip: float = 0.5,
    candidate_noise: float = 0.1,
    delay: int = 2,
    hidden: tuple[int, ...] = (256, 256),
    layer_norm: bool = False,
    actor_layer_norm: bool = False,
    actor_init: Init | None = None,
    critic_init: Init | None = None,
    actor_rate: float = 3e-4,
    critic_rate: float = 3e-4,
    discount: float = 0.99,
    tau: float = 0.005,
) -> Algorithm:
    """TD3 (Fujimoto et al. 2018) over an ensemble: L_Q = sum_i mean_B w (Q_i - y)^2.

    Args:
      spec: sizes of observations and actions.
      n: N, the number of critics.
      target: rule that reduces the target critics; min_q by default.
      exploration: how to act online and weigh transitions; gaussian by default.
      actor_value: rule that reduces the critics in the actor's loss; first_q by default.
      alpha: weight of that value, in units of its mean size, beside the squared distance to the
        data's actions; None clones nothing (TD3).
      policy_noise: standard deviation of the noise on the target actor's action.
      noise_clip: bound of that noise.
      candidate_noise: standard deviation of the noise on sampled actions, SUNRISE's candidates.
      delay: the actor and all targets move in every so many-th update.
      hidden: widths of the hidden layers of actor and critics.
      layer_norm: LayerNorm before each ReLU of the critics.
      actor_layer_norm: the same in the actor.
      actor_init: how the actor starts; torch_init by default.
      critic_init: how the critics start; torch_init by default.
      actor_rate: Adam's learning rate of the actor.
      critic_rate: Adam's learning rate of the critics.
      discount: gamma.
      tau: rate of the targets' Polyak average, each time they move.

    Raises:
      InputError: n, a width or the delay below 1.
    """
    check_sizes(n, hidden)
    if delay < 1:
        raise InputError(f"delay is {delay}; the actor moves in every so many-th update, 1 or more")
    hidden = tuple(hidden)
    actor_net = Deterministic(
        spec.action_size, hidden, actor_layer_norm, actor_init or torch_init()
    )
    critic_net = ensemble(Critic(hidden, layer_norm, critic_init or torch_init()), n)
    q, actor = critic_net.apply, actor_net.apply
    exploration = exploration or gaussian()
    target, actor_value = target or targets.min_q(), actor_value or targets.first_q()

    def act(state, key, observation, k):
        chosen = actor(state.params["actor"], observation)
        noise = candidate_noise * jax.random.normal(key, (k, *chosen.shape))
        return jnp.clip(chosen + noise, -1.0, 1.0)

    def mode(state, observation):
        return actor(state.params["actor"], observation)

    observation = jnp.zeros((1, spec.observation_size))
    return Algorithm(
        nets={"actor": actor_net, "critic": critic_net},
        inputs={
            "actor": (observation,),
            "critic": (observation, jnp.zeros((1, spec.action_size))),
        },
        losses={
            "critic": smoothed_critic(
                q, actor, target, policy_noise, noise_clip, discount, exploration
            ),
            "actor": deterministic_actor(q, actor, actor_value, alpha),
        },
        optimisers={"actor": optax.adam(actor_rate), "critic": optax.adam(critic_rate)},
        tracked=("actor", "critic"),
        tau=tau,
        act=act,
        mode=mode,
        q=q,
        critics=n,
        exploration=exploration,
        delays={"actor": delay, "targets": delay},
    )


def td3_bc(spec: Spec, *, alpha: float = 2.5, **options) -> Algorithm:
    """TD3+BC (Fujimoto & Gu 2021): TD3 that also clones; every other option is td3's.

    Args:
      spec: sizes of observations and actions.
      alpha: weight of the critics' value, in units of its mean size, beside the squared distance
        to the data's actions.
      **options: see td3.
    """
    return td3(spec, alpha=alpha, **options)


td3_bc.extends = td3  # where `options` are described
