"""Soft actor-critic with N critics: SAC (N = 2), SAC-N, and the online phase of ENOTO."""

from __future__ import annotations

import jax.numpy as jnp
import optax

from enoto_jax import targets
from enoto_jax.algorithms import backups, losses
from enoto_jax.core import Algorithm
from enoto_jax.exploration import Exploration, policy
from enoto_jax.nets import distributions
from enoto_jax.nets.ensembles import ensemble
from enoto_jax.nets.initialisers import Init, torch_init
from enoto_jax.nets.networks import Critic, Mixture, Scalar, TanhGaussian, check_sizes
from enoto_jax.types import InputError, Spec, TargetRule

ORDERS = {
    "temperature,critic,actor": ("temperature", "critic", "actor"),  # d3rlpy, hence ENOTO
    "temperature,actor,critic": ("temperature", "actor", "critic"),  # CORL, EDAC-code
    "critic,actor,temperature": ("critic", "actor", "temperature"),  # RLPD, WSRL
}


def sac(
    spec: Spec,
    *,
    n: int = 2,
    target: TargetRule | None = None,
    exploration: Exploration | None = None,
    backup: backups.Backup | None = None,
    actor_value: TargetRule | None = None,
    terms: tuple = (),
    policies: int = 1,
    hidden: tuple[int, ...] = (256, 256, 256),
    critic_hidden: tuple[int, ...] | None = None,
    layer_norm: bool = False,
    actor_layer_norm: bool = False,
    actor_init: Init | None = None,
    critic_init: Init | None = None,
    log_std_range: tuple[float, float] = (-20.0, 2.0),
    actor_rate: float = 3e-4,
    critic_rate: float = 3e-4,
    temperature_rate: float = 3e-4,
    initial_temperature: float = 1.0,
    temperature_of_logarithm: bool = False,
    target_entropy_per_action: float = -1.0,
    discount: float = 0.99,
    tau: float = 0.005,
    order: str = "temperature,critic,actor",
    actor_delay: int = 1,
) -> Algorithm:
    """SAC (Haarnoja et al. 2018) over an ensemble: L_Q = sum_i mean_B w (Q_i - y)^2.

    Args:
      spec: sizes of observations and actions.
      n: N, the number of critics.
      target: rule that reduces the target critics; min_q by default.
      exploration: how to act online and weigh transitions; policy by default.
      backup: value of the next state; soft (with entropy) by default.
      actor_value: rule that reduces the critics in the actor's loss; min_q by default.
      terms: further losses on the critics, e.g. cql_penalty.
      policies: Gaussians that the policy is the matched mixture of; 1 is plain SAC.
      hidden: widths of the hidden layers of actor and critics.
      critic_hidden: widths of the critics' hidden layers where they differ from the actor's.
      layer_norm: LayerNorm before each ReLU of the critics.
      actor_layer_norm: the same in the actor.
      actor_init: how the actor starts; torch_init by default.
      critic_init: how the critics start; torch_init by default.
      log_std_range: bounds of the policy's log standard deviation.
      actor_rate: Adam's learning rate of the actor.
      critic_rate: Adam's learning rate of the critics.
      temperature_rate: Adam's learning rate of the temperature's logarithm.
      initial_temperature: the entropy's weight at the start.
      temperature_of_logarithm: loss on log(temperature) (CORL) instead of the temperature (d3rlpy).
      target_entropy_per_action: target entropy divided by A.
      discount: gamma.
      tau: rate of the targets' Polyak average, per update.
      order: order of the networks' steps in an update: temperature,critic,actor (d3rlpy),
        temperature,actor,critic (CORL) or critic,actor,temperature (RLPD).
      actor_delay: actor and temperature move in the last of every so many updates; as many as the
        online phase's utd: once per environment step (RLPD, WSRL).

    Raises:
      InputError: n, a width or actor_delay below 1, or an unknown order.
    """
    check_sizes(n, hidden)
    if order not in ORDERS:
        raise InputError(f"order is {order!r}; choose one of {', '.join(map(repr, ORDERS))}")
    if actor_delay < 1:
        raise InputError(f"actor_delay is {actor_delay}; it must be at least 1")
    hidden, critic_hidden = tuple(hidden), tuple(critic_hidden or hidden)
    check_sizes(n, critic_hidden)
    exploration = exploration or policy()
    actor_net = TanhGaussian(
        spec.action_size,
        hidden,
        actor_layer_norm,
        actor_init or torch_init(),
        tuple(log_std_range),
    )
    if policies > 1:
        actor_net = Mixture(ensemble(actor_net, policies))
    critic_net = ensemble(Critic(critic_hidden, layer_norm, critic_init or torch_init()), n)
    losses_of = {
        "temperature": losses.temperature(
            actor_net.apply, target_entropy_per_action * spec.action_size, temperature_of_logarithm
        ),
        "critic": losses.critic(
            critic_net.apply,
            actor_net.apply,
            target or targets.min_q(),
            backup or backups.soft(),
            discount,
            exploration,
            tuple(term(critic_net.apply, actor_net.apply, spec, critic_net.each) for term in terms),
        ),
        "actor": losses.soft_actor(
            critic_net.apply, actor_net.apply, actor_value or targets.min_q()
        ),
    }

    def act(state, key, observation, k):
        moments = actor_net.apply(state.params["actor"], observation)
        return distributions.sample(key, *moments, (k,))[0]

    def mode(state, observation):
        return distributions.mode(actor_net.apply(state.params["actor"], observation)[0])

    def moments(state, observation):
        mean, log_std = actor_net.apply(state.params["actor"], observation)
        return mean, jnp.exp(log_std)

    observation = jnp.zeros((1, spec.observation_size))
    return Algorithm(
        nets={
            "actor": actor_net,
            "critic": critic_net,
            "temperature": Scalar(float(jnp.log(initial_temperature))),
        },
        inputs={
            "actor": (observation,),
            "critic": (observation, jnp.zeros((1, spec.action_size))),
            "temperature": (),
        },
        losses={name: losses_of[name] for name in ORDERS[order]},
        optimisers={
            "actor": optax.adam(actor_rate),
            "critic": optax.adam(critic_rate),
            "temperature": optax.adam(temperature_rate),
        },
        tracked=("critic",),
        tau=tau,
        act=act,
        mode=mode,
        q=critic_net.apply,
        moments=moments,
        critics=n,
        exploration=exploration,
        delays={"actor": actor_delay, "temperature": actor_delay},
    )
