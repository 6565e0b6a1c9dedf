"""TD3 with N critics (Fujimoto et al. 2018), and TD3+BC, which also clones the data's actions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from enoto_jax.algorithms import bellman
from enoto_jax.algorithms.bellman import PolicyFn, QFn, Reduce
from enoto_jax.core import Algorithm, AlgorithmConfig
from enoto_jax.exploration import Exploration, gaussian
from enoto_jax.nets.distributions import Smoothed
from enoto_jax.nets.ensembles import ensemble
from enoto_jax.nets.initialisers import Init, torch_init
from enoto_jax.nets.networks import Critic, Deterministic, check_sizes
from enoto_jax.targets import TargetRule, first_q, min_q
from enoto_jax.types import Array, InputError, LossFn, Spec

ActFn = Callable[[object, Array], Array]  # (actor params, observation) -> action


def deterministic_actor(
    q: QFn, actor: ActFn, reduce: Reduce, alpha: float | None, cloning: bool = True
) -> LossFn:
    """-lambda mean_B reduce(Q(s, pi(s))) + mean_{B, A} (pi(s) - a)^2 (TD3+BC, equations 3 to 5).

    lambda = alpha / mean_B |reduce(Q(s, pi(s)))|, a constant for the gradient. Without alpha there
    is no second term and lambda is 1: TD3. Without cloning there is no second term either, but
    lambda stays, so that the gradient keeps its size.
    """

    def loss(params, state, batch, key):
        action = actor(params, batch.observation)
        value = reduce(key, q(state.params["critic"], batch.observation, action))
        gain = jnp.mean(value)
        if alpha is None:
            return -gain, {"q_policy": gain}
        factor = jax.lax.stop_gradient(alpha / jnp.mean(jnp.abs(value)))
        if not cloning:
            return -factor * gain, {"q_policy": gain, "lambda": factor}
        distance = jnp.mean(jnp.square(action - batch.action))
        return distance - factor * gain, {"q_policy": gain, "bc": distance, "lambda": factor}

    return loss


class DeterministicConfig(AlgorithmConfig):
    """Options of TD3 and its descendants: a deterministic actor, with smoothing in the target."""

    n: Annotated[int, "N, the number of critics."] = 2
    target: Annotated[TargetRule, "rule that reduces the target critics."] = min_q()
    exploration: Annotated[Exploration, "how to act online and weight transitions."] = gaussian()
    actor_value: Annotated[TargetRule, "rule that reduces the critics in the actor's loss."] = (
        first_q()
    )
    policy_noise: Annotated[
        float, "standard deviation of the noise on the target actor's action."
    ] = 0.2
    noise_clip: Annotated[float, "bound of the noise on the target actor's action."] = 0.5
    candidate_noise: Annotated[
        float, "standard deviation of the noise on sampled actions, SUNRISE's candidates."
    ] = 0.1
    delay: Annotated[int, "update the actor and all targets once every `delay` updates."] = 2
    hidden: Annotated[tuple[int, ...], "widths of the hidden layers of actor and critics."] = (
        256,
        256,
    )
    layer_norm: Annotated[bool, "LayerNorm before each ReLU of the critics."] = False
    actor_layer_norm: Annotated[bool, "LayerNorm before each ReLU of the actor."] = False
    actor_init: Annotated[Init, "how the actor starts."] = torch_init()
    critic_init: Annotated[Init, "how the critics start."] = torch_init()
    actor_rate: Annotated[float, "Adam's learning rate of the actor."] = 3e-4
    critic_rate: Annotated[float, "Adam's learning rate of the critics."] = 3e-4
    discount: Annotated[float, "gamma."] = 0.99
    tau: Annotated[float, "rate of the targets' Polyak average, each time they move."] = 0.005

    def networks(self, spec: Spec) -> tuple[nn.Module, nn.Module]:
        """Return the actor and one critic."""
        raise NotImplementedError

    def losses(self, q: QFn, actor: ActFn, smoothed: PolicyFn) -> Mapping[str, LossFn]:
        """Return the critics' loss and the actor's, in the order of their steps.

        Args:
          q: The critics.
          actor: (actor params, observation) -> action.
          smoothed: (state, observation) -> the target actor's action and its noise.
        """
        raise NotImplementedError

    def build(self, spec: Spec) -> Algorithm:
        """See the base class.

        Raises:
          InputError: n, a width or the delay is below 1, or other options cannot work.
        """
        check_sizes(self.n, self.hidden)
        if self.delay < 1:
            raise InputError(
                f"delay is {self.delay}; the actor moves every `delay` updates: give at least 1"
            )
        actor_net, critic = self.networks(spec)
        critic_net = ensemble(critic, self.n)
        q, actor = critic_net.apply, actor_net.apply

        def smoothed(state, observation):
            chosen = actor(state.targets["actor"], observation)
            return Smoothed(chosen, self.policy_noise, self.noise_clip)

        def act(state, key, observation, k):
            chosen = actor(state.params["actor"], observation)
            return Smoothed(chosen, self.candidate_noise, jnp.inf).sample(key, (k,))[0]

        def mode(state, observation):
            return actor(state.params["actor"], observation)

        observation = jnp.zeros((1, spec.observation_size))
        action = jnp.zeros((1, spec.action_size))
        return Algorithm(
            nets={"actor": actor_net, "critic": critic_net},
            inputs={"actor": (observation,), "critic": (observation, action)},
            losses=self.losses(q, actor, smoothed),
            optimisers={
                "actor": optax.adam(self.actor_rate),
                "critic": optax.adam(self.critic_rate),
            },
            tracked=("actor", "critic"),
            tau=self.tau,
            act=act,
            mode=mode,
            q=q,
            critics=self.n,
            exploration=self.exploration,
            delays={"actor": self.delay, "targets": self.delay},
        )


class td3(DeterministicConfig):
    """TD3 (Fujimoto et al. 2018) over an ensemble: L_Q = sum_i mean_B w (Q_i - y)^2."""

    alpha: Annotated[
        float | None,
        "weight of the critics' value, divided by its mean size, against the squared distance to "
        "the data's actions; None: no cloning (TD3).",
    ] = None
    cloning: Annotated[
        bool, "add the squared distance; without it, alpha only scales the gradient."
    ] = True

    def networks(self, spec: Spec) -> tuple[nn.Module, nn.Module]:
        hidden = tuple(self.hidden)
        return (
            Deterministic(spec.action_size, hidden, self.actor_layer_norm, self.actor_init),
            Critic(hidden, self.layer_norm, self.critic_init),
        )

    def losses(self, q: QFn, actor: ActFn, smoothed: PolicyFn) -> Mapping[str, LossFn]:
        return {
            "critic": bellman.critic_loss(
                q,
                smoothed,
                self.target,
                bellman.sampled(),
                self.discount,
                self.exploration,
                streams=bellman.flat,
            ),
            "actor": deterministic_actor(
                q, actor, bellman.checked(self.actor_value), self.alpha, self.cloning
            ),
        }


class td3_bc(td3):
    """TD3+BC (Fujimoto & Gu 2021): TD3 that also clones."""

    alpha: Annotated[
        float | None,
        "weight of the critics' value, divided by its mean size, against the squared distance to "
        "the data's actions.",
    ] = 2.5
