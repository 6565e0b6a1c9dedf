"""LAPO (Chen et al. 2022): a policy in the latent space of a model of the data's better actions.

A decoder turns latents into actions like the data's, and an actor chooses the latent, so no action
is far from the data. Actions are not bounded here: the paper standardises them by the data.
"""

from __future__ import annotations

from typing import Annotated

import jax
import jax.numpy as jnp
import optax

from enoto_jax.algorithms import bellman
from enoto_jax.core import Algorithm, AlgorithmConfig
from enoto_jax.exploration import Exploration, gaussian
from enoto_jax.nets.cvae import CVAE
from enoto_jax.nets.ensembles import ensemble
from enoto_jax.nets.networks import Critic, Deterministic, Value, check_sizes
from enoto_jax.targets import TargetRule, first_q, min_q
from enoto_jax.types import Array, InputError, Key, Spec


class lapo(AlgorithmConfig):
    """A latent policy z = limit tanh(f(s)), acting with decode(s, z), over N critics and V.

    With bars for targets and Q(s, z) for Q(s, decode_bar(s, z)), in this order:
    L_Q = sum_i mean w (Q_i(s, a) - y)^2, y = r + discount (1 - terminated) V(s2);
    L_V = mean (V(s) - clip(rule(Q_bar(s, actor_bar(s) + noise)), value_range))^2;
    L_CVAE = mean u (|a' - a|^2 + kl_weight KL(q(z | s, a) || N(0, 1))), a' reconstructed from a;
    L_actor = -mean actor_value(Q(s, actor(s))).
    u is `expectile` if r + discount (1 - terminated) rule(Q_bar(s2, actor_bar(s2))) > V(s), else 1
    - expectile. w is the exploration's weight, also of Q_bar(s2, actor_bar(s2)), because V has no
    spread. Latents have 2 A entries.
    """

    n: Annotated[int, "N, the number of critics."] = 2
    target: Annotated[
        TargetRule, "rule that reduces the target critics, for V and for the advantage."
    ] = min_q()
    exploration: Annotated[Exploration, "how to act online and weight transitions."] = gaussian(
        bound=None
    )
    actor_value: Annotated[TargetRule, "rule that reduces the critics in the actor's loss."] = (
        first_q()
    )
    expectile: Annotated[
        float,
        "weight of an action that is better than V, in the CVAE's loss; 1 - expectile is that of "
        "the others.",
    ] = 0.9
    kl_weight: Annotated[float, "weight of the divergence in the CVAE's loss."] = 1.0
    latent_limit: Annotated[float, "latents of the policy lie in [-limit, limit]."] = 2.0
    latent_noise: Annotated[
        float,
        "standard deviation of the noise on the latent, in V's target and in sampled actions "
        "(SUNRISE's candidates).",
    ] = 0.1
    noise_clip: Annotated[float, "bound of the noise on the latent."] = 0.2
    value_range: Annotated[
        tuple[float, float] | None,
        "bounds of V's target; None: unbounded. The authors' are the data's least and largest "
        "reward / (1 - discount).",
    ] = None
    hidden: Annotated[tuple[int, ...], "widths of the hidden layers of all networks."] = (
        256,
        256,
        256,
    )
    actor_rate: Annotated[float, "Adam's learning rate of the latent policy."] = 2e-4
    critic_rate: Annotated[float, "Adam's learning rate of the critics."] = 2e-4
    value_rate: Annotated[float, "Adam's learning rate of V."] = 2e-4
    cvae_rate: Annotated[float, "Adam's learning rate of encoder and decoder."] = 2e-4
    discount: Annotated[float, "gamma."] = 0.99
    tau: Annotated[
        float, "rate of the targets' Polyak average (latent policy, CVAE, critics), per update."
    ] = 0.005

    def build(self, spec: Spec) -> Algorithm:
        """See the base class.

        Raises:
          InputError: n or a width is below 1, the expectile is outside (0, 1), or value_range is
            empty. (A target rule with a target for every critic is refused by `building.build`, as
            there is only one V.)
        """
        check_sizes(self.n, self.hidden)
        if not 0.0 < self.expectile < 1.0:
            raise InputError(f"lapo: expectile is {self.expectile}; it must lie between 0 and 1")
        if self.value_range is not None and not self.value_range[0] < self.value_range[1]:
            raise InputError(
                f"lapo: value_range is {self.value_range}; give (low, high) with low < high"
            )
        hidden, latent_size = tuple(self.hidden), 2 * spec.action_size
        actor_net, value_net = Deterministic(latent_size, hidden), Value(hidden)
        critic_net = ensemble(Critic(hidden), self.n)
        cvae_net = CVAE(spec.action_size, latent_size, hidden)
        q, actor_value = critic_net.apply, bellman.checked(self.actor_value)

        def latent_of(params, observation: Array) -> Array:
            return self.latent_limit * actor_net.apply(params, observation)

        def decode(state, observation: Array, latent: Array) -> Array:
            return cvae_net.apply(state.targets["cvae"], observation, latent, method="decode")

        def noise(key: Key, shape: tuple[int, ...]) -> Array:
            return jnp.clip(
                self.latent_noise * jax.random.normal(key, shape), -self.noise_clip, self.noise_clip
            )

        def target_q(state, observation: Array, key: Key | None = None) -> Array:
            """Return target critics [N, B] at the target policy's action; a key adds noise."""
            latent = latent_of(state.targets["actor"], observation)
            if key is not None:
                latent = latent + noise(key, latent.shape)
            return q(state.targets["critic"], observation, decode(state, observation, latent))

        def reduced(key: Key, q: Array) -> Array:
            value = self.target(key, q)
            if value.shape != q.shape[1:]:
                raise InputError(
                    "lapo: V needs a single target, but this rule returns one per critic; choose "
                    "another --target"
                )
            return value

        def critic_loss(params, state, batch, key):
            value = value_net.apply(state.params["value"], batch.next_observation)
            y = bellman.target(batch, self.discount, value)
            # The bootstrap is V: the next critics are only for the weight, and for the advantage
            # below.
            weight = self.exploration.td_weight(
                key,
                target_q(state, batch.next_observation),
                lambda fresh: target_q(state, batch.next_observation, fresh),
            )
            q_data = q(params, batch.observation, batch.action)
            return bellman.temporal_difference(q_data, y, weight, batch)

        def value_loss(params, state, batch, key):
            noise_key, rule_key = jax.random.split(key)
            y = reduced(rule_key, target_q(state, batch.observation, noise_key))
            y = y if self.value_range is None else jnp.clip(y, *self.value_range)
            v = value_net.apply(params, batch.observation)
            return jnp.mean(jnp.square(v - y)), {"v": jnp.mean(v), "target": jnp.mean(y)}

        def cvae_loss(params, state, batch, key):
            noise_key, rule_key = jax.random.split(key)
            next_value = reduced(rule_key, target_q(state, batch.next_observation))
            y = bellman.target(batch, self.discount, next_value)
            advantage = y - value_net.apply(state.params["value"], batch.observation)
            weight = jnp.where(advantage > 0.0, self.expectile, 1.0 - self.expectile)
            epsilon = jax.random.normal(noise_key, (*advantage.shape, latent_size))
            again, mean, log_var = cvae_net.apply(params, batch.observation, batch.action, epsilon)
            distance = jnp.sum(jnp.square(again - batch.action), axis=-1)
            kl = -0.5 * jnp.sum(1.0 + log_var - mean**2 - jnp.exp(log_var), axis=-1)
            return jnp.mean(weight * (distance + self.kl_weight * kl)), {
                "reconstruction": jnp.mean(distance),
                "kl": jnp.mean(kl),
                "advantage": jnp.mean(advantage),
                "better": jnp.mean(advantage > 0.0),
            }

        def actor_loss(params, state, batch, key):
            action = decode(state, batch.observation, latent_of(params, batch.observation))
            value = actor_value(key, q(state.params["critic"], batch.observation, action))
            return -jnp.mean(value), {"q_policy": jnp.mean(value)}

        def act(state, key, observation, k):
            latent = latent_of(state.params["actor"], observation)
            latents = latent + noise(key, (k, latent_size))
            return decode(
                state, observation, jnp.clip(latents, -self.latent_limit, self.latent_limit)
            )

        def mode(state, observation):
            return decode(state, observation, latent_of(state.params["actor"], observation))

        observation = jnp.zeros((1, spec.observation_size))
        action, latent = jnp.zeros((1, spec.action_size)), jnp.zeros((1, latent_size))
        return Algorithm(
            nets={"actor": actor_net, "critic": critic_net, "value": value_net, "cvae": cvae_net},
            inputs={
                "actor": (observation,),
                "critic": (observation, action),
                "value": (observation,),
                "cvae": (observation, action, latent),
            },
            # The authors update critics and V together. Critics first is the same, because their
            # loss reads the old V, and V's loss reads the target critics.
            losses={
                "critic": critic_loss,
                "value": value_loss,
                "cvae": cvae_loss,
                "actor": actor_loss,
            },
            optimisers={
                "actor": optax.adam(self.actor_rate),
                "critic": optax.adam(self.critic_rate),
                "value": optax.adam(self.value_rate),
                "cvae": optax.adam(self.cvae_rate),
            },
            tracked=("actor", "critic", "cvae"),
            tau=self.tau,
            act=act,
            mode=mode,
            q=q,
            critics=self.n,
            exploration=self.exploration,
        )
