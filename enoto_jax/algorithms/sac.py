"""Soft actor-critic with N critics: SAC (N = 2), SAC-N, and the online phase of ENOTO."""

from __future__ import annotations

from typing import Annotated

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from enoto_jax.algorithms import bellman
from enoto_jax.algorithms.bellman import Backup, CriticTerm, PolicyFn, QFn, Reduce, soft
from enoto_jax.core import Algorithm, AlgorithmConfig, acting_by, moments_of
from enoto_jax.exploration import Exploration, policy
from enoto_jax.nets import networks as nets
from enoto_jax.nets.distributions import TanhNormal
from enoto_jax.nets.ensembles import Noisy, SharedHead, SharedTrunk, ensemble
from enoto_jax.nets.initialisers import Init, torch_init
from enoto_jax.nets.networks import check_sizes, positive
from enoto_jax.targets import TargetRule, min_q
from enoto_jax.types import InputError, LossFn, Spec, check_choice, check_positive, plural

ORDERS = (
    "temperature,critic,actor",  # d3rlpy, hence ENOTO
    "temperature,actor,critic",  # CORL, EDAC-code
    "critic,actor,temperature",  # RLPD, WSRL
)


def actor_loss(q: QFn, policy: PolicyFn, reduce: Reduce) -> LossFn:
    """Batch mean of temperature log pi(a | s) - reduce(Q(s, a)), a reparameterised (SAC)."""

    def loss(params, state, batch, key):
        sample_key, rule_key = jax.random.split(key)
        chosen = policy(params, batch.observation)
        action, log_prob = chosen.sample(sample_key)
        value = reduce(rule_key, q(state.params["critic"], batch.observation, action))
        temperature = positive(state.params["temperature"])
        return jnp.mean(temperature * log_prob - value), {
            "q_policy": jnp.mean(value),
            "entropy": -jnp.mean(log_prob),
            "std": jnp.mean(jnp.exp(chosen.log_std)),
        }

    return loss


def temperature_loss(policy: PolicyFn, target_entropy: float, of_logarithm: bool) -> LossFn:
    """-x mean(log pi(a | s) + target_entropy), x = exp(value) (d3rlpy) or value (CORL, EDAC)."""

    def loss(params, state, batch, key):
        _, log_prob = policy(state.params["actor"], batch.observation).sample(key)
        gap = jax.lax.stop_gradient(jnp.mean(log_prob) + target_entropy)
        value = positive(params)
        return -(jnp.log(value) if of_logarithm else value) * gap, {"value": value}

    return loss


def with_dropout(loss: LossFn, of_critics: bool) -> LossFn:
    """Add dropout to all critics in a loss, targets included (DroQ); acting is without dropout.

    Args:
      loss: The loss of any network.
      of_critics: Whether the loss is that of the critics themselves.
    """

    def dropping(params, state, batch, key):
        own_key, slow_key, fixed_key, key = jax.random.split(key, 4)
        state = state.replace(
            params={**state.params, "critic": Noisy(state.params["critic"], fixed_key)},
            targets={**state.targets, "critic": Noisy(state.targets["critic"], slow_key)},
        )
        return loss(Noisy(params, own_key) if of_critics else params, state, batch, key)

    return dropping


class sac(AlgorithmConfig):
    """SAC (Haarnoja et al. 2018) over an ensemble: L_Q = sum_i mean_B w (Q_i - y)^2."""

    n: Annotated[int, "N, the number of critics."] = 2
    target: Annotated[TargetRule, "rule that reduces the target critics."] = min_q()
    exploration: Annotated[Exploration, "how to act online and weight transitions."] = policy()
    backup: Annotated[Backup, "value of the next state."] = soft()
    actor_value: Annotated[TargetRule, "rule that reduces the critics in the actor's loss."] = (
        min_q()
    )
    terms: Annotated[
        tuple[CriticTerm, ...], "additional losses on the critics, e.g. cql_penalty."
    ] = ()
    policies: Annotated[
        int,
        "number of Gaussians; the policy has their mixture's mean and variance. 1 is plain SAC.",
    ] = 1
    hidden: Annotated[tuple[int, ...], "widths of the hidden layers of actor and critics."] = (
        256,
        256,
        256,
    )
    critic_hidden: Annotated[
        tuple[int, ...] | None,
        "widths of the critics' hidden layers; None: as the actor's.",
    ] = None
    layer_norm: Annotated[bool, "LayerNorm before each ReLU of the critics."] = False
    shared_layers: Annotated[
        int, "how many of the first hidden layers all critics share; the rest are N heads."
    ] = 0
    shared_head: Annotated[bool, "all critics share their output layer (WSRL-code)."] = False
    learners: Annotated[
        int | None,
        "K, how many critics learn in an update, resampled for every update; the others need no "
        "backward pass. None: all N.",
    ] = None
    dropout: Annotated[
        float,
        "dropout rate of the critics in all losses, targets included (DroQ: 0.01 with layer_norm); "
        "0: none.",
    ] = 0.0
    actor_layer_norm: Annotated[bool, "LayerNorm before each ReLU of the actor."] = False
    actor_init: Annotated[Init, "how the actor starts."] = torch_init()
    critic_init: Annotated[Init, "how the critics start."] = torch_init()
    log_std_range: Annotated[
        tuple[float, float], "bounds of the policy's log standard deviation."
    ] = (-20.0, 2.0)
    actor_rate: Annotated[float, "Adam's learning rate of the actor."] = 3e-4
    critic_rate: Annotated[float, "Adam's learning rate of the critics."] = 3e-4
    temperature_rate: Annotated[float, "Adam's learning rate of the temperature's logarithm."] = (
        3e-4
    )
    initial_temperature: Annotated[float, "the entropy's weight at the start."] = 1.0
    temperature_of_logarithm: Annotated[
        bool, "loss on log(temperature) (CORL) instead of the temperature (d3rlpy)."
    ] = False
    target_entropy_per_action: Annotated[float, "target entropy divided by A."] = -1.0
    discount: Annotated[float, "gamma."] = 0.99
    tau: Annotated[float, "rate of the targets' Polyak average, per update."] = 0.005
    order: Annotated[
        str,
        "order of the networks' steps in an update: temperature,critic,actor (d3rlpy), "
        "temperature,actor,critic (CORL) or critic,actor,temperature (RLPD).",
    ] = "temperature,critic,actor"
    actor_delay: Annotated[
        int,
        "update actor and temperature once every `actor_delay` updates, in the last of them; if "
        "equal to the online phase's utd, once per environment step (RLPD, WSRL).",
    ] = 1

    coast: Annotated[
        bool,
        "in updates that skip actor and temperature, step their optimisers with gradients of 0 "
        "(WSRL-code).",
    ] = False

    def build(self, spec: Spec) -> Algorithm:
        """See the base class.

        Raises:
          InputError: n, a width, policies or actor_delay is below 1, the temperature is not above
            0, the order is unknown, or options of the critics cannot work.
        """
        check_choice("order", self.order, ORDERS)
        check_positive("actor_delay", self.actor_delay)
        if self.policies < 1 or not self.initial_temperature > 0.0:
            raise InputError(
                f"policies is {self.policies} and initial_temperature {self.initial_temperature}; "
                "give at least 1 policy, and a temperature above 0"
            )
        check_sizes(self.n, self.hidden)
        check_sizes(self.n, self.critic_hidden or self.hidden)
        hidden, critic_hidden = tuple(self.hidden), tuple(self.critic_hidden or self.hidden)
        actor: nn.Module = nets.TanhGaussian(
            spec.action_size,
            hidden,
            self.actor_layer_norm,
            self.actor_init,
            tuple(self.log_std_range),
        )
        if self.policies > 1:
            actor = nets.Mixture(ensemble(actor, self.policies))
        critic = self._critic(critic_hidden)
        q = critic.apply

        def policy_of(params, observation):
            return TanhNormal(*actor.apply(params, observation))

        def acting(state, observation):
            return policy_of(state.params["actor"], observation)

        entropy = self.target_entropy_per_action * spec.action_size
        losses_of = {
            "temperature": temperature_loss(policy_of, entropy, self.temperature_of_logarithm),
            "critic": bellman.critic_loss(
                q,
                acting,
                self.target,
                self.backup,
                self.discount,
                self.exploration,
                tuple(term.bind(q, policy_of, spec) for term in self.terms),
            ),
            "actor": actor_loss(q, policy_of, bellman.checked(self.actor_value)),
        }
        if self.dropout:
            for name in ("critic", "actor"):
                losses_of[name] = with_dropout(losses_of[name], name == "critic")
        observation = jnp.zeros((1, spec.observation_size))
        action = jnp.zeros((1, spec.action_size))
        temperature = nets.Scalar(float(jnp.log(self.initial_temperature)))
        return Algorithm(
            nets={"actor": actor, "critic": critic, "temperature": temperature},
            inputs={
                "actor": (observation,),
                "critic": (observation, action),
                "temperature": (),
            },
            losses={name: losses_of[name] for name in self.order.split(",")},
            optimisers={
                "actor": optax.adam(self.actor_rate),
                "critic": optax.adam(self.critic_rate),
                "temperature": optax.adam(self.temperature_rate),
            },
            tracked=("critic",),
            tau=self.tau,
            **acting_by(acting),
            q=q,
            moments=moments_of(acting),
            critics=self.n,
            exploration=self.exploration,
            delays={"actor": self.actor_delay, "temperature": self.actor_delay},
            coasting=("actor", "temperature") if self.coast else (),
            learners={} if self.learners in (None, self.n) else {"critic": self.learners},
        )

    def _critic(self, hidden: tuple[int, ...]) -> nn.Module | SharedTrunk | SharedHead:
        """Make N critics: separate, on a shared trunk, or with a shared head."""
        if not 0 <= self.shared_layers <= len(hidden):
            layers = plural(len(hidden), "hidden layer")
            raise InputError(f"shared_layers is {self.shared_layers}; the critics have {layers}")
        if not 0.0 <= self.dropout < 1.0:
            raise InputError(f"dropout is {self.dropout}; it must be at least 0 and below 1")
        if self.learners is not None and not 1 <= self.learners <= self.n:
            raise InputError(f"learners is {self.learners}; it must be 1 to n = {self.n}")
        options = (self.layer_norm, self.critic_init, self.dropout)
        if self.shared_head:
            if self.shared_layers or self.learners is not None:
                raise InputError(
                    "shared_head cannot be combined with shared_layers or learners; leave those out"
                )
            trunks = ensemble(nets.Features(hidden, *options), self.n)
            return SharedHead(trunks, nets.Critic((), *options))
        heads = ensemble(nets.Critic(hidden[self.shared_layers :], *options), self.n)
        if not self.shared_layers:
            return heads
        if self.learners is not None:
            raise InputError("learners needs critics without a shared trunk; set shared_layers=0")
        return SharedTrunk(nets.Features(hidden[: self.shared_layers], *options), heads)
