"""Q-chunking and best-of-N (Li et al. 2025) with N critics: the best of many samples of a flow.

A flow clones the data's chunks of h actions. No other network learns to act: of several samples,
the one that the critics value most is taken, in the environment and in the Bellman target.
"""

from __future__ import annotations

from typing import Annotated

import jax.numpy as jnp
import optax

from enoto_jax.algorithms import bellman
from enoto_jax.algorithms.chunking import chunk_of, chunked
from enoto_jax.algorithms.fql import FlowConfig, flow_loss
from enoto_jax.core import Algorithm, acting_by
from enoto_jax.nets.distributions import BestOf, Pushed
from enoto_jax.nets.flow import integrate
from enoto_jax.targets import TargetRule, mean_q
from enoto_jax.types import Array, Key, Spec, check_positive


class qc(FlowConfig):
    """Q-chunking (Li et al. 2025): the best of K chunks from a flow; with `chunk=1`, BFN."""

    actor_value: Annotated[
        TargetRule, "rule that reduces the critics when the best sample is chosen."
    ] = mean_q()
    chunk: Annotated[
        int, "h, how many actions are chosen together and executed one after another."
    ] = 5
    candidates: Annotated[int, "K, samples of the flow; the best one is taken."] = 32

    def _check(self) -> None:
        super()._check()
        check_positive("candidates", self.candidates)

    def build(self, spec: Spec) -> Algorithm:
        """See the base class.

        Raises:
          InputError: n, a width, the chunk, the candidates or the Euler steps are below 1.
        """
        self._check()
        spec = chunked(spec, self.chunk)
        flow_net, critic_net = self._actor(spec.action_size), self._critics()
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

        def proposals(state, key, observation, k):
            return flow(state, observation).sample(key, (k,))[0]

        def evaluates(state, key, observation):
            return acting(state, observation).sample(key)[0]

        observation = jnp.zeros((1, spec.observation_size))
        action = jnp.zeros((1, spec.action_size))
        return Algorithm(
            nets={"flow": flow_net, "critic": critic_net},
            inputs={
                "flow": (observation, action, jnp.zeros((1, 1))),
                "critic": (observation, action),
            },
            losses={
                "critic": self._critic_loss(critic_net.apply, acting),
                "flow": flow_loss(flow_net.apply),
            },
            optimisers={
                "flow": optax.adam(self.flow_rate),
                "critic": optax.adam(self.critic_rate),
            },
            tracked=("critic",),
            tau=self.tau,
            **acting_by(acting),
            evaluates=evaluates,
            proposals=proposals,
            q=critic_net.apply,
            critics=self.n,
            exploration=self.exploration,
            simultaneous=self.simultaneous,
            chunk=chunk_of(self.chunk, self.returns, self.discount, self.whole_chunks),
        )
