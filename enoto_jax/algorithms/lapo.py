"""LAPO (Chen et al. 2022): a policy in the latent space of a model of the data's better actions.

A decoder turns latents into actions like the data's, an actor chooses the latent, and so no action
is far from the data. Actions are not bounded here: the paper's are standardised by the data.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from enoto_jax import targets
from enoto_jax.algorithms import losses
from enoto_jax.core import Algorithm
from enoto_jax.exploration import Exploration, gaussian
from enoto_jax.nets.ensembles import ensemble
from enoto_jax.nets.networks import CVAE, Critic, Deterministic, Value, check_sizes
from enoto_jax.types import Array, InputError, Key, Spec, TargetRule


def lapo(
    spec: Spec,
    *,
    n: int = 2,
    target: TargetRule | None = None,
    exploration: Exploration | None = None,
    actor_value: TargetRule | None = None,
    expectile: float = 0.9,
    kl_weight: float = 1.0,
    latent_limit: float = 2.0,
    latent_noise: float = 0.1,
    noise_clip: float = 0.2,
    value_range: tuple[float, float] | None = None,
    hidden: tuple[int, ...] = (256, 256, 256),
    actor_rate: float = 2e-4,
    critic_rate: float = 2e-4,
    value_rate: float = 2e-4,
    cvae_rate: float = 2e-4,
    discount: float = 0.99,
    tau: float = 0.005,
) -> Algorithm:
    """A latent policy z = limit tanh(f(s)), acting with decode(s, z), over N critics and V.

    With bars for targets and Q(s, z) for Q(s, decode_bar(s, z)), in this order:
    L_Q = sum_i mean w (Q_i(s, a) - y)^2, y = r + discount (1 - terminated) V(s2);
    L_V = mean (V(s) - clip(rule(Q_bar(s, actor_bar(s) + noise)), value_range))^2;
    L_CVAE = mean u (|a' - a|^2 + kl_weight KL(q(z | s, a) || N(0, 1))), a' reconstructed from a;
    L_actor = -mean actor_value(Q(s, actor(s))).
    u is `expectile` where r + discount (1 - terminated) rule(Q_bar(s2, actor_bar(s2))) > V(s), and
    1 - expectile elsewhere. w is the exploration's weight, of Q_bar(s2, actor_bar(s2)) as well,
    because V has no spread. Latents have 2 A numbers.

    Args:
      spec: sizes of observations and actions.
      n: N, the number of critics.
      target: rule that reduces the target critics, for V and for the advantage; min_q by default.
      exploration: how to act online and weigh transitions; gaussian(bound=None) by default.
      actor_value: rule that reduces the critics in the actor's loss; first_q by default.
      expectile: weight of an action that is better than V, in the CVAE's loss; 1 - expectile is
        that of the others.
      kl_weight: of the divergence in the CVAE's loss.
      latent_limit: latents of the policy lie in [-limit, limit].
      latent_noise: standard deviation of the noise on the latent, in V's target and in sampled
        actions (SUNRISE's candidates).
      noise_clip: bound of that noise.
      value_range: bounds of V's target, or None: least and largest reward / (1 - discount).
      hidden: widths of the hidden layers of all networks.
      actor_rate: Adam's learning rate of the latent policy.
      critic_rate: Adam's learning rate of the critics.
      value_rate: Adam's learning rate of V.
      cvae_rate: Adam's learning rate of encoder and decoder.
      discount: gamma.
      tau: rate of the targets' Polyak average (latent policy, CVAE, critics), per update.

    Raises:
      InputError: n or a width below 1, an expectile outside (0, 1), an empty value_range, or a
        target rule with a target for every critic: there is one V.
    """
    check_sizes(n, hidden)
    if not 0.0 < expectile < 1.0:
        raise InputError(f"lapo: expectile is {expectile}; it lies between 0 and 1")
    if value_range is not None and not value_range[0] < value_range[1]:
        raise InputError(f"lapo: value_range is {value_range}; give (low, high), low below high")
    hidden, latent_size = tuple(hidden), 2 * spec.action_size
    exploration = exploration or gaussian(bound=None)
    target, actor_value = target or targets.min_q(), actor_value or targets.first_q()
    actor_net, value_net = Deterministic(latent_size, hidden), Value(hidden)
    critic_net = ensemble(Critic(hidden), n)
    cvae_net = CVAE(spec.action_size, latent_size, hidden)
    q = critic_net.apply

    def latent_of(params, observation: Array) -> Array:
        return latent_limit * actor_net.apply(params, observation)

    def decode(state, observation: Array, latent: Array) -> Array:
        return cvae_net.apply(state.targets["cvae"], observation, latent, method="decode")

    def noise(key: Key, shape: tuple[int, ...]) -> Array:
        return jnp.clip(latent_noise * jax.random.normal(key, shape), -noise_clip, noise_clip)

    def target_q(state, observation: Array, key: Key | None = None) -> Array:
        """Target critics [N, B] of the target policy's action, with noise where a key is given."""
        latent = latent_of(state.targets["actor"], observation)
        if key is not None:
            latent = latent + noise(key, latent.shape)
        return q(state.targets["critic"], observation, decode(state, observation, latent))

    def reduced(key: Key, q: Array) -> Array:
        value = target(key, q)
        if value.shape != q.shape[1:]:
            raise InputError(
                "lapo: V has one target, and this rule gives every critic its own; choose another "
                "--target"
            )
        return value

    def critic_loss(params, state, batch, key, seen):
        del seen
        y = batch.reward + discount * (1.0 - batch.terminated) * value_net.apply(
            state.params["value"], batch.next_observation
        )
        # The bootstrap is V: the next critics serve the weight alone, and the advantage below.
        weight = exploration.td_weight(
            key,
            target_q(state, batch.next_observation),
            lambda fresh: target_q(state, batch.next_observation, fresh),
        )
        q_data = q(params, batch.observation, batch.action)
        return losses.temporal_difference(q_data, y, weight, batch)

    def value_loss(params, state, batch, key, seen):
        del seen
        noise_key, rule_key = jax.random.split(key)
        y = reduced(rule_key, target_q(state, batch.observation, noise_key))
        y = y if value_range is None else jnp.clip(y, *value_range)
        v = value_net.apply(params, batch.observation)
        return jnp.mean(jnp.square(v - y)), {"v": jnp.mean(v), "target": jnp.mean(y)}

    def cvae_loss(params, state, batch, key, seen):
        del seen
        noise_key, rule_key = jax.random.split(key)
        next_value = reduced(rule_key, target_q(state, batch.next_observation))
        y = batch.reward + discount * (1.0 - batch.terminated) * next_value
        advantage = y - value_net.apply(state.params["value"], batch.observation)
        weight = jnp.where(advantage > 0.0, expectile, 1.0 - expectile)
        epsilon = jax.random.normal(noise_key, (*advantage.shape, latent_size))
        again, mean, log_var = cvae_net.apply(params, batch.observation, batch.action, epsilon)
        distance = jnp.sum(jnp.square(again - batch.action), axis=-1)
        kl = -0.5 * jnp.sum(1.0 + log_var - mean**2 - jnp.exp(log_var), axis=-1)
        return jnp.mean(weight * (distance + kl_weight * kl)), {
            "reconstruction": jnp.mean(distance),
            "kl": jnp.mean(kl),
            "advantage": jnp.mean(advantage),
            "better": jnp.mean(advantage > 0.0),
        }

    def actor_loss(params, state, batch, key, seen):
        del seen
        action = decode(state, batch.observation, latent_of(params, batch.observation))
        value = actor_value(key, q(state.params["critic"], batch.observation, action))
        return -jnp.mean(value), {"q_policy": jnp.mean(value)}

    def act(state, key, observation, k):
        latent = latent_of(state.params["actor"], observation)
        latents = latent + noise(key, (k, latent_size))
        return decode(state, observation, jnp.clip(latents, -latent_limit, latent_limit))

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
        # The authors move critics and V together: critics first is the same, since their loss reads
        # V as it was and V's reads the target critics.
        losses={
            "critic": critic_loss,
            "value": value_loss,
            "cvae": cvae_loss,
            "actor": actor_loss,
        },
        optimisers={
            "actor": optax.adam(actor_rate),
            "critic": optax.adam(critic_rate),
            "value": optax.adam(value_rate),
            "cvae": optax.adam(cvae_rate),
        },
        tracked=("actor", "critic", "cvae"),
        tau=tau,
        act=act,
        mode=mode,
        q=q,
        critics=n,
        exploration=exploration,
    )
