"""AWAC (Nair et al. 2020): an actor that clones the data's actions by their advantage."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from enoto_jax import targets
from enoto_jax.algorithms import losses
from enoto_jax.core import Algorithm
from enoto_jax.exploration import Exploration, policy
from enoto_jax.nets.distributions import CLIPPED_NORMAL
from enoto_jax.nets.ensembles import ensemble
from enoto_jax.nets.initialisers import Init, torch_init
from enoto_jax.nets.networks import Critic, Gaussian, check_sizes
from enoto_jax.types import InputError, Spec, TargetRule


def awac(
    spec: Spec,
    *,
    n: int = 2,
    target: TargetRule | None = None,
    exploration: Exploration | None = None,
    actor_value: TargetRule | None = None,
    lam: float = 1.0 / 3.0,
    cap: float = 100.0,
    hidden: tuple[int, ...] = (256, 256, 256),
    layer_norm: bool = False,
    actor_init: Init | None = None,
    critic_init: Init | None = None,
    log_std_range: tuple[float, float] = (-20.0, 2.0),
    actor_rate: float = 3e-4,
    critic_rate: float = 3e-4,
    discount: float = 0.99,
    tau: float = 0.005,
) -> Algorithm:
    """L_pi = -mean min(exp(A / lambda), cap) log pi(a | s), A = Q(s, a) - Q(s, a~), a~ ~ pi (CORL).

    The critics are SAC's without entropy: y = r + discount (1 - terminated) target(Q(s2, a2)). The
    policy is a plain Gaussian whose samples are clipped to [-1, 1].

    Args:
      spec: sizes of observations and actions.
      n: N, the number of critics.
      target: rule that reduces the target critics; min_q by default.
      exploration: how to act online and weigh transitions; policy by default.
      actor_value: rule that reduces the critics in the advantage; min_q by default.
      lam: lambda: the smaller, the more the best actions count.
      cap: largest weight of an action.
      hidden: widths of the hidden layers of actor and critics.
      layer_norm: LayerNorm before each ReLU, in actor and critics.
      actor_init: how the actor starts; torch_init by default.
      critic_init: how the critics start; torch_init by default.
      log_std_range: bounds of the policy's log standard deviation.
      actor_rate: Adam's learning rate of the actor.
      critic_rate: Adam's learning rate of the critics.
      discount: gamma.
      tau: rate of the targets' Polyak average, per update.

    Raises:
      InputError: n or a width below 1, or lam not above 0.
    """
    check_sizes(n, hidden)
    if lam <= 0.0:
        raise InputError(f"awac: lam is {lam}; it must be above 0")
    exploration, hidden = exploration or policy(), tuple(hidden)
    target, actor_value = target or targets.min_q(), actor_value or targets.min_q()
    actor_net = Gaussian(
        spec.action_size,
        hidden,
        layer_norm,
        actor_init or torch_init(),
        tuple(log_std_range),
        bounded=False,
    )
    critic_net = ensemble(Critic(hidden, layer_norm, critic_init or torch_init()), n)

    def critic_loss(params, state, batch, key, seen):
        del seen
        sample_key, rule_key, weight_key = jax.random.split(key, 3)
        moments = actor_net.apply(state.params["actor"], batch.next_observation)

        def next_q_of(key):
            action, _ = CLIPPED_NORMAL.sample(key, *moments)
            return critic_net.apply(state.targets["critic"], batch.next_observation, action)

        next_q = next_q_of(sample_key)
        y = batch.reward + discount * (1.0 - batch.terminated) * target(rule_key, next_q)
        weight = exploration.td_weight(weight_key, next_q, next_q_of)
        q_data = critic_net.apply(params, batch.observation, batch.action)
        return losses.temporal_difference(q_data, y, weight, batch)

    def actor_loss(params, state, batch, key, seen):
        del seen
        sample_key, rule_key = jax.random.split(key)
        moments = actor_net.apply(params, batch.observation)
        action, _ = CLIPPED_NORMAL.sample(sample_key, *moments)

        def value(action):
            q = critic_net.apply(state.params["critic"], batch.observation, action)
            return actor_value(rule_key, q)

        advantage = value(batch.action) - jax.lax.stop_gradient(value(action))
        log_prob = CLIPPED_NORMAL.log_prob(*moments, batch.action)
        return losses.weighted_cloning(log_prob, advantage, 1.0 / lam, cap)

    def act(state, key, observation, k):
        moments = actor_net.apply(state.params["actor"], observation)
        return CLIPPED_NORMAL.sample(key, *moments, (k,))[0]

    def mode(state, observation):
        return CLIPPED_NORMAL.mode(actor_net.apply(state.params["actor"], observation)[0])

    observation = jnp.zeros((1, spec.observation_size))
    return Algorithm(
        nets={"actor": actor_net, "critic": critic_net},
        inputs={
            "actor": (observation,),
            "critic": (observation, jnp.zeros((1, spec.action_size))),
        },
        losses={"critic": critic_loss, "actor": actor_loss},
        optimisers={"actor": optax.adam(actor_rate), "critic": optax.adam(critic_rate)},
        tracked=("critic",),
        tau=tau,
        act=act,
        mode=mode,
        q=critic_net.apply,
        critics=n,
        exploration=exploration,
    )
