"""Q-chunking and best-of-N (Li et al. 2025) with N critics: the best of many samples of a flow.

A flow clones the data's chunks of h actions. Nothing else learns to act: of several samples the one
that the critics value most is taken, in the environment and in the Bellman target.
"""

from __future__ import annotations

from typing import Annotated

import jax.numpy as jnp
import optax

from enoto_jax.algorithms import bellman
from enoto_jax.algorithms.bellman import Backup
from enoto_jax.algorithms.chunking import check_chunk, chunk_of, chunked
from enoto_jax.algorithms.fql import flow_loss
from enoto_jax.core import Algorithm, AlgorithmConfig
from enoto_jax.exploration import Exploration, policy
from enoto_jax.nets.distributions import BestOf, Pushed
from enoto_jax.nets.ensembles import ensemble
from enoto_jax.nets.flow import NormLastCritic, Velocity, check_activation, integrate
from enoto_jax.nets.initialisers import Init, xavier_init
from enoto_jax.nets.networks import check_sizes
from enoto_jax.targets import TargetRule, mean_q
from enoto_jax.types import Array, InputError, Key, Spec


class qc(AlgorithmConfig):
    """Q-chunking: the best of K chunks of a flow; with `chunk=1` best-of-N, BFN."""

    n: Annotated[int, "N, the number of critics."] = 2
    target: Annotated[TargetRule, "rule that reduces the target critics."] = mean_q()
    exploration: Annotated[Exploration, "how to act online and weigh transitions."] = policy()
    actor_value: Annotated[
        TargetRule, "rule that reduces the critics where the best of the samples is chosen."
    ] = mean_q()
    backup: Annotated[Backup, "value of the next state."] = bellman.sampled()
    chunk: Annotated[
        int, "h, steps whose actions are chosen together and taken one after the other."
    ] = 5
    whole_chunks: Annotated[
        bool,
        "critics learn from chunks of h recorded steps alone, as in the authors' code; otherwise "
        "also from those in which the episode terminates sooner.",
    ] = False
    candidates: Annotated[int, "K, samples of the flow of which the best is taken."] = 32
    flow_steps: Annotated[int, "Euler steps from noise to the flow's action."] = 10
    hidden: Annotated[tuple[int, ...], "widths of the hidden layers of all networks."] = (
        512,
        512,
        512,
        512,
    )
    activation: Annotated[str, "of hidden layers, relu or gelu."] = "gelu"
    layer_norm: Annotated[bool, "LayerNorm after each activation of the critics."] = True
    actor_layer_norm: Annotated[bool, "the same in the flow."] = False
    init: Annotated[Init, "how all networks start."] = xavier_init()
    flow_rate: Annotated[float, "Adam's learning rate of the flow."] = 3e-4
    critic_rate: Annotated[float, "Adam's learning rate of the critics."] = 3e-4
    discount: Annotated[float, "gamma."] = 0.99
    tau: Annotated[float, "rate of the targets' Polyak average."] = 0.005

    def _check(self) -> None:
        check_sizes(self.n, self.hidden)
        check_chunk(self.chunk)
        check_activation(self.activation)
        for name in ("flow_steps", "candidates"):
            if (number := getattr(self, name)) < 1:
                raise InputError(f"{name} is {number}; it must be at least 1")

    def build(self, spec: Spec) -> Algorithm:
        """See the base class.

        Raises:
          InputError: n, a width, the chunk, the candidates or the Euler steps below 1.
        """
        self._check()
        spec, hidden = chunked(spec, self.chunk), tuple(self.hidden)
        flow_net = Velocity(
            spec.action_size, hidden, self.actor_layer_norm, self.init, activation=self.activation
        )
        critic_net = ensemble(
            NormLastCritic(hidden, self.layer_norm, self.init, activation=self.activation), self.n
        )
        reduce = bellman.checked(self.actor_value)

        def flow(state, observation) -> Pushed:
            def carried(noise: Array) -> Array:
                params = state.params["flow"]
                return integrate(flow_net.apply, params, observation, noise, self.flow_steps)

            return Pushed(carried, (*observation.shape[:-1], spec.action_size))

        def acting(state, observation) -> BestOf:
            def value(key: Key, actions: Array) -> Array:
                q = critic_net.apply(state.params["critic"], observation, actions)
                values = reduce(key, q.reshape(q.shape[0], -1))  # [B], or [N, B]
                return jnp.mean(values.reshape(-1, *q.shape[1:]), axis=0)

            return BestOf(flow(state, observation), value, self.candidates)

        def act(state, key, observation, k):
            return acting(state, observation).sample(key, (k,))[0]

        def proposals(state, key, observation, k):
            return flow(state, observation).sample(key, (k,))[0]

        def mode(state, observation):
            return acting(state, observation).mode()

        def evaluates(state, key, observation):
            return acting(state, observation).sample(key)[0]

        observation = jnp.zeros((1, spec.observation_size))
        action = jnp.zeros((1, spec.action_size))
        critic_loss = bellman.critic_loss(
            critic_net.apply,
            acting,
            self.target,
            self.backup,
            self.discount**self.chunk,
            self.exploration,
        )
        return Algorithm(
            nets={"flow": flow_net, "critic": critic_net},
            inputs={
                "flow": (observation, action, jnp.zeros((1, 1))),
                "critic": (observation, action),
            },
            losses={"critic": critic_loss, "flow": flow_loss(flow_net.apply)},
            optimisers={
                "flow": optax.adam(self.flow_rate),
                "critic": optax.adam(self.critic_rate),
            },
            tracked=("critic",),
            tau=self.tau,
            act=act,
            mode=mode,
            evaluates=evaluates,
            proposals=proposals,
            q=critic_net.apply,
            critics=self.n,
            exploration=self.exploration,
            chunk=chunk_of(self.chunk, self.discount, self.whole_chunks),
        )
