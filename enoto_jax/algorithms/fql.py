"""FQL with N critics (Park et al. 2025): a flow clones the data; one step imitates it, climbing Q.

The behaviour-cloning flow is integrated by Euler steps. The policy that acts is a separate network,
which maps noise to an action in one step. It is trained towards the flow's action for the same
noise, and towards larger values of the critics.
"""

from __future__ import annotations

from typing import Annotated

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from enoto_jax.algorithms import bellman
from enoto_jax.algorithms.bellman import Backup, PolicyFn, QFn, Reduce
from enoto_jax.algorithms.chunking import check_chunk, chunk_of, chunked
from enoto_jax.algorithms.schedules import check_falling, falling
from enoto_jax.core import Algorithm, AlgorithmConfig, acting_by
from enoto_jax.exploration import Exploration, policy
from enoto_jax.nets.distributions import Pushed
from enoto_jax.nets.ensembles import ensemble
from enoto_jax.nets.flow import (
    ACTIVATIONS,
    NormLastCritic,
    Unbounded,
    VelocityFn,
    integrate,
)
from enoto_jax.nets.initialisers import Init, xavier_init
from enoto_jax.nets.networks import check_sizes
from enoto_jax.targets import TargetRule, mean_q
from enoto_jax.types import Array, InputError, LossFn, Spec, check_choice, check_positive


def flow_loss(velocity: VelocityFn) -> LossFn:
    """mean_{B, A} (v(s, (1 - t) x0 + t a, t) - (a - x0))^2: conditional flow matching.

    a are the data's actions, x0 ~ N(0, I), and t ~ U(0, 1) per row. Invalid steps of a chunk do not
    count; the mean is still over all steps.
    """

    def loss(params, state, batch, key):
        noise_key, time_key = jax.random.split(key)
        noise = jax.random.normal(noise_key, batch.action.shape)
        time = jax.random.uniform(time_key, (*batch.reward.shape, 1))
        between = (1.0 - time) * noise + time * batch.action
        wrong = velocity(params, batch.observation, between, time) - (batch.action - noise)
        if (valid := batch.extras.get("valid")) is not None:
            wrong = wrong * jnp.repeat(valid, wrong.shape[-1] // valid.shape[-1], axis=-1)
        return jnp.mean(jnp.square(wrong)), {}

    return loss


class FlowConfig(AlgorithmConfig):
    """Options of algorithms whose actions, or chunks of them, come from a flow."""

    n: Annotated[int, "N, the number of critics."] = 2
    target: Annotated[TargetRule, "rule that reduces the target critics."] = mean_q()
    exploration: Annotated[Exploration, "how to act online and weight transitions."] = policy()
    actor_value: Annotated[TargetRule, "rule that reduces the critics in the actor's loss."] = (
        mean_q()
    )
    backup: Annotated[Backup, "value of the next state."] = bellman.sampled()
    chunk: Annotated[
        int, "h, how many actions are chosen together and executed one after another."
    ] = 1
    returns: Annotated[
        int, "n of the n-step return in the critics' target, for single actions (chunk = 1)."
    ] = 1
    whole_chunks: Annotated[
        bool,
        "critics learn only from chunks of h recorded steps, as in the authors' code; otherwise "
        "also from chunks in which the episode terminates early.",
    ] = False
    flow_steps: Annotated[int, "Euler steps from noise to the flow's action."] = 10
    hidden: Annotated[tuple[int, ...], "widths of the hidden layers of all networks."] = (
        512,
        512,
        512,
        512,
    )
    activation: Annotated[str, "activation of the hidden layers, relu or gelu."] = "gelu"
    layer_norm: Annotated[bool, "LayerNorm after each activation of the critics."] = True
    actor_layer_norm: Annotated[
        bool, "LayerNorm after each activation of the actor's networks."
    ] = False
    init: Annotated[Init, "how all networks start."] = xavier_init()
    flow_rate: Annotated[float, "Adam's learning rate of the flow."] = 3e-4
    critic_rate: Annotated[float, "Adam's learning rate of the critics."] = 3e-4
    discount: Annotated[float, "gamma."] = 0.99
    tau: Annotated[float, "rate of the targets' Polyak average."] = 0.005
    simultaneous: Annotated[
        bool,
        "compute all gradients at the parameters before the update, which the targets then follow, "
        "as in the authors' code; otherwise update the networks one after another.",
    ] = False

    def _check(self) -> None:
        check_sizes(self.n, self.hidden)
        check_chunk(self.chunk, self.returns)
        check_choice("activation", self.activation, ACTIVATIONS)
        check_positive("flow_steps", self.flow_steps)

    def _actor(self, action_size: int) -> Unbounded:
        return Unbounded(
            action_size,
            tuple(self.hidden),
            self.actor_layer_norm,
            self.init,
            activation=self.activation,
        )

    def _critics(self) -> nn.Module:
        critic = NormLastCritic(
            tuple(self.hidden), self.layer_norm, self.init, activation=self.activation
        )
        return ensemble(critic, self.n)

    def _critic_loss(self, q: QFn, acting: PolicyFn) -> LossFn:
        return bellman.critic_loss(
            q,
            acting,
            self.target,
            self.backup,
            self.discount ** max(self.chunk, self.returns),
            self.exploration,
        )


class fql(FlowConfig):
    """FQL, flow Q-learning (Park et al. 2025), over an ensemble of critics."""

    target: Annotated[
        TargetRule, "rule that reduces the target critics: the authors choose mean_q or min_q."
    ] = mean_q()
    alpha: Annotated[
        float, "weight of the squared distance to the flow's action; it scales with the rewards."
    ] = 10.0
    alpha_decay_steps: Annotated[
        int | None, "updates over which alpha falls linearly towards 0; None: constant."
    ] = None
    alpha_floor: Annotated[float, "fraction of alpha at which the fall stops."] = 0.1
    normalise: Annotated[
        bool, "divide the critics' value in the actor's loss by its mean size over the batch."
    ] = False
    actor_rate: Annotated[float, "Adam's learning rate of the policy."] = 3e-4

    def _check(self) -> None:
        super()._check()
        check_falling("alpha", self.alpha_decay_steps, self.alpha_floor)
        if self.alpha < 0:
            raise InputError(f"alpha is {self.alpha}; it must be 0 or more")

    def _actor_loss(self, q: QFn, net: Unbounded, velocity: VelocityFn, reduce: Reduce) -> LossFn:
        """alpha mean_{B, A} (mu(s, z) - flow(s, z))^2 - w mean_B reduce(Q(s, clip(mu(s, z)))).

        For the gradient, the flow's action and w are constants; w is 1, or 1 / mean_B |reduce(Q)|.
        """

        def loss(params, state, batch, key):
            noise_key, rule_key = jax.random.split(key)
            noise = jax.random.normal(noise_key, batch.action.shape)
            wanted = jax.lax.stop_gradient(
                integrate(velocity, state.params["flow"], batch.observation, noise, self.flow_steps)
            )
            action = net.apply(params, batch.observation, noise)
            distance = jnp.mean(jnp.square(action - wanted))
            clipped = jnp.clip(action, -1.0, 1.0)
            value = reduce(rule_key, q(state.params["critic"], batch.observation, clipped))
            gain, factor = jnp.mean(value), jnp.float32(1.0)
            if self.normalise:
                factor = jax.lax.stop_gradient(1.0 / jnp.mean(jnp.abs(value)))
            alpha = falling(self.alpha, state.step, self.alpha_decay_steps, self.alpha_floor)
            metrics = {"q_policy": gain, "bc": distance, "lambda": factor, "alpha": alpha}
            return alpha * distance - factor * gain, metrics

        return loss

    def build(self, spec: Spec) -> Algorithm:
        """See the base class.

        Raises:
          InputError: n, a width, the chunk or the number of Euler steps is below 1, or alpha is
            negative.
        """
        self._check()
        spec = chunked(spec, self.chunk)
        flow_net = actor_net = self._actor(spec.action_size)
        critic_net = self._critics()

        def acting(state, observation) -> Pushed:
            def mu(noise: Array) -> Array:
                return actor_net.apply(state.params["actor"], observation, noise)

            return Pushed(mu, (*observation.shape[:-1], spec.action_size))

        def evaluates(state, key, observation):
            return acting(state, observation).sample(key)[0]

        observation = jnp.zeros((1, spec.observation_size))
        action = jnp.zeros((1, spec.action_size))
        reduce = bellman.checked(self.actor_value)
        return Algorithm(
            nets={"flow": flow_net, "actor": actor_net, "critic": critic_net},
            inputs={
                "flow": (observation, action, jnp.zeros((1, 1))),
                "actor": (observation, action),
                "critic": (observation, action),
            },
            losses={
                "critic": self._critic_loss(critic_net.apply, acting),
                "flow": flow_loss(flow_net.apply),
                "actor": self._actor_loss(critic_net.apply, actor_net, flow_net.apply, reduce),
            },
            optimisers={
                "flow": optax.adam(self.flow_rate),
                "actor": optax.adam(self.actor_rate),
                "critic": optax.adam(self.critic_rate),
            },
            tracked=("critic",),
            tau=self.tau,
            **acting_by(acting),
            evaluates=evaluates,
            q=critic_net.apply,
            critics=self.n,
            exploration=self.exploration,
            simultaneous=self.simultaneous,
            chunk=chunk_of(self.chunk, self.returns, self.discount, self.whole_chunks),
        )
