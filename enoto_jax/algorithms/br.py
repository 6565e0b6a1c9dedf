"""The online phase of balanced replay with a pessimistic Q-ensemble (Lee et al. 2021, Off2OnRL).

It is SAC with a mixture policy, with one group of critics per offline agent, and with a density
ratio that measures how much a transition resembles the online ones: its priority.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated

import jax.numpy as jnp
import optax
from flax import linen as nn

from enoto_jax.algorithms.bellman import QFn
from enoto_jax.algorithms.sac import sac
from enoto_jax.core import Algorithm
from enoto_jax.nets.initialisers import rlkit_init
from enoto_jax.nets.networks import Critic
from enoto_jax.targets import TargetRule, independent, mean_of_mins
from enoto_jax.types import LossFn, Spec

RATIO = "ratio"


def _ratio_loss(ratio: QFn) -> LossFn:
    """mean_B[-log(2 / (w_off + 1) + 1e-10) - log(2 w_on / (w_on + 1) + 1e-10)].

    It is smallest at w = density online / density offline (the Jensen-Shannon bound of BR).
    """

    def loss(params, state, batch, key):
        old, new = batch.extras["offline"], batch.extras["online"]
        w_old = ratio(params, old.observation, old.action)
        w_new = ratio(params, new.observation, new.action)
        f_old = -jnp.log(2.0 / (w_old + 1.0) + 1e-10)
        f_new = -jnp.log(2.0 * w_new / (w_new + 1.0) + 1e-10)
        return jnp.mean(f_old + f_new), {"offline": jnp.mean(w_old), "online": jnp.mean(w_new)}

    return loss


class br(sac):
    """SAC with a mixture policy, a target for each group of critics, and a density ratio.

    The networks are updated in the chosen order, the ratio last.
    """

    policies: Annotated[int, "offline agents that the policy and the critics come from."] = 5
    n: Annotated[int, "critics per agent; policies * n in all."] = 2
    target: Annotated[TargetRule, "rule that reduces the target critics."] = independent(group=2)
    actor_value: Annotated[TargetRule, "rule that reduces the critics in the actor's loss."] = (
        mean_of_mins(group=2)
    )
    hidden: Annotated[tuple[int, ...], "widths of the hidden layers of all networks."] = (256, 256)
    temperature_of_logarithm: Annotated[
        bool, "loss on log(temperature) instead of the temperature."
    ] = True
    order: Annotated[str, "order of the networks' steps in an update."] = "temperature,actor,critic"
    ratio_rate: Annotated[float, "Adam's learning rate of the density ratio."] = 3e-4
    ratio_temperature: Annotated[
        float, "T; priorities are w^(1 / T), divided by their mean over the data set."
    ] = 5.0

    def build(self, spec: Spec) -> Algorithm:
        base = sac.build(dataclasses.replace(self, n=self.policies * self.n), spec)
        net = Critic(tuple(self.hidden), start=rlkit_init(head_bias=1.0))

        def ratio(params, observation, action):
            return nn.relu(net.apply(params, observation, action))

        def priority(state, batch):
            old = batch.extras["offline"]
            power = 1.0 / self.ratio_temperature
            usual = jnp.mean(ratio(state.params[RATIO], old.observation, old.action) ** power)
            own = ratio(state.params[RATIO], batch.observation, batch.action) ** power
            return jnp.clip(own / (usual + 1e-10), 1e-3, 1e3)

        return base._replace(
            nets={**base.nets, RATIO: net},
            inputs={**base.inputs, RATIO: base.inputs["critic"]},
            losses={**base.losses, RATIO: _ratio_loss(ratio)},
            optimisers={**base.optimisers, RATIO: optax.adam(self.ratio_rate)},
            priority=priority,
        )
